"""Names in ``facility.yaml`` that must be names of something else in it, and values that contradict each other.

Looked for in the plain values, before their shape is known to be right, so that all mistakes of a file come at once: what has not the
shape that is looked for is passed over here, since :mod:`af_hub.policy.model` complains of it.
"""

from collections.abc import Iterator
from typing import Any

from af_hub.policy.text import Mistake, Place
from af_hub.policy.words import describe_found, describe_place

Parts = list[tuple[Place, Any]]

TINY = 1e-9
"""What sums of shares such as 0.1 may be off."""


def wrong_references(values: dict[Any, Any]) -> Iterator[Mistake]:
    """All of them."""
    gifts = [*_entries(values, "overrides"), *_entries(values, "rules")]
    issuers = _entries(values, "issuers")
    for place, gift in gifts:
        for kind in ("images", "sizes", "sites", "volumes"):
            for index, name in enumerate(_list(_get(gift, kind))):
                yield from _unknown((*place, kind, index), name, values, kind)
    for name, site in _get_parts(values, "sites"):
        yield from _unknown(("sites", name, "pool"), _get(site, "pool"), values, "pools")
        yield from _unknown(("sites", name, "cache"), _get(site, "cache"), values, "caches")
    yield from _doubles("name", gifts, "explanations name a rule by it; give one of them another name")
    yield from _doubles("issuer", issuers, "take one of them out")
    yield from _doubles("name", issuers, "each needs a short one of its own, as in `name: cms`", "iam")
    yield from _contradicting_accounts(gifts)
    yield from _clients(issuers)
    yield from _agreements(values, issuers)
    yield from _charged(values, gifts)
    yield from _families(values)
    yield from _shares(values)
    yield from _signed(values, issuers)
    yield from _one_path(values, gifts)


def _unknown(place: Place, name: object, values: dict[Any, Any], kind: str) -> Iterator[Mistake]:
    known = values.get(kind)
    if not isinstance(name, str) or not isinstance(known, dict | None) or name in (known or {}):
        return
    listed = ", ".join(sorted(str(one) for one in known or {})) or "which there are none of"
    sentence = f"found {describe_found(name)}, wanted a name from `{kind}`: {listed}; write one of them, or define it"
    yield Mistake(place, sentence)


def _doubles(key: str, parts: Parts, change: str, otherwise: str = "") -> Iterator[Mistake]:
    """Values of ``key`` that two parts have; ``otherwise`` is what holds where it is left out."""
    first: dict[str, Place] = {}
    for place, part in parts:
        found = _get(part, key)
        if found is None and isinstance(part, dict):
            found = otherwise or None
        if isinstance(found, str) and first.setdefault(found, place) != place:
            where = describe_place(first[found])
            yield Mistake((*place, key), f"found {describe_found(found)} as in {where}, wanted each once; {change}")


def _contradicting_accounts(gifts: Parts) -> Iterator[Mistake]:
    """One account template always has one accounting group and is shared or not: the access point knows the account only."""
    first: dict[tuple[str, str], tuple[Place, object]] = {}
    for place, gift in gifts:
        condor = _get(gift, "condor")
        account = _get(condor, "account")
        for key in ("accounting_group", "shared_account"):
            found = _get(condor, key)
            if not isinstance(account, str) or not isinstance(found, str | bool | None):
                continue
            before, other = first.setdefault((account, key), (place, found))
            if (other or False) != (found or False):
                yield Mistake(
                    (*place, "condor", key if found is not None else "account"),
                    f"found {describe_found(found)}, but `{describe_place(before)}` says {describe_found(other)} for the "
                    f"same account {describe_found(account)}, wanted one; give this rule another account, or the same {key}",
                )


def _clients(issuers: Parts) -> Iterator[Mistake]:
    """The hub is another client at each issuer, and the configuration of the hub has room for one."""
    without = [place for place, issuer in issuers if isinstance(issuer, dict) and not _get(issuer, "client_id")]
    for place in without[1:]:
        yield Mistake(
            (*place, "client_id"),
            f"found none, as in {describe_place(without[0])}, wanted one, since the hub has another client at each issuer; "
            "add `client_id: ...` and `client_secret_file: ...`",
        )


