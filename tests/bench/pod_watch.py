"""What a cluster says of a namespace while sessions start there, with the time at which it said so.

The API writes whole seconds; a watch says it at once. Its line is stamped as it comes.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from shutil import which
from typing import Any

from af_hub.spawning.pod import AGENT, NOTEBOOK

Said = tuple[float, dict[str, Any]]
"""Time (Unix), and an object of the API at that time."""


@dataclass
class Heard:
    """What a watch has brought, by kind."""

    kinds: Mapping[str, list[Said]] = field(default_factory=dict)

    def since(self, kind: str, began: float) -> list[Said]:
        """What came after that time."""
        return [one for one in list(self.kinds[kind]) if one[0] >= began]


@contextmanager
def listening(kube: Any, namespace: str, kinds: Iterable[str]) -> Iterator[Heard]:
    """Watch these kinds of objects."""
    heard = Heard({kind: [] for kind in kinds})
    kubectl = which("kubectl", path=kube.environ["PATH"])
    assert kubectl
    with ExitStack() as stack:
        for kind, found in heard.kinds.items():
            argv = [kubectl, "get", "--raw", f"/api/v1/namespaces/{namespace}/{kind}?watch=true"]
            process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=kube.environ))
            stack.callback(process.terminate)
            threading.Thread(target=keep, args=(process.stdout, found), daemon=True).start()
        yield heard


def keep(lines: Iterable[str], found: list[Said]) -> None:
    """Keep each line with its time."""
    for line in lines:
        found.append((time.time(), json.loads(line)["object"]))


def condition(name: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a pod has this condition."""

    def holds(pod: dict[str, Any]) -> bool:
        return any(
            one["type"] == name and one["status"] == "True" for one in pod.get("status", {}).get("conditions", [])
        )

    return holds


def container(part: str, name: str, what: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a container of a pod is ``started``, or its state is ``running``."""

    def holds(pod: dict[str, Any]) -> bool:
        found = [one for one in pod.get("status", {}).get(part, []) if one["name"] == name]
        return any(one.get("started") if what == "started" else what in one["state"] for one in found)

    return holds


POD: Mapping[str, Callable[[dict[str, Any]], bool]] = {
    "the pod is made": lambda _: True,
    "the pod has a node": condition("PodScheduled"),
    "the agent's container runs": container("initContainerStatuses", AGENT, "running"),
    "the agent is ready": container("initContainerStatuses", AGENT, "started"),
    "the server's container runs": container("containerStatuses", NOTEBOOK, "running"),
}
"""Milestones of a starting pod; those of the agent are not there where there is none."""


def milestones(said: Iterable[Said], wanted: Mapping[str, Callable[[dict[str, Any]], bool]] = POD) -> dict[str, float]:
    """When each was seen first."""
    passed: dict[str, float] = {}
    for at, found in said:
        for name, holds in wanted.items():
            if name not in passed and holds(found):
                passed[name] = at
    return passed


def logged(text: str) -> list[tuple[float, str]]:
    """Time (Unix) and text of each line of ``kubectl logs --timestamps``."""
    lines = (line.partition(" ") for line in text.splitlines())
    # Python takes microseconds at most.
    return [(datetime.fromisoformat(when[:26].rstrip("Z") + "+00:00").timestamp(), rest) for when, _, rest in lines]
