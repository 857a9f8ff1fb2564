"""Names in ``facility.yaml`` that must be names of something else in it, and values that contradict each other.

Looked for in the plain values, before their shape is known to be right, so that all mistakes of a file come at once: what has not the
shape that is looked for is passed over here, since :mod:`af_hub.policy.model` complains of it.
"""

from collections.abc import Iterator
from typing import Any

from af_hub.policy.text import Mistake, Place
from af_hub.policy.words import describe_found, describe_place


def wrong_references(values: dict[Any, Any]) -> Iterator[Mistake]:
    """All of them."""
    rules = _list(values.get("rules"))
    for number, rule in enumerate(rules):
        for kind in ("images", "sizes", "sites"):
            for index, name in enumerate(_list(_get(rule, kind))):
                yield from _unknown(("rules", number, kind, index), name, values, kind)
    for name, site in _get_parts(values, "sites"):
        yield from _unknown(("sites", name, "pool"), _get(site, "pool"), values, "pools")
        yield from _unknown(("sites", name, "cache"), _get(site, "cache"), values, "caches")
    yield from _doubles("rules", "name", rules, "explanations name a rule by it; give one of them another name")
    yield from _doubles("issuers", "issuer", _list(values.get("issuers")), "take one of them out")
    yield from _contradicting_accounts(rules)


def _unknown(place: Place, name: object, values: dict[Any, Any], kind: str) -> Iterator[Mistake]:
    known = values.get(kind)
    if not isinstance(name, str) or not isinstance(known, dict | None) or name in (known or {}):
        return
    listed = ", ".join(sorted(str(one) for one in known or {})) or "which there are none of"
    sentence = f"found {describe_found(name)}, wanted a name from `{kind}`: {listed}; write one of them, or define it"
    yield Mistake(place, sentence)


def _doubles(kind: str, key: str, parts: list[Any], change: str) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for number, part in enumerate(parts):
        found = _get(part, key)
        if isinstance(found, str) and first.setdefault(found, number) != number:
            where = describe_place((kind, first[found]))
            yield Mistake(
                (kind, number, key), f"found {describe_found(found)} as in {where}, wanted each once; {change}"
            )


def _contradicting_accounts(rules: list[Any]) -> Iterator[Mistake]:
    """One account template always has one accounting group and is shared or not: the access point knows the account only."""
    first: dict[tuple[str, str], tuple[int, object]] = {}
    for number, rule in enumerate(rules):
        condor = _get(rule, "condor")
        account = _get(condor, "account")
        for key in ("accounting_group", "shared_account"):
            found = _get(condor, key)
            if not isinstance(account, str) or not isinstance(found, str | bool | None):
                continue
            before, other = first.setdefault((account, key), (number, found))
            if (other or False) != (found or False):
                yield Mistake(
                    ("rules", number, "condor", key if found is not None else "account"),
                    f"found {describe_found(found)}, but `{describe_place(('rules', before))}` says {describe_found(other)} for the "
                    f"same account {describe_found(account)}, wanted one; give this rule another account, or the same {key}",
                )


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _get(found: object, key: str) -> Any:
    return found.get(key) if isinstance(found, dict) else None


def _get_parts(values: dict[Any, Any], key: str) -> list[tuple[str, Any]]:
    found = values.get(key)
    return [(name, part) for name, part in found.items() if isinstance(name, str)] if isinstance(found, dict) else []
