"""Storage of a session beside its home, where sessions are pods: shared folders by claim, and scratch.

Serves the hop "session". Promises: each volume of the person's rules is at its path, read-only where the policy says so; scratch begins
empty, goes with the session, and is where ``AF_SCRATCH`` says. Nothing here needs more rights than Pod Security "restricted" gives.
Which volumes a person has, and that no two want one path, :mod:`af_hub.policy.decide` says. Claims are made by the administrators.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from af_hub.session.fragments import SessionFragment

if TYPE_CHECKING:
    from af_hub.policy.sessions import Volume

SCRATCH = "AF_SCRATCH"
"""The folder of the first scratch volume, in sessions that have one."""


def volumes_fragment(volumes: Mapping[str, "Volume"], names: Iterable[str]) -> SessionFragment:
    """The volumes with these names."""
    given = {f"volume-{name}": volumes[name] for name in names}
    scratch = [volume.path for volume in given.values() if volume.scratch]
    return SessionFragment(
        environment={SCRATCH: scratch[0]} if scratch else {},
        volumes={name: _source(volume) for name, volume in given.items()},
        mounts={name: _mount(volume) for name, volume in given.items()},
    )


def _source(volume: "Volume") -> dict[str, Any]:
    if not volume.scratch:
        return {"persistentVolumeClaim": {"claimName": volume.claim}}
    if not volume.storage_class:
        return {"emptyDir": {"sizeLimit": quantity(volume.scratch)}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": volume.storage_class,
        "resources": {"requests": {"storage": quantity(volume.scratch)}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def quantity(amount: int) -> str:
    """Bytes as Kubernetes writes them, and shows them to people: ``20Gi``."""
    for unit, size in (("Gi", 2**30), ("Mi", 2**20)):
        if amount % size == 0:
            return f"{amount // size}{unit}"
    return str(amount)


def _mount(volume: "Volume") -> dict[str, Any]:
    # Without recursion what the administrator's volume has mounted below itself could be written; older runtimes do without.
    read_only = {"readOnly": True, "recursiveReadOnly": "IfPossible"} if volume.read_only else {}
    return {"mountPath": volume.path, **read_only}
