"""What a session's pod has beside what KubeSpawner puts there: fragments and choice as parts of a pod; pure.

Promises: a pod that Pod Security "restricted" takes; the session agent beside the user's container, started before it and ended after it,
with a folder in memory that both see; no secret in the pod. Everything stands here as the plain objects of Kubernetes, and comes into the
pod after KubeSpawner has run ``str.format`` over its own settings. Leaves to :mod:`af_hub.spawning.kube` to put it there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from af_hub.session.fragments import READY_FILE, SessionFragment
from af_hub.session.xrootd import CACHE, PROXY, signpost_url

FOLDER = "/run/af"
"""The session's folder: in memory, and gone with the pod."""
FOLDER_SIZE = "16Mi"

CONFIG_FOLDER, CONFIG_FILE = "/etc/af-agent", "agent.json"
"""Where the agent reads its configuration, which the user's container does not see."""

HUB_TOKEN = "hub-token"  # noqa: S105
"""Key of the user's hub token in the session's Secret; that of the agent's configuration is its file's name."""

SIGNPOST_PORT = 18094
"""Of the pod's loopback, where XRootD clients ask for the way."""

OWN_UID, GROUP = 1000, 100
"""As whom images run that name no number; ``users`` of Debian, and of most images for Jupyter."""

AGENT, NOTEBOOK = "agent", "notebook"
"""Names of the containers; the second is KubeSpawner's."""

FOLDER_VOLUME, CONFIG_VOLUME, HOME_VOLUME = "af-folder", "af-agent", "home"

# Pod Security "restricted" wants the last two at each container; where they stand for a pod, KubeSpawner has them.
RESTRICTED: Mapping[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
RESTRICTED_POD: Mapping[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


@dataclass(frozen=True)
class PodUser:
    """As whom all containers of a pod run."""

    uid: int = OWN_UID
    gid: int = GROUP

    @property
    def context(self) -> dict[str, Any]:
        """The pod's security context; a large volume is not gone through at each start.

        The group of volumes is ours, whatever the image says: the kubelet gives a shared one wholly to it.
        """
        return {
            **RESTRICTED_POD,
            "runAsUser": self.uid,
            "runAsGroup": self.gid,
            "fsGroup": GROUP,
            "fsGroupChangePolicy": "OnRootMismatch",
        }


def user_of(uid: int | None, gid: int | None) -> PodUser:
    """Whom an image means, where it names numbers that are not root's; ours where it does not."""
    return PodUser(uid or OWN_UID, gid or GROUP)


def literal(value: str) -> str:
    """A variable's value as Kubernetes must read it: it replaces ``$(NAME)``, and takes ``$$`` for ``$``."""
    return value.replace("$", "$$")


@dataclass(frozen=True, kw_only=True)
class SessionPod:
    """One session's part of a pod.

    Parameters
    ----------
    secret
        Name of the Secret with the user's hub token and the agent's configuration.
    home
        Where the home is, in the session.
    home_volume, home_sub_path
        What is mounted there, as Kubernetes' volume source, and which folder in it; the whole when empty.
    agent_image, agent_resources, pull_policy
        Of the sidecar.
    start_seconds
        How long the agent may take before it serves.
    fills_home
        Whether the agent has something for a new home, and so sees the home.
    """

    fragment: SessionFragment
    secret: str
    home: str
    home_volume: Mapping[str, Any]
    agent_image: str
    agent_resources: Mapping[str, Any]
    home_sub_path: str = ""
    pull_policy: str = "IfNotPresent"
    start_seconds: int = 60
    fills_home: bool = False

    @property
    def environment(self) -> dict[str, Any]:
        """The user's container's, beside the hub's own; the hub token by reference."""
        found = dict(self.fragment.environment)
        if CACHE in found:
            found[PROXY] = signpost_url(SIGNPOST_PORT)
        return {
            **{name: literal(value) for name, value in found.items()},
            "HOME": self.home,
            # Not in the home: it is that of several sessions, whose process ids are the same.
            "JUPYTER_RUNTIME_DIR": f"{FOLDER}/jupyter",
            "JUPYTERHUB_API_TOKEN": {"valueFrom": {"secretKeyRef": {"name": self.secret, "key": HUB_TOKEN}}},
        }

    @property
    def volumes(self) -> list[dict[str, Any]]:
        """Of the pod."""
        config = {"secretName": self.secret, "items": [{"key": CONFIG_FILE, "path": CONFIG_FILE}], "defaultMode": 0o440}
        return [
            {"name": FOLDER_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": FOLDER_SIZE}},
            {"name": CONFIG_VOLUME, "secret": config},
            {"name": HOME_VOLUME, **self.home_volume},
            *({"name": name, **source} for name, source in self.fragment.volumes.items()),
        ]

    @property
    def mounts(self) -> list[dict[str, Any]]:
        """Of the user's container; what is in the folder of a volume's name comes after it."""
        return [
            {"name": FOLDER_VOLUME, "mountPath": FOLDER},
            self._home_mount,
            *({"name": name, **mount} for name, mount in self.fragment.mounts.items()),
        ]

    @property
    def _home_mount(self) -> dict[str, Any]:
        part = {"subPath": self.home_sub_path} if self.home_sub_path else {}
        return {"name": HOME_VOLUME, "mountPath": self.home, **part}

    @property
    def sidecars(self) -> list[dict[str, Any]]:
        """Native sidecars: init containers that go on (Kubernetes 1.29); the agent before all others."""
        return [self._agent, *({"name": name, **one} for name, one in self.fragment.sidecars.items())]

    @property
    def _await_agent(self) -> list[str]:
        ready = f"{FOLDER}/{READY_FILE}"
        return ["python3", "-P", "-m", "af_hub.session.await_ready", ready, str(self.start_seconds)]

    @property
    def _agent(self) -> dict[str, Any]:
        return {
            "name": AGENT,
            "image": self.agent_image,
            "imagePullPolicy": self.pull_policy,
            "restartPolicy": "Always",
            "command": ["python3", "-P", "-m", "af_hub.session.agent", "--config", f"{CONFIG_FOLDER}/{CONFIG_FILE}"],
            # Python takes modules from there first but for -P, and the home is a folder that people write.
            "workingDir": "/",
            "resources": dict(self.agent_resources),
            "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
            # A startup probe is looked at once a second, and everybody would wait for that.
            "lifecycle": {"postStart": {"exec": {"command": self._await_agent}}},
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": FOLDER_VOLUME, "mountPath": FOLDER},
                {"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": True},
                *([self._home_mount] if self.fills_home else []),
                *({"name": name, **mount} for name, mount in self.fragment.agent_mounts.items()),
            ],
        }


def secret_manifest(
    *, name: str, pod_name: str, pod_uid: str, labels: Mapping[str, str], data: Mapping[str, str]
) -> dict[str, Any]:
    """The Secret ``name`` of a session; Kubernetes removes it with its pod."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod_name, "uid": pod_uid}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": dict(labels), "ownerReferences": [owner]},
        "type": "Opaque",
        "immutable": True,
        "stringData": dict(data),
    }


def with_resources(amounts: Mapping[str, Any] | None, more: Mapping[str, int]) -> dict[str, Any]:
    """A container's requests, or its limits, with these by name; Kubernetes wants both to be the same for such."""
    return {**(amounts or {}), **{name: str(amount) for name, amount in more.items()}}
