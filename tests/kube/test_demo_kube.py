"""``make demo-kube`` as a person has it: it comes up, says where to go, gives a session in a pod and a Dask cluster, and leaves nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from leftovers import MACHINE

from af_hub.demo.kube import IMAGES
from af_hub.errors import Unavailable
from af_hub.testing.kube_build import say
from af_hub.testing.kube_cluster import why_not_here
from af_hub.testing.kube_images import DNS, PAUSE, provide
from af_hub.testing.require import unavailable

pytestmark = [pytest.mark.kube, pytest.mark.long, pytest.mark.timeout(480, func_only=True)]

VISIT = Path(__file__).with_name("visit_demo.py")
VISIT_SECONDS = 450


@pytest.fixture(scope="module")
def images():
    """Made here, where the network outside is lent; in a machine inside of this one it is not."""
    if reason := why_not_here():
        unavailable(reason)
    try:
        for name in (PAUSE, DNS, *IMAGES):
            provide(name, say)
    except Unavailable as reason:
        unavailable(str(reason))


@pytest.mark.usefixtures("images")
def test_the_demo_in_pods_serves_and_leaves_nothing(tmp_path_factory):
    """In a machine of its own, in which the demo makes another: a cluster of other tests lives on beside it, at the same addresses."""
    # The folder's path is short: sockets lie in it.
    argv = [*MACHINE, sys.executable, str(VISIT), str(tmp_path_factory.mktemp("v"))]
    seen = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=VISIT_SECONDS).stdout)
    if "unavailable" in seen:
        unavailable(seen["unavailable"])

    assert seen["found"] == {"answer": 42, "uid": 1000, "pod": seen["found"]["pod"]}
    assert seen["pods"] == [f"pod/{seen['found']['pod']}"]
    assert f"Open  {seen['url']}  and sign in as one of" in seen["said"]
    # All that it says at the end: no traceback, although connections are open.
    assert seen["said"].partition("Ctrl-C ends all of it.")[2].split("\n") == [
        "",
        "",
        "Stopping ...",
        "Everything is stopped.",
        "Kubernetes is stopped.",
        "",
    ]
    assert (seen["status"], seen["left"], seen["temporary"]) == (0, {}, [])
