"""A policy and people by chance, ordinary and odd, from a seed: the same ones each time."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

ISSUERS = ("https://iam-a.test/", "https://iam-b.test/")
GROUPS = ("/cms", "/cms/itcms", "/cms/itcms/muons", "/icsc", "/atlas", "/atlas/it-2", "/af/admins")
IMAGES, SIZES, SITES = ("analysis", "base", "gpu"), ("small", "medium", "large"), ("T2_A", "T2_B", "T3_C")
ODD_NAMES = ("x", "a.b", "a-b_c.d", "n" * 63, "o0", "site1", "u-cms", "null", "true", "root", "operator", "site-x")
NO_NAMES = ("Ada", "ada lovelace", "ädä", "a@b", "-a", "cms-{0}", "n" * 64)


def some(chance: random.Random, names: tuple[str, ...], most: int = 9) -> list[str]:
    return chance.sample(names, chance.randint(0, min(most, len(names))))


def gifts(chance: random.Random, number: str) -> dict[str, Any]:
    """What a rule or an override gives; each part is there or not."""
    found: dict[str, Any] = {"images": some(chance, IMAGES), "sizes": some(chance, SIZES), "sites": some(chance, SITES)}
    if chance.random() < 0.7:
        found["login"] = True
    if chance.random() < 0.2:
        found["admin"] = True
    if chance.random() < 0.6:
        found["condor"] = {"account": f"u-{number}-{{username}}", "accounting_group": f"g{number}.all"}
    if chance.random() < 0.1:
        found["condor"] = {"account": f"prod-{number}", "accounting_group": f"p{number}", "shared_account": True}
    if chance.random() < 0.7:
        found["limits"] = {
            "clusters": chance.randint(1, 2),
            "cores": chance.choice((1, 3, 16)),
            "memory": chance.choice(("1 GiB", "12 GiB")),
            "lifetime": chance.choice(("1 h", "7 d")),
        }
    return found


def make_policy(chance: random.Random, now: datetime, names: list[str]) -> dict[str, Any]:
    """As ``facility.yaml`` would be read."""
    days = [timedelta(days=number) for number in (-9, -1, 1, 9)]
    overrides = []
    for number in range(8):
        begin, end = sorted(chance.sample(days, 2))
        overrides.append(
            {
                "name": f"override {number}",
                "groups": some(chance, GROUPS, 1),
                "people": chance.sample(names, 4),
                "from": (now + begin).isoformat(),
                "until": (now + end).isoformat(),
                "reason": "by chance",
                **gifts(chance, f"o{number}"),
            }
        )
    plain = {"account": "{username}", "accounting_group": "plain"}
    pool = {"collector": "c:9618", "schedd": "s", "audience": "a", "ca_file": "/ca.pem", "job_tokens": True}
    return {
        "facility": {"name": "By chance", "contact": "help@test"},
        "issuers": [
            {"name": "a", "issuer": ISSUERS[0], "client_id": "a"},
            {"name": "b", "issuer": ISSUERS[1], "client_id": "b", "groups_prefix": chance.choice(("/cms", "/b"))},
        ],
        "rules": [
            {
                "name": f"rule {number}",
                "groups": chance.sample(GROUPS, chance.randint(1, 2)),
                **gifts(chance, f"r{number}"),
            }
            for number in range(7)
        ]
        + [{"name": "all", "groups": ["/everybody"], "login": True, "condor": plain}],
        "overrides": overrides,
        "images": {name: {"title": name.title(), "environment": f"/images/{name}"} for name in IMAGES},
        "sizes": {name: {"title": name.title(), "cpus": 1, "memory": "1 GiB"} for name in SIZES},
        "pools": {"main": pool},
        "sites": {name: {"title": name, "pool": "main"} for name in SITES},
    }


def make_names(count: int) -> list[str]:
    """User names as an IAM may have them, each once; those that the hub does not take come first."""
    return [*NO_NAMES, *ODD_NAMES, *(f"user{number}" for number in range(count))][:count]


def make_people(chance: random.Random, names: list[str], now: datetime) -> Iterator[dict[str, Any]]:
    """What an IAM says of each, in one of its two profiles."""
    for number, name in enumerate(names):
        issuer = chance.choice((*ISSUERS, *ISSUERS, *ISSUERS, "https://iam-elsewhere.test/"))
        groups = [group for group in GROUPS if chance.random() < 0.25] + (["/everybody"] if number % 5 == 0 else [])
        said: dict[str, Any] = {"iss": issuer, "sub": f"subject-{number}", "preferred_username": name}
        if chance.random() < 0.5:
            said["wlcg.groups"] = groups
        else:
            said["groups"] = [group.strip("/") for group in groups]
        if not groups and chance.random() < 0.5:  # IAM leaves an empty claim out
            said.pop("wlcg.groups", None)
            said.pop("groups", None)
        yield said


def at_utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
