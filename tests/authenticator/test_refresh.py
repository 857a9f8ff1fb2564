"""Rights are decided again at every refresh, and no failure of the IAM locks anybody out.

The authenticator is the real one, its keeper talks to a demo IAM; only JupyterHub around it is missing.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from traitlets import TraitError
from traitlets.config import Config

from af_hub.authenticator import ADMINS, IAMAuthenticator, nonce_of
from af_hub.errors import Refused
from af_hub.iam.claims import Claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.policy.load import PolicyFile
from af_hub.testing.hub import FACILITY, USERS, nowhere
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient, read_users
from af_hub.tokens.keeper import Purpose, TokenKeeper
from af_hub.tokens.store import Store

SCOPES = ("openid", "profile", "wlcg.groups", "compute.read", "offline_access")
HUB = DemoClient("hub", "s3cret", (), SCOPES)


@dataclass
class Bench:
    iam: DemoIAM
    authenticator: IAMAuthenticator

    async def log_in(self, username: str) -> SimpleNamespace:
        user = self.iam.users[username]
        claims = Claims(self.iam.issuer, user.subject, username, user.groups)
        await self.authenticator.keeper.enrol(claims, self.iam.grant(HUB, username, SCOPES))
        return SimpleNamespace(name=username)

    def join(self, username: str, *groups: str) -> None:
        """From now on the user is in these groups; and the claims recorded last are old."""
        self.iam.users[username] = replace(self.iam.users[username], groups=groups)
        self.authenticator.auth_refresh_age = 1
        self.authenticator.keeper._clock = lambda: self.iam.clock() + 10


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with DemoIAM(read_users(USERS), [HUB]) as iam:
        client = IAMClient(Discovery(iam.issuer, iam.discovery), "hub", "s3cret")
        store = Store(tmp_path / "keeper.sqlite", [Fernet(Fernet.generate_key())])
        keeper = TokenKeeper(store, {iam.issuer: client}, Purpose("openid profile wlcg.groups"))
        policy = PolicyFile(FACILITY, {**nowhere(tmp_path), "AF_IAM_DISCOVERY": iam.discovery})
        yield Bench(
            iam, IAMAuthenticator(policy_source=policy, client=client, keeper=keeper, condor_scopes=["compute.read"])
        )


def browser() -> Any:
    """A request with a cookie: JupyterHub 6.1.1 does not set ``_token_authenticated`` then."""
    return SimpleNamespace()


def with_token() -> Any:
    """A request with a hub token."""
    return SimpleNamespace(_token_authenticated=True)


async def test_model_has_groups_but_no_admin_flag_and_no_secret(bench: Bench) -> None:
    user = await bench.log_in("facility-admin")
    assert await bench.authenticator.refresh_user(user, browser()) == {
        "name": "facility-admin",
        "admin": False,
        "groups": ["/af", "/af/admins", ADMINS],
        "auth_state": None,
    }


async def test_who_left_the_group_is_out_at_the_next_refresh(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    assert await bench.authenticator.refresh_user(user, browser())
    bench.join("cms-analyst", "/cms")
    assert await bench.authenticator.refresh_user(user, browser()) is False
    assert await bench.authenticator.refresh_user(user, with_token()) is False
    with pytest.raises(Refused):
        await bench.authenticator.condor_token("cms-analyst")


async def test_admin_is_lost_with_the_group(bench: Bench) -> None:
    user = await bench.log_in("facility-admin")
    bench.join("facility-admin", "/icsc")
    model = await bench.authenticator.refresh_user(user, browser())
    assert isinstance(model, dict) and ADMINS not in model["groups"]


async def test_a_group_of_that_name_makes_no_admin(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    bench.join("cms-analyst", "/cms/itcms", ADMINS)
    model = await bench.authenticator.refresh_user(user, browser())
    assert isinstance(model, dict) and model["groups"] == ["/af-admins", "/cms/itcms"]


async def test_an_iam_that_is_down_logs_nobody_out(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    bench.join("cms-analyst", "/cms")
    bench.iam.down = True
    model = await bench.authenticator.refresh_user(user, browser())
    assert isinstance(model, dict) and model["groups"] == ["/cms", "/cms/itcms"]
    rights, _ = await bench.authenticator.rights_of(user)
    assert rights.login


async def test_ended_login_ends_the_browsers_but_not_the_session(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    bench.join("cms-analyst", "/cms", "/cms/itcms")
    bench.iam.revoke("cms-analyst")
    assert await bench.authenticator.refresh_user(user, browser()) is False
    assert await bench.authenticator.refresh_user(user, with_token()) is True


async def test_cookies_get_the_attribute_that_jupyterhub_reads(bench: Bench) -> None:
    request = browser()
    await bench.authenticator.refresh_user(SimpleNamespace(name="nobody"), request)
    assert request._token_authenticated is False


async def test_refresh_never_raises(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    bench.authenticator.keeper._store.close()
    bench.authenticator.keeper._store = None
    assert await bench.authenticator.refresh_user(user, browser()) is True


async def test_blocked_user_is_out(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    bench.authenticator.blocked_users = {"cms-analyst"}
    assert await bench.authenticator.refresh_user(user, browser()) is False


async def test_condor_token_is_for_the_pool_of_the_policy(bench: Bench) -> None:
    await bench.log_in("icsc-analyst")
    token = await bench.authenticator.condor_token("icsc-analyst")
    assert bench.iam.verified(token.value)["aud"] == "htcondor.af-hub.test"


def test_refresh_cannot_be_switched_off_by_mistake() -> None:
    with pytest.raises(TraitError, match="more than 0"):
        IAMAuthenticator(auth_refresh_age=0)


def test_secret_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    config = Config({"IAMAuthenticator": {"client_secret_file": str(tmp_path / "secret")}})
    assert IAMAuthenticator(config=config).client_secret == "s3cret"


def test_nonce_tells_nothing_of_the_verifier() -> None:
    assert nonce_of("v" * 43) != nonce_of("w" * 43) and "vv" not in nonce_of("v" * 43)
