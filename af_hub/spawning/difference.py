"""In what a pod that runs is other than the one that would be made now; pure.

The API server and its admission plugins add to a pod (defaults, the node, status): what we do not say is theirs and no difference, but
for containers, volumes, mounts and variables, of which all are ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from af_hub.spawning.quota import read_quantity

KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "name",
}
"""By what the entries of a list are told apart."""

AMOUNTS = ("requests", "limits")
RANDOM = ("secretName", "secretKeyRef")
"""Of each start: the name of its Secret."""


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """One line for each place: what runs, and what would be made now."""
    return list(_objects("", ours, theirs))


def _objects(place: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for key, mine in ours.items():
        if key in RANDOM or mine in (None, {}, []):
            continue
        where = f"{place}.{key}".lstrip(".")
        other = theirs.get(key)
        if key in AMOUNTS and isinstance(other, Mapping):
            yield from _amounts(where, mine, other)
        elif key in KEYS and isinstance(other, Sequence):
            yield from _lists(where, KEYS[key], mine, other)
        elif isinstance(mine, Mapping) and isinstance(other, Mapping):
            yield from _objects(where, mine, other)
        elif not _same(mine, other):
            yield _line(where, other, mine)


def _lists(
    place: str, key: str, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    mine, others = ({one[key]: one for one in found} for found in (ours, theirs))
    for name, one in mine.items():
        if name in others:
            yield from _objects(f"{place}[{name}]", one, others[name])
        else:
            yield _line(f"{place}[{name}]", None, "there")
    yield from (_line(f"{place}[{name}]", "there", None) for name in others if name not in mine)


def _amounts(place: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name, amount in ours.items():
        if name not in theirs or read_quantity(str(amount)) != read_quantity(str(theirs[name])):
            yield _line(f"{place}.{name}", theirs.get(name), amount)


def _same(mine: Any, other: Any) -> bool:
    if isinstance(mine, list) and isinstance(other, list):
        # Tolerations: the API server adds two of its own.
        return all(any(_within(one, there) for there in other) for one in mine)
    return _within(mine, other)


def _within(mine: Any, other: Any) -> bool:
    if isinstance(mine, Mapping) and isinstance(other, Mapping):
        return all(_within(value, other.get(key)) for key, value in mine.items() if value not in (None, "", [], {}))
    return bool(mine == other) or (mine == "" and other is None)


def _line(place: str, runs: Any, now: Any) -> str:
    return f"{place}: runs {_shown(runs)}, would be {_shown(now)}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
