"""A simulated Kubernetes in which a hundred sessions of somebody start at once, for those who watch; nothing runs."""

import asyncio
import copy
import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from af_hub.files import write_private
from af_hub.spawning.pod import AGENT, NOTEBOOK
from af_hub.testing.certificates import Authority
from af_hub.testing.fake_kube import FakeKube, Object, running

REASONS = {
    "Scheduled": "Successfully assigned {pod} to node1",
    "SuccessfulAttachVolume": 'AttachVolume.Attach succeeded for volume "pvc-0a1b2c3d"',
    "Pulling": 'Pulling image "{image}"',
    "Pulled": 'Successfully pulled image "{image}" in 1.2s (1.2s including waiting). Image size: 412345678 bytes.',
    "Created": "Created container: {container}",
    "Started": "Started container {container}",
}
SAID = (
    ("Scheduled", AGENT),
    ("SuccessfulAttachVolume", AGENT),
    *((reason, name) for name in (AGENT, NOTEBOOK) for reason in ("Pulling", "Pulled", "Created", "Started")),
)
"""What scheduler, attacher and kubelet say of one start, in this order."""
CONDITIONS = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")


def fields_of(found: Any) -> Any:
    """What the API notes of each field that somebody has set (``managedFields``); it is about as long as the pod itself."""
    if isinstance(found, dict):
        return {f"f:{key}": fields_of(value) for key, value in found.items()}
    if isinstance(found, list) and found and isinstance(found[0], dict) and "name" in found[0]:
        return {f'k:{{"name":"{one.get("name")}"}}': {".": {}, **fields_of(one)} for one in found}
    return {}


def statuses(pod: Object) -> Iterator[Object]:
    """The ten statuses of a pod that starts, as scheduler and kubelet write them."""
    whole = running(pod, "10.88.1.23")
    waiting = {"waiting": {"reason": "PodInitializing"}}

    def step(conditions: int, agent: Object, started: bool, notebook: Object) -> Object:
        found = copy.deepcopy(whole)
        found["phase"] = "Running" if "running" in notebook else "Pending"
        found["conditions"] = [
            {"type": one, "status": str(number < conditions), "lastTransitionTime": "2026-01-01T00:00:00Z"}
            for number, one in enumerate(CONDITIONS)
        ]
        for one in found["initContainerStatuses"]:
            one |= {"state": agent, "ready": started, "started": started}
        for one in found["containerStatuses"]:
            one |= {"state": notebook, "ready": conditions == len(CONDITIONS)}
        return found

    runs = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    yield {"phase": "Pending", "conditions": step(1, waiting, False, waiting)["conditions"][:1]}
    yield step(1, waiting, False, waiting)
    yield step(2, waiting, False, waiting)
    yield step(2, {"waiting": {"reason": "ContainerCreating"}}, False, waiting)
    yield step(2, runs, False, waiting)
    yield step(2, runs, True, waiting)
    yield step(3, runs, True, waiting)
    yield step(3, runs, True, {"waiting": {"reason": "ContainerCreating"}})
    yield step(3, runs, True, runs)
    yield step(5, runs, True, runs)


@dataclass
class BusyKube(FakeKube):
    """One in which, when told to, many pods come up that are like one that it was asked for."""

    loop: asyncio.AbstractEventLoop | None = None
    changes: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        return await super().__aenter__()

    def kubeconfig(self, folder: Path) -> Path:
        """With an authority, as clusters have; without one each new watch reads all those of the machine."""
        path = super().kubeconfig(folder)
        found = json.loads(path.read_text())
        found["clusters"][0]["cluster"]["certificate-authority"] = str(Authority(folder / "ca", "busy").file)
        return write_private(path, json.dumps(found))

    def let_start(self, pods: int, seconds: float) -> None:
        """Have so many pods start within so many seconds, and then go; returns when they are gone."""
        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(self._start_and_go(pods, seconds), self.loop).result()

    async def _start_and_go(self, pods: int, seconds: float) -> None:
        before = set(self._store)
        async with asyncio.TaskGroup() as group:
            for number in range(pods):
                group.create_task(self._start(number, seconds))
        for key in set(self._store) - before:
            self.change("DELETED", key, self._store.pop(key))

    async def _start(self, number: int, seconds: float) -> None:
        """One of them: begun in the first half of the time, ready half of it later."""
        pod = self._another(number)
        key = ("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        await asyncio.sleep(self._random.uniform(0, seconds / 2))
        self.change("ADDED", key, {**pod, "status": {"phase": "Pending"}})
        for status, (reason, container) in zip(statuses(pod), SAID, strict=True):
            await asyncio.sleep(seconds / 2 / len(SAID) * self._random.uniform(0.5, 1.0))
            self.change("MODIFIED", key, {**pod, "status": status})
            words = {"pod": f"{key[1]}/{key[2]}", "image": pod["spec"]["containers"][0]["image"]}
            self.event(pod, reason, REASONS[reason].format(**words, container=container))
            self.changes += 2
        self.changes += 1

    def _another(self, number: int) -> Object:
        pod = copy.deepcopy(self.asked[0])
        pod["metadata"] |= {"name": f"jupyter-somebody-{number}", "uid": str(uuid.uuid4())}
        pod["spec"]["nodeName"] = "node1"
        managers = [{"manager": one, "operation": "Update", "fieldsType": "FieldsV1"} for one in ("hub", "kubelet")]
        parts = [pod, {"status": running(pod, "10.88.1.23")}]
        pod["metadata"]["managedFields"] = [
            {**manager, "fieldsV1": fields_of(part)} for manager, part in zip(managers, parts, strict=True)
        ]
        return pod
