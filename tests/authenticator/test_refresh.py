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

from af_hub.authenticator import ADMINS, IAMAuthenticator
from af_hub.errors import LoginRequired, Refused
from af_hub.iam.claims import Claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.policy.load import PolicyFile
from af_hub.signin import nonce_of
from af_hub.testing.hub import FACILITY, nowhere
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient, read_users
from af_hub.testing.places import USERS
from af_hub.tokens.keeper import Purpose, TokenKeeper
from af_hub.tokens.store import Store

SCOPES = ("openid", "profile", "wlcg.groups", "compute.read", "offline_access")
MORE = """
tokens: {condor: {scopes: [compute.read]}}
agreements: {iam: {url: "https://iam.af-hub.test/aup/sign"}}
"""
HUB = DemoClient("hub", "s3cret", (), SCOPES)


@dataclass
class Bench:
    iam: DemoIAM
    authenticator: IAMAuthenticator
    given: dict[str, str]

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
        keeper = TokenKeeper(store, {iam.issuer: client}, lambda _: Purpose("openid profile wlcg.groups"))
        given = {**nowhere(tmp_path), "AF_PUBLIC_URL": "http://hub.test/", "AF_IAM_DISCOVERY": iam.discovery}
        (tmp_path / "facility.yaml").write_text(FACILITY.read_text() + MORE)
        policy = PolicyFile(tmp_path / "facility.yaml", given)
        yield Bench(iam, IAMAuthenticator(policy_source=policy, keeper=keeper), given)


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


async def test_the_hub_too_knows_groups_by_the_prefix_of_their_issuer(bench: Bench, tmp_path: Path) -> None:
    text = FACILITY.read_text().replace("groups: [/cms/itcms]", "groups: [/lab/cms/itcms]")
    prefixed = tmp_path / "prefixed.yaml"
    prefixed.write_text(
        text.replace(
            "    discovery: ${AF_IAM_DISCOVERY}\n", "    discovery: ${AF_IAM_DISCOVERY}\n    groups_prefix: /lab\n"
        )
    )
    bench.authenticator.policy_source = PolicyFile(prefixed, bench.given)
    model = await bench.authenticator.refresh_user(await bench.log_in("cms-analyst"), browser())
    assert isinstance(model, dict) and model["groups"] == ["/lab/cms", "/lab/cms/itcms"]


async def test_an_agreement_that_is_not_signed_is_named_with_its_place(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    bench.iam.unsign("cms-analyst")
    bench.join("cms-analyst", "/cms/itcms")
    bench.authenticator.keeper._clock = lambda: bench.iam.clock() + 4000
    with pytest.raises(LoginRequired) as told:
        await bench.authenticator.rights_of(user)
    said = "(https://iam.af-hub.test/aup/sign); then log in here again."
    assert said in str(told.value) and str(told.value).endswith("See http://hub.test/hub/af/refused/agreement.")
    (notice,) = bench.authenticator.notices(user)
    assert said in notice.text and notice.log_in


async def test_changes_of_rights_are_in_the_audit_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "af_hub.audit")
    user = await bench.log_in("cms-analyst")
    assert await bench.authenticator.refresh_user(user, browser())
    bench.join("cms-analyst", "/icsc")
    for _ in range(2):
        await bench.authenticator.refresh_user(user, browser())
    bench.join("cms-analyst", "/cms")
    bench.authenticator.keeper._clock = lambda: bench.iam.clock() + 30
    await bench.authenticator.refresh_user(user, browser())
    told = [record.getMessage() for record in caplog.records if record.name == "af_hub.audit"]
    assert len(told) == 2 and all("rights of 'cms-analyst' changed" in line for line in told), told
    assert "got account u-icsc-cms-analyst charged to icsc" in told[0] and "lost login, image python-base" in told[1]


async def test_an_iam_that_is_down_logs_nobody_out(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    bench.join("cms-analyst", "/cms")
    bench.iam.down = True
    model = await bench.authenticator.refresh_user(user, browser())
    assert isinstance(model, dict) and model["groups"] == ["/cms", "/cms/itcms"]
    rights, _ = await bench.authenticator.rights_of(user)
    assert rights.login


async def test_people_are_told_what_is_wrong_with_their_login(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    authenticator = bench.authenticator
    await authenticator.session_token(user)
    assert authenticator.notices(user) == [] == authenticator.notices(None)
    bench.iam.down = True
    authenticator.keeper._clock = lambda: bench.iam.clock() + 3000
    await authenticator.session_token(user)
    [notice] = authenticator.notices(user)
    assert "cannot be reached" in notice.text and "503" not in notice.text and not notice.log_in
    bench.iam.recover()
    bench.iam.revoke("cms-analyst")
    authenticator.keeper._clock = lambda: bench.iam.clock() + 3300
    await authenticator.session_token(user)
    [notice] = authenticator.notices(user)
    assert notice.log_in and "go on; their access token is good until" in notice.text


async def test_issuer_that_the_policy_drops_lets_nobody_in(bench: Bench) -> None:
    user = await bench.log_in("cms-analyst")
    assert await bench.authenticator.refresh_user(user, browser())
    policy = bench.authenticator.policy
    other = policy.issuers[0].model_copy(update={"issuer": "https://other.test/"})
    changed = policy.model_copy(update={"issuers": [other]})
    bench.authenticator.policy_source = SimpleNamespace(current=lambda: changed)
    assert await bench.authenticator.refresh_user(user, browser()) is False
    assert await bench.authenticator.refresh_user(user, with_token()) is False


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
    bench.authenticator.keeper._store = bench.authenticator.keeper._records = None
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
