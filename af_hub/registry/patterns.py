"""Which images people may type: the patterns of ``own_images`` in ``facility.yaml``.

A pattern is a regular expression (of Rust's ``regex``, which pydantic brings) which must match the name in full, from its first to its last
character. Its first part, up to the first slash, names one registry letter by letter, and it matches images of that registry only, whatever
stands behind: so neither a dot nor an alternative ever opens another one. Where a name has a tag and a digest, nothing ever asks what the
tag means, so the name without the tag must match: else a pattern for some tags would open every image of that path.

Promises: to match takes time in proportion to the name, whatever the pattern: the hub does so in its loop, and Python's own ``re`` would try every
way in which a pattern could match.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

from af_hub.registry.reference import REGISTRY, Reference

_REGISTRY = re.compile(REGISTRY)
# What can stand in a pattern that is meant letter by letter but for `.*`.
_PLAIN = re.compile(r"(?:[A-Za-z0-9/:@_-]|\\[.:/@_-]|\.\*)*")
ANYBODY = ("docker.io", "ghcr.io", "quay.io")
"""Registries where anybody can put an image."""


def registry_of(pattern: str) -> str:
    """The registry whose images the pattern is about.

    Raises
    ------
    ValueError
        When the pattern is none, or names no registry; the sentence says what to change.
    """
    try:
        _matcher(pattern)
    except SchemaError as error:
        why = str(error).strip().splitlines()[-1].removeprefix("error: ")
        raise ValueError(
            f"found {pattern!r:.80}, which is no regular expression that can be used here ({why}); look for a missing bracket or backslash, "
            "and do without look-around and back references"
        ) from error
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
    return registry_of(pattern) == reference.registry and _matcher(pattern).isinstance_python(str(meant))


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


@lru_cache(maxsize=1000)
def _matcher(pattern: str) -> SchemaValidator:
    """Takes what the pattern matches in full.

    Raises
    ------
    SchemaError
        When it is no pattern; alone, too, since ``a)|(b`` is one as soon as something stands around it.
    """
    SchemaValidator(core_schema.str_schema(pattern=pattern))
    return SchemaValidator(core_schema.str_schema(pattern=rf"\A(?:{pattern})\z"))
