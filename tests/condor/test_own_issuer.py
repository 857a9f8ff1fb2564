"""Tokens that the hub signs, at a real pool: whom it takes their bearers for, and whom not."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from af_hub.condor.mapping import Person, compile_mapping
from af_hub.iam.claims import Claims
from af_hub.policy.load import load_policy
from af_hub.policy.model import Policy
from af_hub.testing.condor import RealPool, map_demo_people
from af_hub.testing.condor_person import account_of
from af_hub.testing.iam import DemoIAM
from af_hub.testing.places import CONFIGURATION
from af_hub.tokens.issuer_keys import KeyFile
from af_hub.tokens.own_issuer import OwnIssuer
from af_hub.tokens.purposes import Purpose, condor_purpose

pytestmark = pytest.mark.real

HUB = "https://hub.af-hub.test/"


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    """The demo's, with tokens for the pool signed by the hub."""
    monkeypatch.setenv("AF_PUBLIC_URL", HUB)
    found = load_policy(CONFIGURATION / "facility.yaml", lenient=True)
    tokens = found.tokens.model_copy(update={"condor": found.tokens.condor.model_copy(update={"by": "hub"})})
    return found.model_copy(update={"tokens": tokens})


@pytest.fixture
def purpose(policy: Policy) -> Purpose:
    return condor_purpose(policy.tokens.condor, policy.pools["main"].audience)


@pytest.fixture
def issuer(condor_pool: RealPool, iam: DemoIAM, policy: Policy, tmp_path: Path) -> Iterator[OwnIssuer]:
    """The pool knows the hub's keys, and people as this policy says."""
    made = OwnIssuer(KeyFile(tmp_path / "keys.json", 30 * 86400.0, time.time), lambda: policy)
    condor_pool.seed_issuer(policy.own_issuer, json.dumps(made.key_set()))
    people = [Person(iam.issuer, user.subject, user.username) for user in iam.users.values()]
    condor_pool.map_people(compile_mapping(policy, people, time.time()))
    yield made
    map_demo_people(condor_pool, iam)


def test_signed_tokens_are_those_of_the_same_person(
    condor_pool: RealPool, iam: DemoIAM, issuer: OwnIssuer, purpose: Purpose, tmp_path: Path
) -> None:
    def account(person: Claims, purpose: Purpose = purpose) -> str | None:
        return account_of(condor_pool, issuer.sign(person, purpose).value, tmp_path / "who")

    user = iam.users["cms-analyst"]
    person = Claims(iam.issuer, user.subject, user.username, user.groups)
    by_iam = iam.mint("cms-analyst", scope=purpose.scope, audience=purpose.audience, profile="wlcg")
    assert account(person) == "u-cms-cms-analyst" == account_of(condor_pool, by_iam, tmp_path / "who")
    assert account(replace(person, subject="another", username="cms-analyst")) is None  # the pair counts, not the name
    assert account(replace(person, groups=("/cms",))) is None
    assert account(person, replace(purpose, audience="store.test")) is None
    assert account(person, replace(purpose, scope="storage.read:/ wlcg.groups")) is None
