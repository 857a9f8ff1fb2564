"""What the policy gives a person and which rule gave it, in words: ``af-hub explain``."""

from collections.abc import Iterator
from datetime import UTC, datetime

from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, facility_groups, left_out, volumes_in_conflict
from af_hub.policy.index import begins
from af_hub.policy.model import Policy
from af_hub.policy.rules import Override
from af_hub.policy.units import describe_bytes, describe_seconds
from af_hub.policy.units import describe_instant as instant

NOT_IN_FORCE = "So this file is not in force anywhere: hub, controller and access point keep what they read before, until it is mended."
"""What to say after the mistakes of a file."""


def explain(policy: Policy, claims: Claims, rights: Rights, source: str, now: float) -> str:
    """Several lines for people.

    Parameters
    ----------
    rights
        What was decided for the instant ``now`` (Unix seconds).
    source
        Where the claims come from.
    """
    return "\n".join([*_lines(policy, claims, rights, source, now), *_overrides(policy, claims, now)])


def _lines(policy: Policy, claims: Claims, rights: Rights, source: str, now: float) -> Iterator[str]:
    groups = facility_groups(policy, claims)
    yield f"{claims.username} ({claims.name or 'no name'}), groups {', '.join(groups) or 'none'}"
    yield from (f"  without {group}, which {_who_says(policy, group)} may say" for group in left_out(policy, claims))
    issuer = policy.issuer(claims.issuer)
    yield f"  from {source}" + (f", issuer {issuer.name}" if issuer and len(policy.issuers) > 1 else "")
    if policy.overrides:
        yield f"  at {instant(datetime.fromtimestamp(now, UTC))}"
    if not rights.login:
        yield f"may not log in: {rights.refusal}"
        return
    temporary = {one.name for one in policy.overrides}

    def line(what: str, value: str, rules: tuple[str, ...]) -> str:
        kinds = (
            ("override", [name for name in rules if name in temporary]),
            ("rule", [name for name in rules if name not in temporary]),
        )
        given = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds if names)
        return f"{what}{': ' if value else ''}{value}  [{given}]"

    yield line("may log in", "", rights.because["login"])
    if rights.admin:
        yield line("is an admin", "", rights.because["admin"])
    for kind, names in (("image", rights.images), ("size", rights.sizes), ("site", rights.sites)):
        if not names:
            yield f"{kind}s: none"
        for name in names:
            yield line(kind, f"{name} ({_title(policy, kind, name)})", rights.because[f"{kind} {name}"])
    for pattern in rights.own_images:
        yield line("own image", pattern, rights.because[f"own image {pattern}"])
    for name in rights.volumes:
        volume = policy.volumes[name]
        yield line("volume", f"{name} ({volume.title}) at {volume.path}", rights.because[f"volume {name}"])
    if conflict := volumes_in_conflict(policy, rights):
        yield f"  where sessions are pods, none starts: {conflict}"
    if rights.condor:
        yield line("HTCondor account", rights.condor.account, rights.because["condor"])
        yield line("accounting group", rights.condor.accounting_group, rights.because["condor"])
    else:
        yield "HTCondor account: none, so no Dask clusters at sites"
    if rights.limits:
        limits = rights.limits
        yield line(
            "limits",
            f"{count(limits.clusters, 'cluster')}, {count(limits.cores, 'core')}, {describe_bytes(limits.memory)} memory, "
            f"{describe_seconds(limits.lifetime)} each cluster",
            rights.because["limits"],
        )


def _overrides(policy: Policy, claims: Claims, now: float) -> Iterator[str]:
    """Those that speak of this person, with what they are now."""
    for rule in policy.index.speaking_of(claims.username, facility_groups(policy, claims)):
        if isinstance(rule, Override):
            yield f"override {rule.name!r}: {state(rule, now)}; {rule.reason}"


def _who_says(policy: Policy, group: str) -> str:
    """Whose group it is: the longest prefix counts."""
    holders = [one for one in policy.issuers if begins(group, (f"{one.groups_prefix}/",))]
    prefix = max((one.groups_prefix for one in holders), key=len)
    return f"only issuer {' or '.join(one.name for one in holders if one.groups_prefix == prefix)}"


def state(override: Override, now: float) -> str:
    """Whether it is in force at this instant, and when that changes."""
    if override.in_force(now):
        return f"in force until {instant(override.until)}"
    if override.begins and now < override.begins.timestamp():
        return f"not in force before {instant(override.begins)}"
    return f"over since {instant(override.until)}"


def count(number: int, what: str) -> str:
    """``4 cores``, ``1 core``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _title(policy: Policy, kind: str, name: str) -> str:
    if kind == "image":
        return policy.images[name].title
    return policy.sizes[name].title if kind == "size" else policy.sites[name].title
