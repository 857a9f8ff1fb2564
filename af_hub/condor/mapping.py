"""From the policy and the people to what the access point reads: the mapping program's table and the accounting map.

Decides only; :mod:`af_hub.condor.watch` writes the files, :mod:`af_hub.condor.mapper` reads the table beside every login. The
outcome for a person is that of :func:`af_hub.policy.decide.decide`; a test compares the two.
"""

import json
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from operator import attrgetter

from af_hub.errors import PolicyError
from af_hub.iam.claims import own_subject
from af_hub.policy.accounts import may_be_account
from af_hub.policy.decide import CondorRights, condor_rights, people_of, rules_in_force
from af_hub.policy.model import Policy
from af_hub.policy.rules import Rule


@dataclass(frozen=True)
class Person:
    """Somebody who has logged in at the hub: the pair that never changes, and the name at the hub."""

    issuer: str
    subject: str
    username: str


@dataclass(frozen=True)
class Mapping:
    """What the access point reads.

    Parameters
    ----------
    table
        JSON for the mapping program.
    accounting_map
        Lines ``* account accounting_group`` (HTCondor manual, ClassAd function ``userMap``).
    refused
        Accounts that two people would have, or that belong to HTCondor itself: nobody gets them.
    """

    table: str
    accounting_map: str
    refused: tuple[str, ...]


def read_people(text: str) -> list[Person]:
    """People out of JSON: a list of ``{"issuer", "subject", "username"}``.

    Raises
    ------
    PolicyError
        When it is anything else.
    """
    try:
        return [Person(str(one["issuer"]), str(one["subject"]), str(one["username"])) for one in json.loads(text)]
    except (ValueError, LookupError, TypeError) as error:
        wanted = 'a JSON list of {"issuer", "subject", "username"} was wanted'
        raise PolicyError(f"the list of people cannot be read: {wanted} ({type(error).__name__})") from error


def compile_mapping(policy: Policy, people: Iterable[Person], now: float) -> Mapping:
    """Table and accounting map for these people at the instant ``now``, which overrides depend on.

    Somebody of an issuer that the policy does not know is left out.
    """
    known = {issuer.issuer for issuer in policy.issuers}
    ours = sorted((person for person in set(people) if person.issuer in known), key=attrgetter("issuer", "subject"))
    in_force = rules_in_force(policy, now)
    rules = [rule for rule in in_force if rule.condor]
    given = {
        (person, rights)
        for rule, named in templates(rules)
        for person in ours
        if (named is None or person.username in named) and (rights := condor_rights(rule, person.username))
    }
    refused = refuse(given, {rule.condor.account for rule in rules if rule.condor and rule.condor.shared_account})
    table = {
        "version": 3,
        "people": {pair: person.username for person in ours for pair in pairs(policy, person)},
        "prefixes": {issuer.issuer: issuer.groups_prefix for issuer in policy.issuers if issuer.groups_prefix},
        "foreign": {issuer: found for issuer, found in policy.index.foreign.items() if found},
        "login": sorted({group for rule in in_force if rule.login for group in rule.groups}),
        "login_people": sorted({name for rule in in_force if rule.login for name in people_of(rule)}),
        "refused": list(refused),
        "rules": [
            {"groups": rule.groups, "people": people_of(rule), "account": rule.condor.account}
            for rule in rules
            if rule.condor
        ],
    }
    charged = {
        f"* {rights.account} {rights.accounting_group}\n" for _, rights in given if rights.account not in refused
    }
    return Mapping(json.dumps(table, indent=1) + "\n", "".join(sorted(charged)), refused)


def pairs(policy: Policy, person: Person) -> list[str]:
    """Issuer and subject of this person's tokens, as the table has them: the IAM's, and the hub's own where it signs those for the pool."""
    found = [f"{person.issuer},{person.subject}"]
    if policy.own_issuer and policy.tokens_of(person.issuer).condor.by == "hub":
        found.append(f"{policy.own_issuer},{own_subject(person.issuer, person.subject)}")
    return found


def templates(rules: Iterable[Rule]) -> list[tuple[Rule, Set[str] | None]]:
    """One rule for each account template and accounting group, and who alone can get it by name; None when anybody could by a group.

    Of a thousand rules most share a few templates, and each template makes an account for each person.
    """
    found: dict[tuple[str, str], tuple[Rule, set[str] | None]] = {}
    for rule in rules:
        if rule.condor:
            key = rule.condor.account, rule.condor.accounting_group
            first, named = found.get(key, (rule, set()))
            found[key] = first, None if rule.groups or named is None else named | set(people_of(rule))
    return list(found.values())


def refuse(given: Set[tuple[Person, CondorRights]], shared: Set[str]) -> tuple[str, ...]:
    """Accounts that nobody may have: HTCondor's own, those of two people, and those charged to two accounting groups."""
    owners = Counter(account for account, _ in {(rights.account, person) for person, rights in given})
    charged = Counter(account for account, _ in {(rights.account, rights.accounting_group) for _, rights in given})
    return tuple(
        account
        for account in sorted(owners)
        if not may_be_account(account) or charged[account] > 1 or (owners[account] > 1 and account not in shared)
    )
