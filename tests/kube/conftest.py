"""What tests on a real Kubernetes share; ``make test-kube`` runs them in a machine of their own."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from facility_in_pods import in_pods  # noqa: F401 (a fixture)
from hub_alone import analyst, pod_hub  # noqa: F401 (fixtures)
from ordinary_pods import pod

from af_hub.testing.kube_cluster import KubeCluster

POD_SECONDS = 60


@pytest.fixture
def restricted(kube: KubeCluster):
    """A namespace as sessions have it, for this test."""
    with kube.namespace("test", enforce="restricted") as name:
        yield name


@pytest.fixture
def said(kube: KubeCluster, restricted: str) -> Callable[..., str]:
    """Run a command in a pod of the namespace ``restricted`` to its end; what it says."""

    def run(image: str, *command: str, name: str = "said", **spec: Any) -> str:
        made = pod(name, image, *command, **spec)
        kube.kubectl("create", "-n", restricted, "-f", "-", text=json.dumps(made))
        done = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
        kube.kubectl("wait", "-n", restricted, f"pod/{name}", done, f"--timeout={POD_SECONDS}s")
        return kube.kubectl("logs", "-n", restricted, name)

    return run
