"""What is decided before a Kubernetes of the tests starts: files, names, places of cgroups."""

import json
from pathlib import Path

import pytest

from af_hub.testing.kube_build import kubernetes_module, main, staging_modules
from af_hub.testing.kube_cgroups import Hierarchy, read_hierarchies
from af_hub.testing.kube_cluster import take_store
from af_hub.testing.kube_control import is_ready, people
from af_hub.testing.kube_images import build_arguments, declared, locked_version, names, network_options, reference
from af_hub.testing.kube_node import NodePlan, kubelet_config, mirror

UPSTREAM = """\
module k8s.io/kubernetes

go 1.24.0

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
)

require (
	k8s.io/api v0.0.0
	k8s.io/klog/v2 v2.130.1
)
"""


def test_kubernetes_compiles_as_somebody_s_requirement():
    assert staging_modules(UPSTREAM) == ["k8s.io/api", "k8s.io/kubelet"]
    text = kubernetes_module("1.34.4", UPSTREAM)
    assert "require k8s.io/kubernetes v1.34.4" in text and "go 1.24.0" in text
    assert "k8s.io/kubelet => k8s.io/kubelet v0.34.4" in text and "klog" not in text


SYSFS = "23 1 0:20 / /sys rw - sysfs sysfs rw\n"
MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
SYSTEMD = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
PURE = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(point: str, kind: str, options: str, place: str) -> Hierarchy:
    return Hierarchy(Path("/sys/fs/cgroup", point), kind, options, Path("/sys/fs/cgroup", place))


@pytest.mark.parametrize(
    "mounted, own, trees",
    [
        pytest.param(
            SYSFS + MEMORY + UNIFIED,
            "4:memory:/jobs/7\n0::/\n",
            [tree("memory", "cgroup", "memory", "memory/jobs/7"), tree("unified", "cgroup2", "", "unified")],
            id="mixed",
        ),
        pytest.param(
            PURE, "0::/user.slice/7.scope\n", [tree("", "cgroup2", "nsdelegate", "user.slice/7.scope")], id="version 2"
        ),
        pytest.param(
            CPU + SYSTEMD,
            "2:cpu,cpuacct:/\n1:name=systemd:/init.scope\n",
            [
                tree("cpu,cpuacct", "cgroup", "cpu,cpuacct", "cpu,cpuacct"),
                tree("systemd", "cgroup", "xattr,name=systemd", "systemd/init.scope"),
            ],
            id="two controllers in one tree, and a name",
        ),
        pytest.param(
            MEMORY.replace(" / /sys", " /docker/ab /sys"),
            "4:memory:/docker/ab\n",
            [tree("memory", "cgroup", "memory", "memory")],
            id="a container that sees its own part alone",
        ),
        pytest.param(
            MEMORY + MEMORY.replace("/sys/fs", "/elsewhere"),
            "4:memory:/\n",
            [tree("memory", "cgroup", "memory", "memory")],
            id="mounted twice",
        ),
        pytest.param(
            UNIFIED.replace(" / /sys", " /.. /sys") + UNIFIED,
            "0::/machine\n",
            [tree("unified", "cgroup2", "", "unified/machine")],
            id="over that of the machine outside",
        ),
        pytest.param(MEMORY, "3:cpuset:/\n", [], id="not in that tree"),
    ],
)
def test_trees_of_cgroups_and_our_place_in_them(mounted, own, trees):
    assert read_hierarchies(mounted, own) == trees


def test_version_2_s_groups_are_made_at_the_root():
    assert tree("", "cgroup2", "", "user.slice").parent == Path("/sys/fs/cgroup")
    assert tree("memory", "cgroup", "memory", "memory/jobs/7").parent == Path("/sys/fs/cgroup/memory/jobs/7")


def node(*conditions: tuple[str, str], taint: str = "") -> dict:
    return {
        "status": {"conditions": [{"type": kind, "status": status} for kind, status in conditions]},
        "spec": {"taints": [{"key": taint}]} if taint else {},
    }


@pytest.mark.parametrize(
    "seen, ready",
    [
        pytest.param(node(), False, id="new"),
        pytest.param(node(("Ready", "True"), ("DiskPressure", "False")), True, id="ready"),
        pytest.param(node(("Ready", "Unknown")), False, id="silent"),
        pytest.param(
            node(("Ready", "True"), taint="node.kubernetes.io/not-ready"), False, id="not seen by controllers"
        ),
        pytest.param(node(("Ready", "True"), taint="nvidia.com/gpu"), True, id="with a taint of its own"),
    ],
)
def test_ready_nodes(seen, ready):
    assert is_ready(seen) is ready


def test_sockets_have_short_paths():
    """107 bytes at most (unix(7))."""
    plan = NodePlan(9, Path("/store"), "10.88.0.1:5000", "af-hub.test", "af-hub.test/pause:1", Path("/ca.pem"))
    assert len(str(plan.home / "kubelet/pod-resources/kubelet.sock")) < 60
    assert json.loads(kubelet_config(plan))["address"] == "10.88.0.9"
    assert 'host."http://10.88.0.1:5000"' in mirror("10.88.0.1:5000")


def test_everybody_is_who_kubernetes_rules_expect():
    assert people(2)["node2"] == ("system:node:node2", "system:nodes")


def test_each_cluster_has_a_store_of_its_own(tmp_path):
    first, second = take_store(tmp_path), take_store(tmp_path)
    assert (first.folder.name, second.folder.name) == ("1", "2")
    (first.folder / "node1").mkdir()
    first.note_pushed("pause", "abc")
    first.give_back(tidy=True)
    again = take_store(tmp_path)
    assert again.folder == first.folder and again.pushed == {"pause": "abc"} and (again.folder / "node1").exists()
    again.give_back(tidy=False)
    afterwards = take_store(tmp_path)
    assert not (afterwards.folder / "node1").exists(), "what a killed cluster left was kept"
    afterwards.give_back(tidy=True)
    second.give_back(tidy=True)


def test_images_get_the_arguments_that_they_ask_for():
    assert declared("ARG BASE=a\nFROM ${BASE}\nARG WHEEL\nRUN x # ARG NO\n") == {"BASE", "WHEEL"}
    assert locked_version("dask==2026.8.0 \\\n    --hash\ndask-jobqueue==1\n", "dask") == "2026.8.0"
    assert locked_version("", "dask") == ""
    assert reference("agent") == "af-hub.test/agent:1"
    for name in names():
        given = build_arguments(name, "localhost/base", "dist/x.whl")
        assert given["BASE"] == "localhost/base", name


def test_builds_reach_what_the_machine_reaches(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    found = network_options({"https_proxy": "http://p:1", "SSL_CERT_FILE": str(bundle), "PIP_CONFIG_FILE": "/nowhere"})
    assert found == ["--build-arg=https_proxy", "--secret", f"id=ca-bundle,src={bundle}"]


def test_a_program_that_there_is_none_of_is_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr("sys.argv", ["kube_build", "helm", "helmm"])
    with pytest.raises(SystemExit, match=r"^found helmm, wanted some of pause, kubernetes, coredns, helm, or none"):
        main()
