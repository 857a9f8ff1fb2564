"""What the policy gives one person. The hub, the controller, the access point and ``af-hub explain`` all ask here."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from af_hub.iam.claims import USERNAME, Claims
from af_hub.policy.model import Limits, Policy, Rule


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


def decide(policy: Policy, claims: Claims) -> Rights:
    """The rights of ``claims``: lists add up over all rules that match, ``condor`` and ``limits`` come from the first that has them.

    Somebody who may not log in has no right at all, whatever other rules say.
    """
    if claims.issuer not in {issuer.issuer for issuer in policy.issuers}:
        return Rights(
            login=False, refusal=f"{claims.username} comes from {claims.issuer}, which this facility does not know."
        )
    rules = [rule for rule in policy.rules if set(rule.groups) & set(claims.groups)]
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
