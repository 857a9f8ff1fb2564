"""The demo IAM refuses what the real one refuses; whoever trusts it in other tests trusts these."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient, read_clients
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.process import Daemon

REDIRECT = "http://127.0.0.1:1/hub/oauth_callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ADA = DemoUser("ada", "sub-ada", "Ada", "ada@af-hub.test", ("/cms", "/cms/itcms"))
BOB = DemoUser("bob", "sub-bob")
HUB = DemoClient("hub", "s3cret", (REDIRECT,))
SCOPE = "openid profile email wlcg.groups compute.read offline_access"


@pytest.fixture
async def demo() -> AsyncIterator[DemoIAM]:
    async with DemoIAM([ADA, BOB], [HUB, DemoClient("other", "0ther", (REDIRECT,))]) as iam:
        yield iam


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


def asked(**changed: str | None) -> dict[str, str]:
    params: dict[str, str | None] = {
        "response_type": "code",
        "client_id": "hub",
        "redirect_uri": REDIRECT,
        "scope": SCOPE,
        "state": "st",
        "nonce": "no",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in {**params, **changed}.items() if value is not None}


async def code_for(iam: DemoIAM, http: httpx.AsyncClient, username: str = "ada", **changed: str | None) -> str:
    page = await http.get(iam.url + "authorize", params=asked(**changed))
    ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
    answer = await http.post(iam.url + "login", data={"ticket": ticket, "user": username})
    assert answer.status_code == 303, answer.text
    return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


async def token(
    iam: DemoIAM, http: httpx.AsyncClient, auth: tuple[str, str] | None = ("hub", "s3cret"), **form: str
) -> Any:
    return await http.post(iam.url + "token", data=form, auth=auth)


async def redeem(iam: DemoIAM, http: httpx.AsyncClient, code: str, /, **changed: str) -> Any:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    return await token(iam, http, **{**form, **changed})


async def log_in(iam: DemoIAM, http: httpx.AsyncClient, username: str = "ada", **changed: str | None) -> dict[str, Any]:
    answer = await redeem(iam, http, await code_for(iam, http, username, **changed))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_discovery_names_the_issuer_that_tokens_have(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    found = (await http.get(demo.discovery)).json()
    assert found["issuer"] == "https://iam.af-hub.test/"
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert {key["kid"] for key in (await http.get(found["jwks_uri"])).json()["keys"]} == set(demo.keys.kids.values())


async def test_login_page_shows_who_the_users_are_and_escapes_it(http: httpx.AsyncClient) -> None:
    users = [ADA, DemoUser("eve", "sub-eve", about="<script>alert(1)</script>")]
    async with DemoIAM(users, [HUB]) as iam:
        page = await http.get(iam.url + "authorize", params=asked())
    assert "ada" in page.text and "/cms/itcms" in page.text
    assert "<script>" not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "changed, error",
    [
        pytest.param({"code_challenge": None}, "invalid_request", id="no PKCE"),
        pytest.param({"code_challenge_method": "plain"}, "invalid_request", id="plain PKCE"),
        pytest.param({"code_challenge_method": None}, "invalid_request", id="PKCE without method, which means plain"),
        pytest.param({"response_type": "token"}, "unsupported_response_type", id="implicit"),
        pytest.param({"scope": "profile"}, "invalid_scope", id="no openid"),
        pytest.param({"scope": "openid admin"}, "invalid_scope", id="a scope the client may not have"),
    ],
)
async def test_bad_request_goes_back_as_error(
    demo: DemoIAM, http: httpx.AsyncClient, changed: dict[str, str], error: str
) -> None:
    answer = await http.get(demo.url + "authorize", params=asked(**changed))
    assert answer.status_code == 303 and answer.headers["Location"].startswith(REDIRECT + "?")
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["error"] == [error]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"redirect_uri": REDIRECT + "/"}, id="a slash more"),
        pytest.param({"redirect_uri": REDIRECT + "?x=1"}, id="a query more"),
        pytest.param({"redirect_uri": "http://evil.test/"}, id="elsewhere"),
        pytest.param({"redirect_uri": None}, id="none"),
        pytest.param({"client_id": "stranger"}, id="unknown client"),
    ],
)
async def test_unknown_client_or_address_is_never_redirected_to(
    demo: DemoIAM, http: httpx.AsyncClient, changed: Any
) -> None:
    answer = await http.get(demo.url + "authorize", params=asked(**changed))
    assert answer.status_code == 400 and "Location" not in answer.headers


async def test_login_form_counts_once(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    page = await http.get(demo.url + "authorize", params=asked())
    ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
    form = {"ticket": ticket, "user": "ada"}
    assert (await http.post(demo.url + "login", data=form)).status_code == 303
    assert (await http.post(demo.url + "login", data=form)).status_code == 400
    assert (await http.post(demo.url + "login", data={"user": "ada"})).status_code == 400


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_tokens_are_signed_with_a_published_key(http: httpx.AsyncClient, algorithm: str) -> None:
    async with DemoIAM([ADA], [HUB], algorithm=algorithm) as iam:
        answer = await log_in(iam, http)
        keys = jwt.PyJWKSet.from_dict((await http.get(iam.jwks)).json())
    for name, audience in ("id_token", "hub"), ("access_token", "https://wlcg.cern.ch/jwt/v1/any"):
        header = jwt.get_unverified_header(answer[name])
        assert header["alg"] == algorithm
        claims = jwt.decode(answer[name], keys[header["kid"]], [algorithm], issuer=iam.issuer, audience=audience)
        assert claims["sub"] == "sub-ada"


async def test_wlcg_profile(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    answer = await log_in(demo, http)
    access = demo.verified(answer["access_token"])
    assert access["wlcg.groups"] == ["/cms", "/cms/itcms"] and access["wlcg.ver"] == "1.0"
    assert not {"groups", "preferred_username", "email"} & set(access)
    identity = jwt.decode(answer["id_token"], options={"verify_signature": False})
    assert identity["nonce"] == "no" and identity["preferred_username"] == "ada"
    told = await http.get(demo.url + "userinfo", headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert told.json()["wlcg.groups"] == ["/cms", "/cms/itcms"] and "groups" not in told.json()


async def test_iam_profile_has_no_slash(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    answer = await log_in(demo, http, scope="openid profile iam")
    access = demo.verified(answer["access_token"])
    assert not {"wlcg.groups", "wlcg.ver", "aud"} & set(access)
    told = await http.get(demo.url + "userinfo", headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert told.json()["groups"] == ["cms", "cms/itcms"] and "wlcg.groups" not in told.json()


@pytest.mark.parametrize(
    "username, scope",
    [pytest.param("ada", "openid profile", id="scope not granted"), pytest.param("bob", SCOPE, id="no groups")],
)
async def test_groups_are_left_out(demo: DemoIAM, http: httpx.AsyncClient, username: str, scope: str) -> None:
    answer = await log_in(demo, http, username, scope=scope)
    assert "wlcg.groups" not in demo.verified(answer["access_token"])
    assert "wlcg.groups" not in jwt.decode(answer["id_token"], options={"verify_signature": False})


async def test_no_refresh_token_without_offline_access(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    assert "refresh_token" not in await log_in(demo, http, scope="openid")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"code_verifier": "w" * 43}, id="another verifier"),
        pytest.param({"code_verifier": ""}, id="no verifier"),
        pytest.param({"redirect_uri": REDIRECT + "/"}, id="another address"),
        pytest.param({"code": "guessed"}, id="unknown code"),
    ],
)
async def test_code_is_not_redeemed(demo: DemoIAM, http: httpx.AsyncClient, changed: dict[str, str]) -> None:
    answer = await redeem(demo, http, await code_for(demo, http), **changed)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_code_counts_once_and_for_its_client(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    code = await code_for(demo, http)
    assert (await redeem(demo, http, code)).status_code == 200
    assert (await redeem(demo, http, code)).json()["error"] == "invalid_grant"
    form = {"grant_type": "authorization_code", "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    stolen = await token(demo, http, ("other", "0ther"), code=await code_for(demo, http), **form)
    assert stolen.json()["error"] == "invalid_grant"


async def test_client_must_know_its_secret(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    code = await code_for(demo, http)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    assert (await token(demo, http, ("hub", "wrong"), **form)).status_code == 401
    assert (await token(demo, http, None, **form)).json()["error"] == "invalid_client"
    assert (await token(demo, http, None, **form, client_id="hub", client_secret="s3cret")).status_code == 200


async def test_refresh_rotates_and_an_old_one_ends_the_family(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    first = (await log_in(demo, http))["refresh_token"]
    second = (await token(demo, http, grant_type="refresh_token", refresh_token=first)).json()["refresh_token"]
    assert second != first
    third = (await token(demo, http, grant_type="refresh_token", refresh_token=second)).json()["refresh_token"]
    assert (await token(demo, http, grant_type="refresh_token", refresh_token=first)).json()["error"] == "invalid_grant"
    assert (await token(demo, http, grant_type="refresh_token", refresh_token=third)).json()["error"] == "invalid_grant"


async def test_refresh_for_less(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    refresh = (await log_in(demo, http))["refresh_token"]
    form = {"grant_type": "refresh_token", "scope": "compute.read wlcg.groups", "audience": "pool.test"}
    answer = (await token(demo, http, refresh_token=refresh, **form)).json()
    claims = demo.verified(answer["access_token"])
    assert (claims["aud"], claims["scope"]) == ("pool.test", "compute.read wlcg.groups")
    assert claims["exp"] - claims["iat"] == answer["expires_in"] == 600
    whole = (await token(demo, http, grant_type="refresh_token", refresh_token=answer["refresh_token"])).json()
    assert whole["scope"] == SCOPE
    more = await token(
        demo, http, grant_type="refresh_token", refresh_token=whole["refresh_token"], scope="openid storage.read:/"
    )
    assert more.json()["error"] == "invalid_scope"


async def test_userinfo_refuses_what_is_not_good(demo: DemoIAM, http: httpx.AsyncClient) -> None:
    async def status(bearer: str) -> int:
        return (await http.get(demo.url + "userinfo", headers={"Authorization": f"Bearer {bearer}"})).status_code

    assert await status(demo.mint("ada")) == 200
    assert await status(demo.mint("ada", lifetime=-1)) == 401
    assert await status(demo.mint("ada", scope="compute.read")) == 401
    assert await status(DemoIAM([ADA], []).mint("ada")) == 401
    assert await status("nonsense") == 401


def test_clients_file_must_be_private(tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    file.write_text(json.dumps([{"client_id": "hub", "client_secret": "s3cret"}]))
    file.chmod(0o640)
    with pytest.raises(PermissionError, match="0600"):
        read_clients(file)
    file.chmod(0o600)
    assert "s3cret" not in repr(read_clients(file))


@pytest.mark.slow
def test_as_a_program(tmp_path: Path) -> None:
    clients = tmp_path / "clients.json"
    clients.touch(0o600)
    clients.write_text("[]")
    users = tmp_path / "users.yaml"
    users.write_text("- {username: ada, subject: sub-ada, groups: [/cms]}\n")
    argv = [sys.executable, "-m", "af_hub.testing.iam", "--users", str(users), "--clients", str(clients)]
    with Daemon("IAM", [*argv, "--ready-fd", "{ready_fd}", "--fault", "scim=busy"], tmp_path / "iam.log") as daemon:
        facts = daemon.ready()
        assert httpx.get(facts["discovery"]).json()["issuer"] == facts["issuer"]
        assert httpx.get(facts["url"] + "scim/Users").status_code == 429
    clients.chmod(0o644)
    assert subprocess.run(argv, capture_output=True, timeout=20, env=dict(os.environ), check=False).returncode != 0


async def test_started_anew_it_is_the_same_iam(tmp_path: Path, http: httpx.AsyncClient) -> None:
    file = tmp_path / "state.json"
    async with DemoIAM([ADA], [HUB], state=file) as before:
        found = await log_in(before, http)
        keys = before.keys.published()
        again = {"grant_type": "refresh_token", "refresh_token": found["refresh_token"]}
        newer = (await token(before, http, **again)).json()
    assert file.stat().st_mode & 0o777 == 0o600
    async with DemoIAM([ADA], [HUB], state=file) as after:
        assert after.keys.published() == keys
        assert after.verified(found["access_token"])["sub"] == ADA.subject
        newest = await token(after, http, grant_type="refresh_token", refresh_token=newer["refresh_token"])
        assert newest.status_code == 200
        assert (await token(after, http, **again)).status_code == 400, "a refresh token used before betrays a thief"
    async with DemoIAM([ADA], [HUB], state=file) as last:
        left = await token(last, http, grant_type="refresh_token", refresh_token=newest.json()["refresh_token"])
        assert left.status_code == 400, "the family stays revoked"


async def test_a_client_that_is_gone_takes_its_grants_along(tmp_path: Path, http: httpx.AsyncClient) -> None:
    file = tmp_path / "state.json"
    async with DemoIAM([ADA], [HUB], state=file) as before:
        await log_in(before, http)
    async with DemoIAM([ADA], [DemoClient("other", "0ther", (REDIRECT,))], state=file) as after:
        assert not after.refresh_tokens()
