"""The hub's clients follow the policy and the files of secrets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from af_hub.errors import Refused, Unavailable
from af_hub.policy.issuers import Issuer
from af_hub.policy.model import Policy
from af_hub.tokens.clients import IAMClients

CMS, ICSC = "https://cms.test/", "https://icsc.test"


def policy(*issuers: dict[str, Any]) -> Any:
    made = [Issuer(**issuer) for issuer in issuers]
    return SimpleNamespace(issuers=made, issuer=lambda name: Policy.issuer(SimpleNamespace(issuers=made), name))


@pytest.fixture
def state(tmp_path: Path) -> SimpleNamespace:
    (tmp_path / "secret").write_text("first\n")
    now = policy(
        {"name": "cms", "issuer": CMS},
        {"name": "icsc", "issuer": ICSC, "client_id": "other", "client_secret_file": str(tmp_path / "secret")},
    )
    return SimpleNamespace(policy=now, secret=tmp_path / "secret")


@pytest.fixture
def clients(state: SimpleNamespace) -> IAMClients:
    return IAMClients(lambda: state.policy, "hub", "common")


def test_each_issuer_has_its_client_or_the_common_one(clients: IAMClients) -> None:
    told = {
        issuer: (client.client_id, client.client_secret, client.discovery.url) for issuer, client in clients.items()
    }
    assert told == {
        CMS: ("hub", "common", "https://cms.test/.well-known/openid-configuration"),
        ICSC: ("other", "first", "https://icsc.test/.well-known/openid-configuration"),
    }
    assert clients[CMS] is clients[CMS] and "first" not in repr(clients[ICSC])


def test_new_secret_counts_without_a_restart(clients: IAMClients, state: SimpleNamespace) -> None:
    before = clients[ICSC]
    state.secret.unlink()
    with pytest.raises(Unavailable, match=r"icsc .*No such file"):
        clients[ICSC]
    assert ICSC in clients and clients[CMS]
    state.secret.write_text("second\n")
    assert clients[ICSC].client_secret == "second" and before.client_secret == "first"


def test_issuer_that_the_policy_drops_is_gone(clients: IAMClients, state: SimpleNamespace) -> None:
    assert clients[CMS]
    state.policy = policy({"name": "icsc", "issuer": ICSC})
    assert list(clients) == [ICSC] and CMS not in clients and clients.named("").discovery.issuer == ICSC
    with pytest.raises(KeyError):
        clients[CMS]


def test_choice_by_name(clients: IAMClients) -> None:
    assert clients.named("icsc").client_id == "other"
    with pytest.raises(Refused, match="wanted one of cms, icsc"):
        clients.named("lhcb")
    with pytest.raises(Refused, match="several issuers"):
        clients.named("")
