"""A policy of two thousand groups and ten thousand people, and how it would be decided without an index; for tests and benches."""

from collections.abc import Iterator

from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, facility_groups, rules_in_force
from af_hub.policy.model import Policy

ISSUER = "https://iam.test/"
GROUPS, PEOPLE, OF_ONE = 2_000, 10_000, 8


def group(number: int) -> str:
    return f"/experiment{number // 20}/group{number % 20}"


def large_policy(groups: int = GROUPS) -> Policy:
    """One rule a group; every fiftieth person has an override."""
    condor = {"account": "u-{username}", "accounting_group": "all"}
    gifts = {"login": True, "images": ["i"], "sizes": ["s"], "sites": ["T"], "condor": condor}
    limits = {"clusters": 1, "cores": 1, "memory": "1 GiB", "lifetime": "1 h"}
    return Policy.model_validate(
        {
            "facility": {"name": "Large", "contact": "help@test"},
            "issuers": [{"issuer": ISSUER}],
            "rules": [
                {"name": f"rule {number}", "groups": [group(number)], "limits": limits, **gifts}
                for number in range(groups)
            ],
            "overrides": [
                {
                    "name": f"override {number}",
                    "people": [f"user{number * 50}"],
                    "until": "2030-01-01T00:00:00Z",
                    "reason": "r",
                    "limits": {**limits, "cores": 2},
                }
                for number in range(groups // 10)
            ],
            "images": {"i": {"title": "I"}},
            "sizes": {"s": {"title": "S", "cpus": 1, "memory": "1 GiB"}},
            "pools": {"p": {"collector": "c", "schedd": "s", "audience": "a", "ca_file": "/c"}},
            "sites": {"T": {"title": "T", "pool": "p"}},
        }
    )


def people(count: int = PEOPLE, groups: int = GROUPS) -> Iterator[Claims]:
    """Each in a few groups; every hundredth in none that the policy has."""
    for number in range(count):
        some = [group((number * 7 + step * 251) % groups) for step in range(OF_ONE)]
        unknown = tuple(f"{one}-x" for one in some)
        yield Claims(ISSUER, f"s{number}", f"user{number}", unknown if number % 100 == 99 else tuple(sorted(some)))


def plain_limits(policy: Policy, claims: Claims, now: float) -> tuple[bool, tuple[str, ...], int]:
    """Login, the rules that let in, and cores, by going through all rules: what an index spares."""
    groups = set(facility_groups(policy, claims))
    rules = [
        rule
        for rule in rules_in_force(policy, now)
        if groups.intersection(rule.groups) or claims.username in getattr(rule, "people", ())
    ]
    login = tuple(rule.name for rule in rules if rule.login)
    limits = next((rule.limits for rule in rules if rule.limits), None)
    return bool(login), login, limits.cores if limits and login else 0


def same(rights: Rights) -> tuple[bool, tuple[str, ...], int]:
    """The same of a decision."""
    return rights.login, rights.because.get("login", ()), rights.limits.cores if rights.limits else 0
