"""What sessions are made of: ``images``, ``sizes``, ``volumes``, ``cvmfs``, ``registries`` and ``sessions`` of ``facility.yaml``.

All but images and sizes are for sessions that are pods.
"""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from af_hub.policy.forms import (
    ADDRESS,
    CLAIM,
    HOST_PATH,
    MOUNT,
    STORAGE_CLASS,
    VERSION,
    Amount,
    Bytes,
    NodeValue,
    Part,
    Repository,
    Resource,
)

OWN_FOLDERS = re.compile(r"/(bin|boot|cvmfs|dev|etc|home|lib[0-9]*|proc|root|run|sbin|sys|usr|var)(?=/|\Z)|/opt\Z")
"""Folders that are the session's own or its image's, where a volume would hide something; below `/opt` there is room."""


class Image(Part):
    """What a session, a scheduler and workers run in."""

    title: str = Field(description="What people read on the spawn page.")
    description: str = Field("", description="A line more about it.")
    container: str = Field("", description="The container image, where sessions are pods or sites run containers.")
    environment: Path | None = Field(
        None, description="The folder of a Python environment, where sessions and jobs are plain processes."
    )


class Toleration(Part):
    """A taint of nodes that a pod does not mind, as Kubernetes writes it."""

    key: Resource | None = Field(None, description="The taint's key; every taint, with `operator: Exists`, without it.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="`Exists` where the value does not matter.")
    value: NodeValue = Field("", description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect; every effect without it."
    )

    @model_validator(mode="after")
    def _a_taint(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(
                f"found the value {self.value!r:.80} beside `operator: Exists`, for which none counts; take one out"
            )
        if self.operator == "Equal" and not self.key:
            raise ValueError("found no key, wanted one; add `key: ...`, or `operator: Exists` for every taint")
        return self


class Size(Part):
    """How much a session gets."""

    title: str = Field(description="What people read on the spawn page.")
    cpus: float = Field(gt=0, allow_inf_nan=False, description="Cores.")
    memory: Bytes = Field(description="As in `2 GiB`.")
    resources: dict[Resource, Amount] = Field(
        {}, description="What else a pod gets, by the name that its nodes give it, as in `nvidia.com/gpu: 1`."
    )
    node_selector: dict[Resource, NodeValue] = Field(
        {}, description="Labels that a pod's node must have; with taints on such nodes, `tolerations` too."
    )
    tolerations: list[Toleration] = Field([], description="Taints of nodes that a pod does not mind.")


class Volume(Part):
    """Storage in the session of those whose rules name it, where sessions are pods. It needs `claim` or `scratch`."""

    title: str = Field(description="What people read.")
    path: str = Field(pattern=MOUNT, description="Where it is in the session, as in `/shared/cms`.")
    claim: str = Field(
        "",
        pattern=CLAIM,
        description="A PersistentVolumeClaim in the namespace of the sessions: the same files for all who have it, and they stay.",
    )
    scratch: Bytes | None = Field(
        None, description="This much space, empty at the start of each session and gone at its end, as in `20 GiB`."
    )
    storage_class: str = Field(
        "",
        pattern=STORAGE_CLASS,
        description="Where `scratch` comes from: a volume of this StorageClass for each session; the node's own disk when empty.",
    )
    read_only: bool = Field(False, description="Nobody writes to it from a session; for `claim`.")

    @field_validator("path")
    @classmethod
    def _hides_nothing(cls, found: str) -> str:
        if own := OWN_FOLDERS.match(found):
            raise ValueError(
                f"found {found!r:.80}, wanted a folder of its own, since `{own[0]}` is the session's or its image's; write it as in `/shared/cms`"
            )
        return found

    @model_validator(mode="after")
    def _claim_or_scratch(self) -> Self:
        if bool(self.claim) == bool(self.scratch):
            raise ValueError(
                f"found {'both `claim` and `scratch`' if self.claim else 'neither `claim` nor `scratch`'}, wanted one of them; "
                + ("take one out" if self.claim else "add `claim: NAME` for files that stay, or `scratch: 20 GiB`")
            )
        for key in ("storage_class", "read_only"):
            if getattr(self, key) and bool(self.scratch) is not (key == "storage_class"):
                kind = "scratch" if self.scratch else "claim"
                raise ValueError(f"found `{key}` beside `{kind}`, for which it means nothing; take it out")
        return self


class CVMFS(Part):
    """CernVM-FS, at `/cvmfs` of every session that is a pod, read-only. Where sessions are plain processes, they have what the machine has."""

    claim: str = Field(
        "",
        pattern=CLAIM,
        description="A PersistentVolumeClaim in the namespace of the sessions: of the CSI driver, or of an administrator's volume that is a "
        "path of the nodes.",
    )
    host_path: str = Field(
        "",
        pattern=HOST_PATH,
        description="A folder of the nodes, as in `/cvmfs`, without a claim. Only a namespace whose Pod Security allows `hostPath` takes such "
        "sessions; `restricted` and `baseline` do not.",
    )
    repositories: list[Repository] = Field(
        [], description="Those that people are told about when they do not work, as in `cms.cern.ch`."
    )

    @model_validator(mode="after")
    def _claim_or_path(self) -> Self:
        if self.claim and self.host_path:
            raise ValueError("found both `claim` and `host_path`, wanted one of them; take one out")
        return self


class Registry(Part):
    """How the hub asks a registry about images. Without an entry: at its own name, with https, as anybody."""

    address: str | None = Field(
        None,
        pattern=ADDRESS,
        description="Where it answers, when that is not `https://` and its own name; as in `http://10.0.0.7:5000`. When it is there and "
        "empty, the registry is not asked: its images start unproven.",
    )
    ca_file: str = Field("", description="The authority behind its TLS certificate; the machine's own when empty.")
    credentials_file: str = Field(
        "",
        description="File with `user:password` in one line, mode 0600, for a private registry; nobody's name when empty. Nodes need "
        "credentials of their own to pull.",
    )


class Sessions(Part):
    """What holds for the images of all sessions that are pods."""

    unnumbered_user: Literal["set", "refuse"] = Field(
        "set",
        description="What to do with an image whose user is root, a name, or not said: `set` lets it run as uid 1000, `refuse` does not start it.",
    )
    minimum_jupyterhub: str = Field(
        "4.0",
        pattern=VERSION,
        description="The oldest JupyterHub that an image may have, by its label `org.af-hub.jupyterhub`; an image without that label starts.",
    )
    own_images_per_hour: int = Field(
        30,
        gt=0,
        description="About so many images that are not in the list one person may have registries asked in an hour, and all at once if need "
        "be; further ones are refused with the time to wait. What a registry has said a moment ago is not asked, and does not count.",
    )
