"""What happens to clusters while sessions start and run: each time the right state, a sentence, and nothing left over."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hub_alone import NAMESPACE, Analyst

from af_hub.testing.hub import CONFIG
from af_hub.testing.kube_cluster import KubeCluster
from af_hub.testing.process import comes_true

pytestmark = [pytest.mark.kube, pytest.mark.more, pytest.mark.timeout(300, func_only=True)]

CHOICE = {"image": "python-analysis", "size": "small"}
AWAY = "cannot be seen now"
# How long the API server is away: so short that it costs little, and as long as an upgrade of it.
OUTAGES = [pytest.param(10, id="moment"), pytest.param(60, id="minute", marks=pytest.mark.long)]


def first_trouble(look: Callable[[], str], seconds: float) -> str:
    """The first that is wrong in this time; empty when nothing was."""
    found: list[str] = []

    def wrong() -> bool:
        found[:] = [look()]
        return bool(found[0])

    return found[0] if comes_true(wrong, seconds, pause=0.5) else ""


def lab_answers(analyst: Analyst, server: str = "") -> bool:
    where = f"{analyst.username}/{server}" if server else analyst.username
    status = analyst.browser.get(f"/user/{where}/api/status", timeout=20).status_code
    # The server knows its owner by the cookie of a visit.
    return status == 200 or (status == 403 and visit(analyst, where))


def visit(analyst: Analyst, where: str) -> bool:
    return analyst.browser.get(f"/user/{where}/lab", timeout=20).status_code == 200


def nothing_is_left(analyst: Analyst) -> bool:
    return comes_true(lambda: not analyst.names("pods") and not analyst.names("secrets"), 90, pause=0.3)


def identity(analyst: Analyst, server: str = "") -> tuple[str, int]:
    """Which pod it is, and how often something in it began anew."""
    name = f"jupyter-{analyst.username}" + (f"--{server}" if server else "")
    pod = analyst.get("pod", name)
    status = pod["status"]
    starts = (*status["containerStatuses"], *status["initContainerStatuses"])
    return pod["metadata"]["uid"], sum(one["restartCount"] for one in starts)


@pytest.mark.parametrize("seconds", OUTAGES)
def test_the_api_is_away_during_a_spawn(analyst: Analyst, kube: KubeCluster, seconds: float) -> None:
    analyst.start("kept", **CHOICE)
    before = identity(analyst, "kept")
    assert analyst.ask(**CHOICE).status_code in (201, 202)
    assert comes_true(lambda: len(analyst.names("pods")) == 2, 30, pause=0.1)

    def trouble() -> str:
        if set(servers := analyst.servers()) != {"", "kept"}:
            return f"the hub knows of {servers}"
        return "" if lab_answers(analyst, "kept") else "the session does not answer"

    kube.stop_apiserver()
    try:
        assert not first_trouble(trouble, seconds)
    finally:
        kube.start_apiserver()
    assert analyst.follow()[-1].get("ready"), "it starts all the same"
    assert lab_answers(analyst) and lab_answers(analyst, "kept")
    assert identity(analyst, "kept") == before
    for server in ("", "kept"):
        analyst.stop(server)
    assert nothing_is_left(analyst)


def test_kubelets_begin_anew_under_a_session(analyst: Analyst, kube: KubeCluster) -> None:
    analyst.start(**CHOICE)
    before = identity(analyst)
    for node in kube.nodes:
        kube.restart_kubelet(node)
    assert identity(analyst) == before and lab_answers(analyst)
    assert analyst.servers()[""]["ready"]


def test_a_node_is_emptied(analyst: Analyst, kube: KubeCluster) -> None:
    analyst.start(**CHOICE)
    node = analyst.get("pod", f"jupyter-{analyst.username}")["spec"]["nodeName"]
    kube.drain(node)
    try:
        assert comes_true(lambda: not analyst.servers(), 60, pause=0.3), "the hub sees that it is over"
        page = f"/user/{analyst.username}/lab"
        assert comes_true(lambda: "taken from its node" in analyst.browser.get(page).text, 20, pause=0.3), "it says why"
        assert nothing_is_left(analyst)
        analyst.start(**CHOICE)
        assert analyst.get("pod", f"jupyter-{analyst.username}")["spec"]["nodeName"] != node
    finally:
        kube.uncordon(node)


def test_the_hub_is_killed_during_a_spawn(analyst: Analyst) -> None:
    assert analyst.ask(**CHOICE).status_code in (201, 202)
    assert comes_true(lambda: bool(analyst.names("secrets")), 30, pause=0.1)
    analyst.hub.restart_hub(killed=True)
    assert comes_true(lambda: analyst.servers().get("", {}).get("ready", False), 90, pause=0.3), "it is adopted"
    assert lab_answers(analyst)
    analyst.stop()
    assert nothing_is_left(analyst)


def test_no_secret_can_be_made(analyst: Analyst, kube: KubeCluster) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-secrets"},
        "spec": {"hard": {"count/secrets": "0"}},
    }
    kube.kubectl("create", "-n", NAMESPACE, "-f", "-", text=json.dumps(quota))
    try:
        assert comes_true(lambda: "hard" in analyst.get("resourcequota", "no-secrets").get("status", {}), 30, pause=0.3)
        assert "There is no room for your session now" in analyst.refused(**CHOICE)
        assert nothing_is_left(analyst)
    finally:
        kube.kubectl("delete", "resourcequota", "no-secrets", "-n", NAMESPACE)


def test_storage_does_not_come(analyst: Analyst, kube: KubeCluster, pod_hub: Any) -> None:
    person = Analyst(pod_hub, kube, "cms-colleague")
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"home-{person.username}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "nobody-makes-it",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    kube.kubectl("create", "-n", NAMESPACE, "-f", "-", text=json.dumps(claim))
    try:
        assert person.ask(**CHOICE).status_code in (201, 202)
        path = f"/users/{person.username}/server/progress"
        with person.api.stream("GET", path, timeout=60) as lines:
            assert any("its storage is not there yet" in line for line in lines.iter_lines())
        person.stop()
        assert nothing_is_left(person)
    finally:
        kube.kubectl("delete", "pvc", f"home-{person.username}", "-n", NAMESPACE)


def test_the_preview_is_what_runs(analyst: Analyst, kube: KubeCluster) -> None:
    """``af-hub session --diff`` finds nothing at the pod that the hub made, and what an administrator changed since."""
    analyst.start(**CHOICE)
    command = [sys.executable, "-m", "af_hub.cli", "session", "--user", analyst.username, "--diff"]
    environ = {
        **os.environ,
        **(analyst.hub.hub.env or {}),
        "KUBECONFIG": str(kube.kubeconfig),
        "AF_HUB_CONFIG": str(CONFIG),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert (done.returncode, done.stdout) == (0, "It runs as it would be made.\n"), done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(900, func_only=True)
def test_thirty_at_once(analyst: Analyst, kube: KubeCluster, pod_hub: Any) -> None:
    """More than the two nodes have room for: each one is ready, or says why it is not."""
    people = [analyst, Analyst(pod_hub, kube, "cms-colleague")]
    wanted = [(person, f"s{number}") for number in range(15) for person in people]
    for person, name in wanted:
        assert person.ask(name, **CHOICE).status_code in (201, 202)
    ends = [person.follow(name, timeout=400)[-1] for person, name in wanted]
    ready = [bool(end.get("ready")) for end in ends]
    print(f"{sum(ready)} of {len(ends)} sessions started", file=sys.stderr)
    assert sum(ready) >= len(ends) / 2
    assert not [end for end in ends if not end.get("ready") and "too little free memory" not in end["message"]]
    running = {(person.username, name) for person in people for name in person.servers()}
    assert running == {(person.username, name) for (person, name), up in zip(wanted, ready, strict=True) if up}
    with ThreadPoolExecutor(len(running)) as at_once:
        stops = [at_once.submit(person.stop, name) for person in people for name in person.servers()]
    for stop in stops:
        stop.result()
    assert all(nothing_is_left(person) for person in people)
