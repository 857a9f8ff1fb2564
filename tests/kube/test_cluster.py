"""The Kubernetes that tests start is a real one, and bears what tests do to it."""

import json

import pytest
from ordinary_pods import pod

from af_hub.testing.kube_build import KUBERNETES
from af_hub.testing.kube_cluster import CommandFailed
from af_hub.testing.process import comes_true

pytestmark = pytest.mark.kube


def test_nodes_and_version(kube):
    nodes = json.loads(kube.kubectl("get", "nodes", "-o", "json"))["items"]
    assert [node["metadata"]["name"] for node in nodes] == kube.nodes == ["node1", "node2"]
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {f"v{KUBERNETES}"}
    assert kube.helm("list", "--all-namespaces", "--short") == ""


def test_a_restricted_namespace_refuses_root(kube, restricted):
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        kube.kubectl("run", "root", "-n", restricted, "--image=af-hub.test/debian:1")


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_an_image_of_the_registry_runs_and_names_resolve(kube, said, node):
    names = said(
        kube.push("debian"),
        "getent",
        "hosts",
        "kube-dns.kube-system.svc.cluster.local",
        "kubernetes.default",
        nodeName=node,
    )
    assert {tuple(line.split()) for line in names.splitlines()} == {
        ("10.96.0.10", "kube-dns.kube-system.svc.cluster.local"),
        ("10.96.0.1", "kubernetes.default.svc.cluster.local"),
    }


def test_a_name_outside_is_unknown_at_once(kube, said):
    asked = 'getent hosts example.org; echo "$? after $SECONDS s"'
    assert said(kube.push("debian"), "bash", "-c", asked) in ("2 after 0 s\n", "2 after 1 s\n")


def test_the_world_is_out_of_reach(kube, said):
    dialled = "echo > /dev/tcp/192.0.2.1/443"
    assert "Network is unreachable" in said(kube.push("debian"), "bash", "-c", dialled)


@pytest.fixture
def sleeper(kube, restricted):
    """A pod that runs; its start and its restarts, as the cluster sees them."""
    kube.kubectl(
        "create", "-n", restricted, "-f", "-", text=json.dumps(pod("sleeper", kube.push("debian"), "sleep", "600"))
    )
    kube.kubectl("wait", "-n", restricted, "pod/sleeper", "--for=condition=Ready", "--timeout=60s")

    def seen() -> tuple[str, int, str]:
        status = kube.get(f"/api/v1/namespaces/{restricted}/pods/sleeper")["status"]
        container = status["containerStatuses"][0]
        return status["phase"], container["restartCount"], container["containerID"]

    return seen


def test_commands_reach_a_pod(kube, restricted, sleeper):
    assert kube.kubectl("exec", "-n", restricted, "sleeper", "--", "id", "-u") == "1000\n"


def test_pods_outlive_the_api_server(kube, restricted, sleeper):
    before = sleeper()
    kube.stop_apiserver()
    assert kube.get("/readyz") is None
    with pytest.raises(CommandFailed):
        kube.kubectl("get", "pods", timeout=5)
    kube.start_apiserver()
    kube.wait_for_nodes()
    assert sleeper() == before


def test_pods_outlive_a_kubelet(kube, restricted, sleeper):
    before = sleeper()
    for node in kube.nodes:
        kube.restart_kubelet(node)
    assert kube.kubectl("exec", "-n", restricted, "sleeper", "--", "echo", "here") == "here\n"
    assert sleeper() == before


def test_a_drained_node_is_left(kube, restricted):
    template = pod("web", kube.push("debian"), "sleep", "600")
    del template["spec"]["restartPolicy"]
    labels = {"app": "web"}
    kube.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": restricted},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
            },
        }
    )
    kube.kubectl("rollout", "status", "-n", restricted, "deployment/web", "--timeout=60s")

    def places() -> set[str]:
        pods = kube.get(f"/api/v1/namespaces/{restricted}/pods")["items"]
        return {one["spec"].get("nodeName", "") for one in pods if "deletionTimestamp" not in one["metadata"]}

    try:
        kube.drain("node2")
        kube.kubectl("rollout", "status", "-n", restricted, "deployment/web", "--timeout=60s")
        assert places() == {"node1"}
    finally:
        kube.uncordon("node2")
    assert comes_true(lambda: kube.control.api.ready_nodes() == 2, 30)


def test_a_changed_image_is_taken_anew(kube, said):
    """Under the same name, which nodes have already."""
    for word in ("old", "new"):
        image = kube.build("test-changed", "debian", f"RUN echo {word} > /word")
        assert said(image, "cat", "/word", name=word, nodeName="node1") == f"{word}\n"
