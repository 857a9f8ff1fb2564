"""Sessions as the spawner's pure parts make them, without a hub: their agent finds none, and their server is a program that waits."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from af_hub.session.fragments import SessionFragment
from af_hub.spawning.pod import CONFIG_FILE, FOLDER, HUB_TOKEN, NOTEBOOK, RESTRICTED, PodUser, SessionPod
from af_hub.testing.kube_cluster import CommandFailed

NOWHERE = "http://127.0.0.1:9/"
WAITS = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit()); signal.pause()"
READY_SECONDS = 90


@dataclass
class PlainSession:
    """One pod that is ready."""

    kube: Any
    namespace: str
    name: str

    def run(self, code: str, *arguments: str, timeout: float = 60) -> Any:
        """What Python says in the user's container; JSON."""
        where = ("-n", self.namespace, self.name, "-c", NOTEBOOK)
        return json.loads(self.kube.kubectl("exec", *where, "--", "python3", "-c", code, *arguments, timeout=timeout))

    def get(self, kind: str = "pod", name: str = "") -> dict[str, Any]:
        """As the administrator reads it."""
        return json.loads(self.kube.kubectl("get", kind, name or self.name, "-n", self.namespace, "-o", "json"))

    @property
    def restarts(self) -> int:
        """Of all containers together."""
        status = self.get()["status"]
        return sum(one["restartCount"] for one in (*status["containerStatuses"], *status["initContainerStatuses"]))


def secret_of(name: str, fragment: SessionFragment, repositories: list[str]) -> dict[str, Any]:
    """The Secret of a session whose agent has nobody to ask."""
    agent = {
        "folder": FOLDER,
        "hub_api_url": NOWHERE,
        "hub_token": "none",
        "controller_url": NOWHERE,
        "repositories": repositories,
        "files": dict(fragment.files),
        "first_token": 0.1,
    }
    data = {HUB_TOKEN: "none", CONFIG_FILE: json.dumps(agent)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def pod_of(name: str, fragment: SessionFragment, image: str, home: dict[str, Any]) -> dict[str, Any]:
    """The pod ``name``; ``home`` is the source of its home's volume."""
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    session = SessionPod(
        fragment=fragment,
        secret=name,
        home=f"/home/{name}",
        home_volume=home,
        agent_image=image,
        agent_resources=resources,
    )
    environment = [
        {"name": key, **(value if isinstance(value, dict) else {"value": value})}
        for key, value in session.environment.items()
    ]
    notebook = {
        "name": NOTEBOOK,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", WAITS],
        "env": environment,
        "securityContext": dict(RESTRICTED),
        "volumeMounts": session.mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "securityContext": PodUser().context,
            "volumes": session.volumes,
            "initContainers": session.sidecars,
            "containers": [notebook],
        },
    }


@contextmanager
def plain_session(
    kube: Any, namespace: str, name: str, fragment: SessionFragment, home: dict[str, Any] | None = None
) -> Iterator[PlainSession]:
    """A session with this fragment, from the moment in which it is ready; told to end afterwards."""
    repositories = [name for name in fragment.environment.get("AF_CVMFS_REPOSITORIES", "").split(",") if name]
    objects = [
        secret_of(name, fragment, repositories),
        pod_of(name, fragment, kube.push("agent"), home or {"emptyDir": {}}),
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kube.kubectl("apply", "-n", namespace, "-f", "-", text=text)
    try:
        kube.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", namespace, f"--timeout={READY_SECONDS}s")
        yield PlainSession(kube, namespace, name)
    finally:
        with suppress(CommandFailed):
            kube.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")


def folder_volume(namespace: str, claim: str, path: Any, modes: tuple[str, ...]) -> list[dict[str, Any]]:
    """A claim and the administrator's volume behind it, which is a folder of the nodes."""
    volume = f"{namespace}-{claim}"
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": {"storage": "1Mi"},
                "accessModes": list(modes),
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(path)},
                "claimRef": {"namespace": namespace, "name": claim},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {
                "accessModes": list(modes),
                "storageClassName": "",
                "volumeName": volume,
                "resources": {"requests": {"storage": "1Mi"}},
            },
        },
    ]
