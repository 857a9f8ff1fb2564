"""What is free for sessions in a namespace of Kubernetes, for the spawn page: what its quotas leave; pure.

A namespace without quotas has no number of its own, and what the nodes have left the hub may not see; then nothing is said.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from af_hub.policy.sessions import Size
from af_hub.policy.units import describe_bytes

_SUFFIXES = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SUFFIXES |= {f"{letter}i": 1024.0 ** (power + 1) for power, letter in enumerate("KMGTPE")}
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]{0,2})")


@dataclass(frozen=True)
class Left:
    """Of how much, how much is left."""

    free: float
    most: float


@dataclass(frozen=True)
class FreeForSessions:
    """What quotas leave, by the names ``cpu``, ``memory`` (bytes), ``pods`` and those of other resources; empty when nothing is known."""

    left: Mapping[str, Left]

    def describe(self) -> str:
        """One sentence for the page."""
        parts = [_told(name, self.left[name]) for name in ("cpu", "memory", "pods") if name in self.left]
        others = [_told(name, left) for name, left in sorted(self.left.items()) if "/" in name]
        return f"Free for sessions now: {', '.join(parts + others)}." if parts or others else ""

    def lacks(self, size: Size) -> str:
        """What there is too little of for ``size``, as a sentence; empty when it fits."""
        wanted = {"cpu": size.cpus, "memory": size.memory, "pods": 1, **size.resources}
        missing = [
            _named(name) for name, amount in wanted.items() if name in self.left and amount > self.left[name].free
        ]
        return f"Not enough {' and '.join(missing)} free now: it cannot start before others end." if missing else ""


def read_quotas(quotas: Iterable[Mapping[str, Any]]) -> FreeForSessions:
    """From ``ResourceQuota`` objects; where several limit the same, the one that leaves least counts. Those with a scope are left out."""
    left: dict[str, Left] = {}
    for quota in quotas:
        if quota.get("spec", {}).get("scopes") or quota.get("spec", {}).get("scopeSelector"):
            continue
        status = quota.get("status", {})
        for key, hard in (status.get("hard") or {}).items():
            name = _name(key)
            most, used = read_quantity(hard), read_quantity((status.get("used") or {}).get(key, "0"))
            if name and (name not in left or most - used < left[name].free):
                left[name] = Left(max(0.0, most - used), most)
    return FreeForSessions(left)


def _name(key: str) -> str:
    """The resource that a quota's key limits by requests; empty for what a session does not take."""
    kind = key.removeprefix("requests.")
    return kind if kind in ("cpu", "memory", "pods") or (key.startswith("requests.") and "/" in kind) else ""


def read_quantity(text: str) -> float:
    """A quantity as Kubernetes writes it (``apimachinery``, ``resource.Quantity``): ``500m``, ``2Gi``, ``1e3``; 0 for what is none."""
    found = _QUANTITY.fullmatch(str(text).strip())
    return float(found[1]) * _SUFFIXES[found[2]] if found and found[2] in _SUFFIXES else 0.0


def _told(name: str, left: Left) -> str:
    if name == "memory":
        return f"{describe_bytes(_rounded(left.free))} of {describe_bytes(_rounded(left.most))} memory"
    return f"{round(left.free, 1):g} of {round(left.most, 1):g} {_named(name)}"


def _named(name: str) -> str:
    return {"cpu": "cores", "pods": "sessions"}.get(name, name)


def _rounded(amount: float) -> int:
    """To a tenth of a GiB, or a whole one from ten on."""
    gib = amount / 2**30
    return round(gib) * 2**30 if gib >= 10 else int(round(gib, 1) * 2**30)
