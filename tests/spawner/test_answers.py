"""What Kubernetes' API says no with, as it wrote it (1.34)."""

import json

import pytest

from af_hub.session.options import Reason
from af_hub.spawning.answers import read_answer


def status(code: int, message: str) -> str:
    return json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})


@pytest.mark.parametrize(
    "code, body, reason, words",
    [
        pytest.param(
            403,
            status(
                403,
                'pods "jupyter-ada" is forbidden: exceeded quota: sessions, requested: requests.cpu=1020m, used: requests.cpu=3060m, '
                "limited: requests.cpu=4",
            ),
            Reason.NO_ROOM,
            "may have 4 cores, 3060m are in use, and yours wants 1020m (quota sessions)",
            id="quota",
        ),
        pytest.param(
            403,
            status(
                403,
                'pods "jupyter-ada" is forbidden: exceeded quota: q, requested: pods=1,requests.memory=2Gi, used: pods=8,'
                "requests.memory=16Gi, limited: pods=8,requests.memory=16Gi",
            ),
            Reason.NO_ROOM,
            "may have 8 sessions, 8 are in use",
            id="quota of several things",
        ),
        pytest.param(
            403,
            status(403, 'pods "x" is forbidden: failed quota: q: must specify limits.cpu for: extra'),
            Reason.FACILITY,
            "limits.cpu for: extra",
            id="quota wants limits",
        ),
        pytest.param(
            403,
            status(
                403,
                'pods "jupyter-ada" is forbidden: violates PodSecurity "restricted:latest": restricted volume types (volume "cvmfs" uses '
                'restricted volume type "hostPath")',
            ),
            Reason.FACILITY,
            'volume "cvmfs"',
            id="Pod Security",
        ),
        pytest.param(
            403,
            status(403, 'pods is forbidden: User "system:serviceaccount:af-hub:hub" cannot create resource "pods"'),
            Reason.FACILITY,
            "may not start your session in the cluster",
            id="Role",
        ),
        pytest.param(401, "Unauthorized", Reason.FACILITY, "Unauthorized", id="token of the service account"),
        pytest.param(
            404, status(404, 'namespaces "s" not found'), Reason.FACILITY, 'namespaces "s" not found', id="namespace"
        ),
        pytest.param(422, status(422, "Pod is invalid: spec.x"), Reason.FACILITY, "Pod is invalid", id="invalid"),
        pytest.param(500, "etcdserver: request timed out", Reason.CLUSTER, "does not answer now", id="etcd"),
        pytest.param(429, "", Reason.CLUSTER, "does not answer now", id="too busy"),
    ],
)
def test_a_refusal_of_the_api_is_a_sentence(code: int, body: str, reason: Reason, words: str) -> None:
    ended = read_answer(code, body, "start your session")
    assert (ended.reason, words in ended.sentence) == (reason, True), ended.sentence
