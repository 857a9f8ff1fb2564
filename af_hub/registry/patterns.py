"""Which images people may type: the patterns of ``own_images`` in ``facility.yaml``.

A pattern is a regular expression (Python's ``re``) which must match the name in full, from its first to its last character. Its first part,
up to the first slash, names one registry letter by letter, and it matches images of that registry only, whatever stands behind: so
neither a dot nor an alternative ever opens another one. Where a name has a tag and a digest, nothing ever asks what the tag means, so the name
without the tag must match: else a pattern for some tags would open every image of that path.

Promises: to match any name with any pattern takes less than a moment. The hub does so in its loop, and Python's ``re`` tries every way in which
a pattern could match, so a pattern with too many ways is refused when the policy is read.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from math import comb
from re import _parser  # type: ignore[attr-defined]  # the only one who knows what a pattern means; 3.11 to 3.14
from typing import Any

from af_hub.registry.reference import REGISTRY, Reference

_REGISTRY = re.compile(REGISTRY)
# What can stand in a pattern that is meant letter by letter but for `.*`.
_PLAIN = re.compile(r"(?:[A-Za-z0-9/:@_-]|\\[.:/@_-]|\.\*)*")
ANYBODY = ("docker.io", "ghcr.io", "quay.io")
"""Registries where anybody can put an image."""

LONGEST = 400
"""Characters of the longest name that a pattern is tried on: registry, repository and tag."""
MOST_WAYS = 200_000_000


def registry_of(pattern: str) -> str:
    """The registry whose images the pattern is about.

    Raises
    ------
    ValueError
        When the pattern is none, or names no registry; the sentence says what to change.
    """
    try:
        re.compile(pattern)
        too_slow = _too_slow(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"found {pattern!r:.80}, which is no regular expression ({error}); look for a missing bracket or backslash"
        ) from error
    if too_slow:
        raise ValueError(
            f"found {pattern!r:.80}, {too_slow}, so that it might hold the hub for long; write it with at most three of `*`, `+` and `{{}}`, "
            "none of them about something that repeats or has alternatives itself, as in `[a-z0-9/-]*` for `([a-z0-9-]+/)*`"
        )
    first, slash, rest = pattern.partition("/")
    registry = re.sub(r"\\([.:-])", r"\1", first)
    if not slash or not rest or not _REGISTRY.fullmatch(registry):
        raise ValueError(
            f"found {pattern!r:.80}, which does not begin with one registry and a slash, so that it might open any; "
            r"write one for each registry, as in `registry\.example\.org/cms/.*`"
        )
    if re.search(r"(?<!\\)\.", first):
        raise ValueError(
            f"found {pattern!r:.80}, in whose registry a dot stands for any character; write `{re.escape(registry)}/`"
        )
    return registry


def opens(pattern: str, reference: Reference) -> bool:
    """Whether the pattern lets people type this image."""
    meant = replace(reference, tag="") if reference.digest else reference
    return registry_of(pattern) == reference.registry and bool(re.fullmatch(pattern, str(meant)))


def is_open(patterns: Iterable[str], reference: Reference) -> bool:
    """Whether one of the patterns does."""
    return any(opens(pattern, reference) for pattern in patterns)


def describe_pattern(pattern: str) -> str:
    """What it opens, for people: ``registry.example.org/cms/…`` where that says all."""
    if not _PLAIN.fullmatch(pattern):
        return f"images of {registry_of(pattern)} whose whole name matches {pattern}"
    return re.sub(r"\\(.)", r"\1", pattern.replace(".*", "…"))


def opens_all_of_anybody(pattern: str) -> bool:
    """Whether it opens every image of a registry where anybody can put one."""
    registry = registry_of(pattern)
    probe = Reference(registry, "nobody-has-this/nor-this", "0.0-nor-this")
    return registry in ANYBODY and opens(pattern, probe)


class _Nested(ValueError):
    """A repetition of what can match in several ways itself: the ways grow with the power of the name's length."""


def _too_slow(pattern: str) -> str:
    """Why matching may take long, as part of a sentence; empty when it cannot."""
    try:
        repeats, others = _ways(_parser.parse(pattern))
    except _Nested:
        return "which repeats what repeats or has alternatives itself"
    return "which can match in too many ways" if comb(LONGEST, repeats) * others > MOST_WAYS else ""


def _ways(parts: Iterable[tuple[Any, Any]]) -> tuple[int, int]:
    """How many repetitions of a free length stand behind one another, and how many ways there are beside their lengths."""
    repeats, others = 0, 1
    for operation, argument in parts:
        more, ways = _ways_of(str(operation), argument)
        repeats, others = repeats + more, others * ways
    return repeats, others


def _ways_of(operation: str, argument: Any) -> tuple[int, int]:
    match operation:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, part = argument
            return _repeated(int(least), int(most), *_ways(part))
        case "BRANCH":
            found = [_ways(part) for part in argument[1]]
            return max(repeats for repeats, _ in found), sum(others for _, others in found)
        case "SUBPATTERN" | "ASSERT" | "ASSERT_NOT":
            return _ways(argument[-1])
        case "ATOMIC_GROUP":
            return _ways(argument)
        case "GROUPREF_EXISTS":
            found = [_ways(part or ()) for part in argument[1:]]
            return max(repeats for repeats, _ in found), sum(others for _, others in found)
    return 0, 1


def _repeated(least: int, most: int, repeats: int, others: int) -> tuple[int, int]:
    """The ways of something with these, when it stands there so many times."""
    if most <= 1:
        return repeats, others + (least == 0)
    if repeats == 0 and others == 1:
        return (0, 1) if least == most else (1, 1)
    if least != most or most > 16:
        raise _Nested
    return repeats * most, others**most
