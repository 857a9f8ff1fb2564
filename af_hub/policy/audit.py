"""Lines of the audit log about the policy: overrides that come into force and end, and decisions that matter.

Each process that follows ``facility.yaml`` writes those of the overrides, since each acts on them; the hub writes those of people. The
logger is that of all audit lines, ``af_hub.audit``. What comes from an IAM is quoted, so that it cannot be taken for a line of ours.
"""

import logging
from collections.abc import Iterator, Mapping

from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, facility_groups
from af_hub.policy.model import Policy
from af_hub.policy.rules import Override
from af_hub.policy.units import describe_instant

log = logging.getLogger("af_hub.audit")


class OverrideLog:
    """Which overrides were in force when somebody looked last."""

    def __init__(self) -> None:
        self._known: dict[str, Override] = {}

    def look(self, policy: Policy, now: float) -> None:
        """Write a line for each override that has come into force since, and for each that no longer is; ``now`` in Unix seconds."""
        found = {one.name: one for one in policy.overrides if one.in_force(now)}
        for line in override_lines(self._known, found, now):
            log.info("audit: %s", line)
        self._known = found


def override_lines(before: Mapping[str, Override], after: Mapping[str, Override], now: float) -> Iterator[str]:
    """What to write when these were in force before, and those are now."""
    for name, one in before.items():
        if name not in after:
            why = "its time is over" if one.until.timestamp() <= now else "facility.yaml no longer has it"
            yield f"override {name!r} has ended: {why}; it was for {_whom(one)}: {one.reason!r}"
    for name, one in after.items():
        if name not in before:
            yield f"override {name!r} is in force until {describe_instant(one.until)} for {_whom(one)}: {_gifts(one)}: {one.reason!r}"
        elif before[name] != one:
            yield f"override {name!r} has changed: until {describe_instant(one.until)} for {_whom(one)}: {_gifts(one)}: {one.reason!r}"


def decision_line(policy: Policy, claims: Claims, rights: Rights) -> str:
    """Who was let in, or was not, and why."""
    who = f"{claims.username!r} ({claims.subject!r} of {claims.issuer!r}, groups {list(facility_groups(policy, claims))!r})"
    if not rights.login:
        return f"login of {who} refused: {rights.refusal!r}"
    return f"login of {who} let in by {', '.join(map(repr, rights.because['login']))}: {', '.join(_held(rights))}"


def change_line(claims: Claims, before: Rights, after: Rights) -> str:
    """What somebody got or lost between two decisions; empty when nothing."""
    had, has = _held(before), _held(after)
    got, lost = [one for one in has if one not in had], [one for one in had if one not in has]
    words = [f"{verb} {', '.join(names)}" for verb, names in (("got", got), ("lost", lost)) if names]
    return f"rights of {claims.username!r} changed: {'; '.join(words)}" if words else ""


def _held(rights: Rights) -> list[str]:
    """Each right in words."""
    if not rights.login:
        return []
    listed = (("image", rights.images), ("size", rights.sizes), ("site", rights.sites))
    return [
        "login",
        *(["admin"] if rights.admin else []),
        *(f"{kind} {name}" for kind, names in listed for name in names),
        *(f"own image {pattern}" for pattern in rights.own_images),
        *([f"account {rights.condor.account} charged to {rights.condor.accounting_group}"] if rights.condor else []),
        *([f"limits {rights.limits}"] if rights.limits else []),
    ]


def _whom(override: Override) -> str:
    groups = [f"members of {', '.join(override.groups)}"] if override.groups else []
    return " and ".join([*groups, *override.people])


def _gifts(override: Override) -> str:
    given = override.model_dump(
        exclude={"name", "groups", "people", "begins", "until", "reason"}, exclude_defaults=True
    )
    return ", ".join(f"{key} {value}" for key, value in given.items()) or "nothing"
