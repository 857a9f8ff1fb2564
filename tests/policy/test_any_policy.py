"""Whatever the policy and the person: decision, plain reading of the rules, and the access point's program say the same."""

import json
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from af_hub.condor import mapper
from af_hub.condor.mapping import Person, compile_mapping
from af_hub.iam.claims import Claims
from af_hub.policy.decide import decide, next_change
from af_hub.policy.explain import explain
from af_hub.policy.load import read_policy

ISSUERS = ("https://a.test/", "https://b.test/")
NAMES = ("ada", "bob", "eve")
PATHS = ("/a", "/b", "/a/a", "/a/b")
NOW = 1_800_000_000
TIMES = st.integers(NOW - 2, NOW + 2)
LOGIN = st.sampled_from((True, True, False))


def written(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def gifts(number):
    condor = st.fixed_dictionaries(
        {"account": st.sampled_from((f"g{number}-{{username}}", "{username}")), "accounting_group": st.just("one")}
    )
    limits = st.fixed_dictionaries(
        {"clusters": st.integers(1, 9), "cores": st.just(1), "memory": st.just("1 GiB"), "lifetime": st.just("1 h")}
    )
    return {
        "admin": st.booleans(),
        "images": st.lists(st.sampled_from(("i", "j")), max_size=2, unique=True),
        "condor": condor,
        "limits": limits,
    }


def rule(number):
    groups = st.lists(st.sampled_from(PATHS), min_size=1, max_size=2)
    needed = {"name": st.just(f"rule {number}"), "groups": groups, "login": LOGIN}
    return st.fixed_dictionaries(needed, optional=gifts(number))


def override(number):
    def with_times(drawn):
        found, (begin, end) = drawn
        return {**found, "from": written(begin), "until": written(end)}

    needed = {
        "name": st.just(f"override {number}"),
        "groups": st.lists(st.sampled_from(PATHS), max_size=2),
        "people": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
        "reason": st.just("r"),
        "login": LOGIN,
    }
    times = st.tuples(TIMES, TIMES).filter(lambda pair: pair[0] < pair[1])
    return st.tuples(st.fixed_dictionaries(needed, optional=gifts(f"o{number}")), times).map(with_times)


def some(kind, least, most):
    return st.integers(least, most).flatmap(
        lambda count: st.tuples(*[kind(number) for number in range(count)]).map(list)
    )


@st.composite
def policies(draw):
    prefixes = draw(st.tuples(*[st.sampled_from(("", "", "/a", "/b", "/a/a"))] * 2))
    found = {
        "facility": {"name": "f", "contact": "c"},
        "issuers": [
            {"issuer": issuer, "name": f"n{number}", "client_id": "x", "groups_prefix": prefix}
            for number, (issuer, prefix) in enumerate(zip(ISSUERS, prefixes, strict=True))
        ],
        "rules": draw(some(rule, 1, 3)),
        "overrides": draw(some(override, 0, 3)),
        "images": {"i": {"title": "I"}, "j": {"title": "J"}},
        "sizes": {},
    }
    return found, read_policy(yaml.safe_dump(found), "facility.yaml", {})


def read_plainly(found, issuer, username, groups, now):
    """Login, images, account and number of clusters, as somebody would who reads the file from its top."""
    prefix = next(one["groups_prefix"] for one in found["issuers"] if one["issuer"] == issuer)
    others = [one["groups_prefix"] for one in found["issuers"] if len(one["groups_prefix"]) > len(prefix)]
    mine = {prefix + group for group in groups}
    mine = {one for one in mine if not any(one == other or one.startswith(f"{other}/") for other in others)}
    in_force = [
        one
        for one in found["overrides"]
        if datetime.fromisoformat(one["from"]).timestamp() <= now < datetime.fromisoformat(one["until"]).timestamp()
    ]
    rules = [
        one for one in [*in_force, *found["rules"]] if mine & set(one["groups"]) or username in one.get("people", ())
    ]
    if not any(one.get("login") for one in rules):
        return False, set(), None, None
    condor = next((one["condor"] for one in rules if "condor" in one), None)
    limits = next((one["limits"] for one in rules if "limits" in one), None)
    images = {name for one in rules for name in one.get("images", ())}
    account = condor["account"].replace("{username}", username) if condor else None
    return True, images, account, limits and limits["clusters"]


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(policies(), st.sampled_from(ISSUERS), st.sampled_from(NAMES), st.sets(st.sampled_from(PATHS)), TIMES)
def test_all_say_the_same(policy, issuer, username, groups, now):
    found, policy = policy
    claims = Claims(issuer, f"s-{username}", username, tuple(sorted(groups)))
    rights = decide(policy, claims, now)
    account = rights.condor.account if rights.condor else None
    said = rights.login, set(rights.images), account, rights.limits and rights.limits.clusters
    assert said == read_plainly(found, issuer, username, groups, now)
    assert bool(rights.refusal) is not rights.login and next_change(policy, now) > now
    text = explain(policy, claims, rights, "a test", now)
    assert ("may log in  [" in text) is rights.login and (account is None or f"HTCondor account: {account}  [" in text)

    people = [Person(issuer, f"s-{name}", name) for name in NAMES]
    mapping = compile_mapping(policy, people, now)
    payload = {"iss": issuer, "sub": claims.subject, "wlcg.groups": list(claims.groups)}
    mapped = mapper.map_account(json.loads(mapping.table), payload)
    assert mapped == (None if account in mapping.refused else account)
    assert mapped is None or f"* {mapped} one\n" in mapping.accounting_map
