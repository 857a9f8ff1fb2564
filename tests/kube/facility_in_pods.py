"""A whole facility whose sessions are pods, for the tests of one module."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from af_hub.demo.ground import fetch_images, prepare
from af_hub.errors import Unavailable
from af_hub.testing.kube_cluster import KubeCluster
from af_hub.testing.network import AS_USER
from af_hub.testing.process import Daemon
from af_hub.testing.require import unavailable
from tests.running import RunningFacility

MORE = "c.JupyterHub.allow_named_servers = True\n"
IMAGES = ("agent", "python-analysis")
START_SECONDS = 120
PROGRAM = Path(__file__).parents[1] / "facility_with.py"


@dataclass
class InPods(RunningFacility):
    """The facility, and the cluster as its administrator sees it."""

    kube: KubeCluster
    namespace: str

    def find(self, kind: str, *names: str) -> dict[str, Any]:
        """What the API server has, as the cluster's administrator reads it."""
        return json.loads(self.kube.kubectl("get", kind, *names, f"--namespace={self.namespace}", "-o", "json"))

    def homes(self) -> list[Path]:
        """The folders of the nodes that are people's homes."""
        claimed = [claim["spec"]["volumeName"] for claim in self.find("pvc")["items"]]
        return [Path(self.find("pv", volume)["spec"]["hostPath"]["path"]) for volume in claimed]

    def names(self, kind: str) -> list[str]:
        """Of everything of this kind among the sessions."""
        return [one["metadata"]["name"] for one in self.find(kind)["items"]]


@pytest.fixture(scope="module")
def in_pods(
    request: pytest.FixtureRequest, kube: KubeCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InPods]:
    """The facility, as an ordinary user, beside the cluster; a module's ``FACILITY`` holds options of its own."""
    options = getattr(request.module, "FACILITY", {})
    namespace = request.module.__name__.rpartition(".")[2].replace("_", "-")
    folder = tmp_path_factory.mktemp("p")
    with ExitStack() as stack:
        try:
            images = [kube.push(image) for image in IMAGES]
            stack.callback(kube.kubectl, "delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
            pods = replace(prepare(kube, folder, namespace), more=MORE)
            fetch_images(kube, images)
            told = json.dumps({"pods": str(pods.write(folder / "pods.json")), **options})
            argv = [sys.executable, str(PROGRAM), str(folder / "d"), told, "{ready_fd}"]
            facility = Daemon("facility", [*AS_USER, *argv], folder / "facility.log")
            stack.callback(facility.stop, grace=40)
            running = InPods(facility.start().ready(START_SECONDS), kube, pods.namespace)
        except Unavailable as reason:
            unavailable(str(reason))
        yield running
        running.close_browsers()
