"""What sessions of a demo need in a Kubernetes before its hub starts: a namespace, the hub's rights there, volumes for homes, addresses.

What an administrator's cluster has, or the chart of ``hub_config/kubernetes`` makes, made here for a facility that runs beside the cluster
instead of in it. Promises: the hub gets the rights of that chart's Role and no others. Needs root, and a machine of its own around it
(:mod:`af_hub.testing.kube_machine`), whose addresses and names it completes.
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from af_hub.demo.pods import ADDRESS, DOMAIN, HOSTNAME, NAMESPACE, ORIGIN_ADDRESS, PodSessions
from af_hub.files import write_private
from af_hub.testing.kube_build import KUBERNETES
from af_hub.testing.kube_cluster import KubeCluster
from af_hub.testing.kube_node import BRIDGE
from af_hub.testing.places import CONFIGURATION

HUB = "hub"
HUB_HOURS = 48
HOMES, HOME_SIZE = 12, "10Gi"
HOME_CLASS = "af-homes"
UID, GID = 1000, 100
SECONDS, FETCH_SECONDS = 30, 400
CHART = CONFIGURATION / "kubernetes"
HUB_NAMESPACE = "af-hub"
# What the chart wants to be told, of which nothing is in the parts that we take from it.
CHART_VALUES = {"publicURL": "http://127.0.0.1/", "iam.clientID": "demo", "iam.clientSecret.name": "demo"}


def prepare(kube: KubeCluster, folder: Path, namespace: str = NAMESPACE) -> PodSessions:
    """Make all of it, with files in ``folder``; once for each namespace."""
    take_addresses(folder)
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HUB_NAMESPACE}})
    kube.kubectl("apply", "-f", "-", text=render_chart(kube, namespace))
    kube.apply(*describe_homes(make_homes(folder / "homes"), namespace))
    token = kube.kubectl("create", "token", HUB, f"--namespace={HUB_NAMESPACE}", f"--duration={HUB_HOURS}h").strip()
    kubeconfig = with_token(yaml.safe_load(kube.kubeconfig.read_text()), token, namespace)
    return PodSessions(
        write_private(folder / "hub.kubeconfig", json.dumps(kubeconfig)), kube.registry, namespace=namespace
    )


def render_chart(kube: KubeCluster, namespace: str) -> str:
    """The chart's part for sessions and the hub's rights: namespace, accounts, Role."""
    values = CHART_VALUES | {"sessions.namespace": namespace}
    parts = (f"--show-only=templates/{name}.yaml" for name in ("sessions", "accounts"))
    told = (f"--set={key}={value}" for key, value in values.items())
    here = (f"--namespace={HUB_NAMESPACE}", f"--kube-version={KUBERNETES}")
    return kube.helm("template", "af", str(CHART), *here, *told, *parts)


def fetch_images(kube: KubeCluster, images: Iterable[str]) -> None:
    """Have images on all nodes before somebody waits for a session; at once where they are already."""
    for node in kube.nodes:
        kube.apply(describe_fetch(node, images))
    for node in kube.nodes:
        pod = (f"pod/fetch-{node}", f"--namespace={HUB_NAMESPACE}")
        kube.kubectl(
            "wait",
            *pod,
            "--for=jsonpath={.status.phase}=Succeeded",
            f"--timeout={FETCH_SECONDS}s",
            timeout=FETCH_SECONDS + 10,
        )
        kube.kubectl("delete", *pod, "--wait=false")


def describe_fetch(node: str, images: Iterable[str]) -> dict[str, Any]:
    """A pod that does nothing, with these images, on that node."""
    containers = [
        {"name": f"image-{number}", "image": image, "command": ["true"]} for number, image in enumerate(images)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"fetch-{node}", "namespace": HUB_NAMESPACE},
        "spec": {"nodeName": node, "restartPolicy": "Never", "containers": containers},
    }


def take_addresses(folder: Path) -> None:
    """Let the bridge have the origin's address too, and the facility's name mean the bridge; may be called twice."""
    run("ip", "address", "replace", f"{ORIGIN_ADDRESS}/32", "dev", BRIDGE)
    try:
        known = socket.gethostbyname(HOSTNAME) == ADDRESS
    except OSError:
        known = False
    if not known:
        hosts = folder / "hosts"
        hosts.write_text(f"{Path('/etc/hosts').read_text().rstrip()}\n{ADDRESS} {HOSTNAME}.{DOMAIN} {HOSTNAME}\n")
        hosts.chmod(0o644)
        run("mount", "--bind", str(hosts), "/etc/hosts")


def make_homes(folder: Path) -> list[Path]:
    """Folders for those who run in pods; the kubelet gives a folder of the node to nobody (``fsGroup`` does not touch it)."""
    homes = [folder / str(number) for number in range(HOMES)]
    for home in homes:
        home.mkdir(parents=True)
        os.chown(home, UID, GID)
        home.chmod(0o770)
    return homes


def describe_homes(homes: list[Path], namespace: str) -> Iterator[dict[str, Any]]:
    """Volumes that wait for claims, each a folder of the nodes, which are this machine; nobody makes more of them."""
    group = "storage.k8s.io"
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    yield {
        "apiVersion": f"{group}/v1",
        "kind": "StorageClass",
        "metadata": {"name": HOME_CLASS, "annotations": default},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    for number, home in enumerate(homes):
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-home-{number}"},
            "spec": {
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "capacity": {"storage": HOME_SIZE},
                "hostPath": {"path": str(home)},
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": HOME_CLASS,
            },
        }


def with_token(kubeconfig: dict[str, Any], token: str, namespace: str) -> dict[str, Any]:
    """The kubeconfig of whoever has this token, at the cluster of another one's."""
    names = {"cluster": kubeconfig["clusters"][0]["name"], "user": HUB, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": kubeconfig["clusters"][:1],
        "users": [{"name": HUB, "user": {"token": token}}],
        "contexts": [{"name": HUB, "context": names}],
        "current-context": HUB,
    }


def run(*argv: str) -> None:
    """Run a program of the machine."""
    subprocess.run(argv, check=True, capture_output=True, timeout=SECONDS)
