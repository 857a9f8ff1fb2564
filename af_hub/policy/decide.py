"""What the policy gives one person. The hub, the controller, the access point and ``af-hub explain`` all ask here."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from af_hub.iam.claims import USERNAME, Claims
from af_hub.policy.accounts import may_be_account
from af_hub.policy.index import begins
from af_hub.policy.model import Policy
from af_hub.policy.refusals import no_login, unknown_issuer
from af_hub.policy.rules import Limits, Override, Rule


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
    images, sizes, sites, volumes
        Names in the order of the policy's rules.
    own_images
        Patterns of images that may be typed (:mod:`af_hub.registry.patterns`).
    because
        For each right that was given, the names of the rules and overrides that gave it.
    """

    login: bool
    refusal: str = ""
    admin: bool = False
    images: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    own_images: tuple[str, ...] = ()
    condor: CondorRights | None = None
    limits: Limits | None = None
    because: dict[str, tuple[str, ...]] = field(default_factory=dict)


def decide(policy: Policy, claims: Claims, now: float) -> Rights:
    """The rights of ``claims`` at the instant ``now`` (Unix seconds), which overrides depend on.

    Lists add up over all rules that match, ``condor`` and ``limits`` come from the first that has them; overrides in force stand
    before the rules. Somebody who may not log in has no right at all, whatever other rules say.
    """
    if claims.issuer not in policy.index.issuers:
        return Rights(login=False, refusal=unknown_issuer(policy, claims))
    speaking = policy.index.speaking_of(claims.username, facility_groups(policy, claims))
    rules = [rule for rule in speaking if counts(rule, now)]
    if not any(rule.login for rule in rules):
        return Rights(login=False, refusal=no_login(policy, claims, facility_groups(policy, claims), speaking, now))
    condor = next((rule for rule in rules if rule.condor), None)
    limits = next((rule for rule in rules if rule.limits), None)
    images, sizes, sites, volumes = (_givers(rules, kind) for kind in ("images", "sizes", "sites", "volumes"))
    own_images = _givers(rules, "own_images")
    because = {
        "login": tuple(rule.name for rule in rules if rule.login),
        "admin": tuple(rule.name for rule in rules if rule.admin),
        **{f"image {name}": tuple(givers) for name, givers in images.items()},
        **{f"size {name}": tuple(givers) for name, givers in sizes.items()},
        **{f"site {name}": tuple(givers) for name, givers in sites.items()},
        **{f"volume {name}": tuple(givers) for name, givers in volumes.items()},
        **{f"own image {pattern}": tuple(givers) for pattern, givers in own_images.items()},
        "condor": (condor.name,) if condor else (),
        "limits": (limits.name,) if limits else (),
    }
    return Rights(
        login=True,
        admin=any(rule.admin for rule in rules),
        images=tuple(images),
        sizes=tuple(sizes),
        sites=tuple(sites),
        volumes=tuple(volumes),
        own_images=tuple(own_images),
        condor=_usable(condor_rights(condor, claims.username)) if condor else None,
        limits=limits.limits if limits else None,
        because={right: names for right, names in because.items() if names},
    )


def counts(rule: Rule, now: float) -> bool:
    """Whether the rule counts at this instant: always, but for an override that is not in force."""
    return not isinstance(rule, Override) or rule.in_force(now)


def rules_in_force(policy: Policy, now: float) -> list[Rule]:
    """What counts at this instant, in order: overrides, then rules."""
    return [rule for rule in (*policy.overrides, *policy.rules) if counts(rule, now)]


def next_change(policy: Policy, now: float) -> float:
    """When the next override begins or ends (Unix seconds); infinity when none does."""
    instants = (edge.timestamp() for one in policy.overrides for edge in (one.begins, one.until) if edge)
    return min((instant for instant in instants if instant > now), default=math.inf)


def volumes_in_conflict(policy: Policy, rights: Rights) -> str:
    """Why these volumes cannot be in one session, in a sentence that says which rules gave them; empty when they can."""
    first: dict[str, str] = {}
    for name in rights.volumes:
        path = policy.volumes[name].path
        other = first.setdefault(path, name)
        if other != name:
            one, two = (f"`{which}` (rule: {', '.join(rights.because[f'volume {which}'])})" for which in (other, name))
            return (
                f"Two volumes want to be at {path}: {one} and {two}. One of them needs another path in facility.yaml; "
                f"ask {policy.facility.contact}."
            )
    return ""


def facility_groups(policy: Policy, claims: Claims) -> tuple[str, ...]:
    """The groups of ``claims`` as the rules write them: with the prefix of their issuer, and without those that are another issuer's."""
    foreign = policy.index.foreign.get(claims.issuer, ())
    return tuple(group for group in _said(policy, claims) if not begins(group, foreign))


def left_out(policy: Policy, claims: Claims) -> tuple[str, ...]:
    """Groups of ``claims`` that count for nothing, as rules would write them: they are at or below the prefix of another issuer."""
    foreign = policy.index.foreign.get(claims.issuer, ())
    return tuple(group for group in _said(policy, claims) if begins(group, foreign))


def _said(policy: Policy, claims: Claims) -> tuple[str, ...]:
    issuer = policy.index.issuers.get(claims.issuer)
    prefix = issuer.groups_prefix if issuer else ""
    return tuple(prefix + group for group in claims.groups) if prefix else claims.groups


def people_of(rule: Rule) -> list[str]:
    """Whom the rule names; only an override names people."""
    return rule.people if isinstance(rule, Override) else []


def condor_rights(rule: Rule, username: str) -> CondorRights | None:
    """The account of ``username`` under ``rule``; None when the rule gives none, or the name cannot be one."""
    if rule.condor is None or not USERNAME.match(username):
        return None
    return CondorRights(rule.condor.account.replace("{username}", username), rule.condor.accounting_group)


def _usable(rights: CondorRights | None) -> CondorRights | None:
    """None for what HTCondor itself or nobody is called: the access point lets nobody have it."""
    return rights if rights and may_be_account(rights.account) else None


def _givers(rules: Iterable[Rule], kind: str) -> dict[str, list[str]]:
    """Each name of this kind in the order in which they first stand, with the rules that give it."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        for name in dict.fromkeys(getattr(rule, kind)):
            found.setdefault(name, []).append(rule.name)
    return found