def _agreements(values: dict[Any, Any], issuers: Parts) -> Iterator[Mistake]:
    names = sorted({str(_get(issuer, "name") or "iam") for _, issuer in issuers})
    for name, _ in _get_parts(values, "agreements"):
        if name not in names:
            yield Mistake(
                ("agreements", name),
                f"found {describe_found(name)}, wanted the name of an issuer: {', '.join(names)}; write one of them",
            )


def _signed(values: dict[Any, Any], issuers: Parts) -> Iterator[Mistake]:
    """Who signs tokens must be able to say who it is."""
    if _get(values.get("facility"), "hub"):
        return
    for place, part in [((), values), *issuers]:
        for purpose in ("condor", "storage"):
            if _get(_get(_get(part, "tokens"), purpose), "by") == "hub":
                yield Mistake(
                    (*place, "tokens", purpose, "by"),
                    "found 'hub', but not where the hub is; add `hub: https://...` to `facility`, or write 'refresh' or 'exchange'",
                )


def _charged(values: dict[Any, Any], gifts: Parts) -> Iterator[Mistake]:
    """Once there are accounting groups, HTCondor gives those of other names no quota, without a word."""
    known = values.get("accounting_groups")
    if not isinstance(known, dict) or not known:
        return
    for place, gift in gifts:
        found = _get(_get(gift, "condor"), "accounting_group")
        if isinstance(found, str):
            yield from _unknown((*place, "condor", "accounting_group"), found, values, "accounting_groups")


def _one_path(values: dict[Any, Any], gifts: Parts) -> Iterator[Mistake]:
    """A rule must not give two volumes that want one path: nobody of its people could start a session."""
    volumes = dict(_get_parts(values, "volumes"))
    for place, gift in gifts:
        first: dict[str, str] = {}
        for index, name in enumerate(_list(_get(gift, "volumes"))):
            path = _get(volumes.get(name), "path") if isinstance(name, str) else None
            if isinstance(path, str) and first.setdefault(path, name) != name:
                yield Mistake(
                    (*place, "volumes", index),
                    f"found {describe_found(name)} beside {describe_found(first[path])}, both at {describe_found(path)}, wanted a path for "
                    "each; give one of them another path, or take it out",
                )


def _families(values: dict[Any, Any]) -> Iterator[Mistake]:
    """HTCondor passes over a group without the one above it, and what a group has is a part of what that one has."""
    groups = dict(_get_parts(values, "accounting_groups"))
    for name, group in groups.items():
        parent = name.rpartition(".")[0]
        if parent and parent not in groups:
            sentence = f"found it without `{parent}`, wanted that beside it, since HTCondor passes over a group without the one above it; "
            yield Mistake(("accounting_groups", name), f"{sentence}add `{parent}: {{quota: ...}}`")
        elif parent and _get(group, "quota") and isinstance(groups[parent], dict) and not _get(groups[parent], "quota"):
            yield Mistake(
                ("accounting_groups", parent),
                f"found no quota, wanted one, since that of `{name}` is a part of it; add `quota: ...`",
            )


def _shares(values: dict[Any, Any]) -> Iterator[Mistake]:
    """What groups side by side have is of one whole."""
    groups = dict(_get_parts(values, "accounting_groups"))
    sums: dict[tuple[str, bool], float] = {}
    for name, group in groups.items():
        quota, parent = _get(group, "quota"), name.rpartition(".")[0]
        whole = _get(groups.get(parent), "quota")
        if isinstance(quota, float) and 0 < quota <= 1:
            most: float = 1
        elif isinstance(quota, int) and isinstance(whole, int) and quota > 0:
            most = whole
        else:
            continue
        key = parent, isinstance(quota, float)
        sums[key] = sums.get(key, 0.0) + quota
        if sums[key] > most + TINY:
            yield Mistake(
                ("accounting_groups", name, "quota"),
                f"found {quota:g}, which makes {sums[key]:g} with those above it of the same "
                f"{'parent' if parent else 'level'}, wanted {most:g} at most in all; write a smaller {'share' if key[1] else 'number'}",
            )


def _entries(values: dict[Any, Any], key: str) -> Parts:
    """The entries of a list, each with its place."""
    return [((key, number), part) for number, part in enumerate(_list(values.get(key)))]


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _get(found: object, key: str) -> Any:
    return found.get(key) if isinstance(found, dict) else None


def _get_parts(values: dict[Any, Any], key: str) -> list[tuple[str, Any]]:
    found = values.get(key)
    return [(name, part) for name, part in found.items() if isinstance(name, str)] if isinstance(found, dict) else []
