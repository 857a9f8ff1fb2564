import json

import httpx
import pytest

from af_hub.testing.iam import in_thread
from tests.bench.busy_kube import SAID, BusyKube, statuses

CONTAINER = {"name": "notebook", "image": "af-hub.test/lab:1"}
POD = {
    "metadata": {"name": "jupyter-ada", "labels": {"component": "singleuser-server"}, "annotations": {}},
    "spec": {"containers": [CONTAINER], "initContainers": [{"name": "agent", "image": "af-hub.test/agent:1"}]},
}


@pytest.fixture
def kube():
    with in_thread(BusyKube()) as running:
        yield running


def watched(kube, kind):
    headers = {"Authorization": f"Bearer {kube.token}"}
    params = {"watch": "true", "resourceVersion": "0", "timeoutSeconds": "0.2"}
    answer = httpx.get(f"{kube.url}/api/v1/namespaces/sessions/{kind}", params=params, headers=headers)
    return [json.loads(line) for line in answer.text.splitlines()]


def test_pods_come_up_step_by_step_and_go_again(kube):
    headers = {"Authorization": f"Bearer {kube.token}"}
    httpx.post(f"{kube.url}/api/v1/namespaces/sessions/pods", json=POD, headers=headers).raise_for_status()
    kube.let_start(2, 0.2)
    said = [one for one in watched(kube, "pods") if one["object"]["metadata"]["name"] == "jupyter-somebody-1"]
    assert [one["type"] for one in said] == ["ADDED"] + 10 * ["MODIFIED"] + ["DELETED"]
    assert said[10]["object"]["status"]["conditions"][-1] == {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    added = [one for one in watched(kube, "events") if one["type"] == "ADDED"]
    assert len([one for one in added if "somebody-1" in one["object"]["metadata"]["name"]]) == len(SAID) == 10
    assert len(kube.objects("pods")) == 1


def test_a_status_for_each_thing_that_is_said():
    assert len(list(statuses(POD))) == len(SAID)
