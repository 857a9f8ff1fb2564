"""What the policy gives one person. The hub, the controller, the access point and ``af-hub explain`` all ask here."""

import math
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from af_hub.iam.claims import USERNAME, Claims
from af_hub.policy.model import Limits, Override, Policy, Rule


@dataclass(frozen=True)
class CondorRights:
    """Who somebody is for HTCondor, and who is charged."""

    account: str
    accounting_group: str


@dataclass(frozen=True)
class Rights:
    """What one person may do; empty means no.

    Parameters
    ----------
    refusal
        Why there is no login, in a sentence fit for that person; empty when ``login``.
    images, sizes, sites
        Names in the order of the policy's rules.
    because
        For each right that was given, the names of the rules that gave it.
    """

    login: bool
    refusal: str = ""
    admin: bool = False
    images: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    condor: CondorRights | None = None
    limits: Limits | None = None
    because: dict[str, tuple[str, ...]] = field(default_factory=dict)


def decide(policy: Policy, claims: Claims, now: float) -> Rights:
    """The rights of ``claims`` at the instant ``now`` (Unix seconds), which overrides depend on.

    Lists add up over all rules that match, ``condor`` and ``limits`` come from the first that has them; overrides in force stand
    before the rules. Somebody who may not log in has no right at all, whatever other rules say.
    """
    if claims.issuer not in {issuer.issuer for issuer in policy.issuers}:
        return Rights(
            login=False, refusal=f"{claims.username} comes from {claims.issuer}, which this facility does not know."
        )
    groups = set(facility_groups(policy, claims))
    rules = [rule for rule in rules_in_force(policy, now) if matches(rule, claims.username, groups)]
    if not any(rule.login for rule in rules):
        return Rights(login=False, refusal=_refusal(policy, claims))
    condor = next((rule for rule in rules if rule.condor), None)
    limits = next((rule for rule in rules if rule.limits), None)
    because = {
        "login": tuple(rule.name for rule in rules if rule.login),
        "admin": tuple(rule.name for rule in rules if rule.admin),
        **{
            f"image {name}": tuple(rule.name for rule in rules if name in rule.images) for name in _all(rules, "images")
        },
        **{f"size {name}": tuple(rule.name for rule in rules if name in rule.sizes) for name in _all(rules, "sizes")},
        **{f"site {name}": tuple(rule.name for rule in rules if name in rule.sites) for name in _all(rules, "sites")},
        "condor": (condor.name,) if condor else (),
        "limits": (limits.name,) if limits else (),
    }
    return Rights(
        login=True,
        admin=any(rule.admin for rule in rules),
        images=_all(rules, "images"),
        sizes=_all(rules, "sizes"),
        sites=_all(rules, "sites"),
        condor=condor_rights(condor, claims.username) if condor else None,
        limits=limits.limits if limits else None,
        because={right: names for right, names in because.items() if names},
    )


def rules_in_force(policy: Policy, now: float) -> list[Rule]:
    """What counts at this instant, in order: overrides, then rules."""
    return [*(override for override in policy.overrides if override.in_force(now)), *policy.rules]


def next_change(policy: Policy, now: float) -> float:
    """When the next override begins or ends (Unix seconds); infinity when none does."""
    instants = (edge.timestamp() for one in policy.overrides for edge in (one.begins, one.until) if edge)
    return min((instant for instant in instants if instant > now), default=math.inf)


def facility_groups(policy: Policy, claims: Claims) -> tuple[str, ...]:
    """The groups of ``claims`` as the rules write them: with the prefix of their issuer."""
    issuer = policy.issuer(claims.issuer)
    prefix = issuer.groups_prefix if issuer else ""
    return tuple(prefix + group for group in claims.groups)


def matches(rule: Rule, username: str, groups: Set[str]) -> bool:
    """Whether the rule speaks of this person."""
    return not groups.isdisjoint(rule.groups) or username in people_of(rule)


def people_of(rule: Rule) -> list[str]:
    """Whom the rule names; only an override names people."""
    return rule.people if isinstance(rule, Override) else []


def condor_rights(rule: Rule, username: str) -> CondorRights | None:
    """The account of ``username`` under ``rule``; None when the rule gives none, or the name cannot be one."""
    if rule.condor is None or not USERNAME.match(username):
        return None
    return CondorRights(rule.condor.account.replace("{username}", username), rule.condor.accounting_group)


def _all(rules: list[Rule], key: str) -> tuple[str, ...]:
    """Names of all rules, each once, in the order in which they first stand."""

    def names() -> Iterator[str]:
        for rule in rules:
            yield from getattr(rule, key)

    return tuple(dict.fromkeys(names()))


def _refusal(policy: Policy, claims: Claims) -> str:
    wanted = list(dict.fromkeys(group for rule in policy.rules if rule.login for group in rule.groups))
    return (
        f"{claims.username} is in none of the groups that may log in here: {', '.join(wanted) or 'there are none'} "
        f"(the IAM says: {', '.join(claims.groups) or 'no groups'}). To be let in, ask {policy.facility.contact} for one of them."
    )
