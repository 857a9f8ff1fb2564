"""Device flow, exchange, introspection, revocation, SCIM and the end of a login at the demo IAM: it refuses what the real one refuses."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_device import SLOWER_SECONDS
from af_hub.testing.iam_exchange import ExchangePolicy
from af_hub.testing.iam_oauth import DEVICE_GRANT, EXCHANGE_GRANT, SCOPES, DemoClient
from af_hub.testing.iam_state import write_state
from af_hub.testing.iam_tokens import DemoUser, SigningKeys

ADA = DemoUser("ada", "sub-ada", "Ada Muon", "ada@af-hub.test", ("/cms", "/cms/itcms"))
OUT = "https://hub.af-hub.test/out"
HUB = DemoClient("hub", "s3cret", post_logout_redirect_uris=(OUT,))
OTHER = DemoClient("other", "0ther", scopes=("openid", "compute.read", "offline_access", "storage.read:/"))
READER = DemoClient("reader", "r3ad", scopes=("scim:read",))
KEYS = SigningKeys()


@pytest.fixture
async def iam(tmp_path: Path) -> AsyncIterator[DemoIAM]:
    now, state = [1_000_000.0], tmp_path / "state.json"
    write_state(state, KEYS, {})  # making an RSA key takes longer than all else here
    async with DemoIAM([ADA], [HUB, OTHER, READER], clock=lambda: now[0], state=state) as iam:
        iam.later = lambda seconds: now.__setitem__(0, now[0] + seconds)  # type: ignore[attr-defined]
        yield iam


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


async def ask(
    iam: DemoIAM, http: httpx.AsyncClient, path: str, client: DemoClient = HUB, **form: str
) -> httpx.Response:
    return await http.post(iam.url + path, data=form, auth=(client.client_id, client.client_secret))


async def begin(iam: DemoIAM, http: httpx.AsyncClient, **form: str) -> dict[str, Any]:
    answer = await ask(iam, http, "devicecode", **{"scope": "openid profile wlcg.groups offline_access", **form})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def poll(
    iam: DemoIAM, http: httpx.AsyncClient, begun: dict[str, Any], client: DemoClient = HUB
) -> httpx.Response:
    return await ask(iam, http, "token", client, grant_type=DEVICE_GRANT, device_code=begun["device_code"])


# --- device flow


async def test_device_flow_with_its_pages(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    begun = await begin(iam, http)
    assert (await poll(iam, http, begun)).json()["error"] == "authorization_pending"
    page = await http.get(begun["verification_uri_complete"])
    assert f'value="{begun["user_code"]}"' in page.text
    typed = begun["user_code"].replace("-", " ").lower()
    choose = await http.post(iam.url + "device/verify", data={"user_code": typed})
    assert begun["user_code"] in choose.text and "hub" in choose.text and "/cms/itcms" in choose.text
    yes = {"user_code": begun["user_code"], "user": "ada"}
    assert "You are signed in" in (await http.post(iam.url + "device/approve", data=yes)).text
    iam.later(5)  # type: ignore[attr-defined]
    answer = (await poll(iam, http, begun)).json()
    assert iam.verified(answer["access_token"])["wlcg.groups"] == ["/cms", "/cms/itcms"]
    identity = jwt.decode(answer["id_token"], options={"verify_signature": False})
    assert identity["preferred_username"] == "ada" and "nonce" not in identity
    assert answer["refresh_token"] in iam.refresh_tokens()
    again = (await poll(iam, http, begun)).json()
    assert again["error"] == "invalid_grant", "a device code counts once"


async def test_who_asks_too_often_must_slow_down(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    begun = await begin(iam, http)
    await poll(iam, http, begun)
    assert (await poll(iam, http, begun)).json()["error"] == "slow_down"
    iam.later(begun["interval"])  # type: ignore[attr-defined]
    assert (await poll(iam, http, begun)).json()["error"] == "slow_down", "the interval has grown"
    iam.later(begun["interval"] + 2 * SLOWER_SECONDS)  # type: ignore[attr-defined]
    assert (await poll(iam, http, begun)).json()["error"] == "authorization_pending"


async def test_device_flow_ends_without_a_login(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    refused, late = await begin(iam, http), await begin(iam, http)
    no = {"user_code": refused["user_code"], "refuse": "yes"}
    assert "Nothing was signed in" in (await http.post(iam.url + "device/approve", data=no)).text
    assert (await poll(iam, http, refused)).json()["error"] == "access_denied"
    assert (await poll(iam, http, late, OTHER)).json()["error"] == "invalid_grant", "another client's code"
    iam.later(601)  # type: ignore[attr-defined]
    assert (await poll(iam, http, late)).json()["error"] == "expired_token"
    old = await http.post(iam.url + "device/verify", data={"user_code": late["user_code"]})
    assert old.status_code == 400 and 'role="alert"' in old.text


async def test_device_flow_is_for_clients_that_may(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    assert (await ask(iam, http, "devicecode", READER, scope="openid")).json()["error"] == "invalid_scope"
    assert (await http.post(iam.url + "devicecode", data={"client_id": "hub"})).status_code == 401
    iam.clients["hub"] = replace(HUB, grants=("authorization_code",))
    assert (await ask(iam, http, "devicecode")).json()["error"] == "unauthorized_client"
    found = await ask(iam, http, "token", grant_type=DEVICE_GRANT, device_code="x")
    assert found.json()["error"] == "unauthorized_client"


# --- exchange


def exchange(**form: str) -> dict[str, str]:
    token_type = "urn:ietf:params:oauth:token-type:access_token"
    return {"grant_type": EXCHANGE_GRANT, "subject_token_type": token_type, **form}


async def test_exchange_for_an_audience(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    shown = iam.mint("ada", "openid compute.read", client_id="hub")
    form = exchange(subject_token=shown, audience="pool.test", scope="compute.read")
    answer = (await ask(iam, http, "token", OTHER, **form)).json()
    claims = iam.verified(answer["access_token"])
    assert (claims["sub"], claims["aud"], claims["scope"]) == ("sub-ada", "pool.test", "compute.read")
    assert claims["client_id"] == "other" and claims["act"] == {"sub": "other"}
    assert answer["issued_token_type"] == "urn:ietf:params:oauth:token-type:jwt" and "refresh_token" not in answer


@pytest.mark.parametrize(
    "changed, error",
    [
        pytest.param({"scope": "openid offline_access"}, "access_denied", id="offline_access for the same client"),
        pytest.param({"scope": "scim:read"}, "invalid_scope", id="more than the origin client may have"),
        pytest.param({"actor_token": "x"}, "invalid_request", id="delegation"),
        pytest.param({"subject_token": "x"}, "invalid_grant", id="no token"),
        pytest.param({"subject_token_type": "urn:x"}, "invalid_request", id="another type"),
    ],
)
async def test_exchange_is_refused(iam: DemoIAM, http: httpx.AsyncClient, changed: dict[str, str], error: str) -> None:
    form = exchange(subject_token=iam.mint("ada", "openid", client_id="hub"), scope="compute.read")
    assert (await ask(iam, http, "token", **{**form, **changed})).json()["error"] == error


async def test_exchange_of_a_dead_token_or_without_a_policy(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    form = exchange(subject_token=iam.mint("ada", "openid", client_id="hub", lifetime=-1))
    assert (await ask(iam, http, "token", **form)).json()["error"] == "invalid_grant"
    form = exchange(subject_token=iam.mint("ada", "openid", client_id="hub"))
    iam.unsign("ada")
    assert "needs to sign AUP" in (await ask(iam, http, "token", **form)).json()["error_description"]
    iam.users["ada"] = ADA
    iam.exchanges = (ExchangePolicy(actor="other"),)
    answer = await ask(iam, http, "token", **form)
    assert answer.status_code == 403 and "No applicable policies" in answer.json()["error_description"]
    assert (await ask(iam, http, "token", OTHER, **form)).status_code == 200


async def test_exchange_with_offline_access_for_another_client(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    form = exchange(subject_token=iam.mint("ada", "openid", client_id="hub"), scope="openid offline_access")
    answer = (await ask(iam, http, "token", OTHER, **form)).json()
    again = await ask(iam, http, "token", OTHER, grant_type="refresh_token", refresh_token=answer["refresh_token"])
    assert again.status_code == 200


# --- refresh


async def test_refresh_is_refused_as_iam_does(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": iam.grant(HUB, "ada", ("openid",))}
    iam.unsign("ada")
    answer = (await ask(iam, http, "token", **form)).json()
    assert answer["error"] == "invalid_grant" and "ada needs to sign AUP" in answer["error_description"]
    iam.users["ada"] = replace(ADA, active=False)
    assert "not active" in (await ask(iam, http, "token", **form)).json()["error_description"]
    iam.users["ada"] = ADA
    assert (await ask(iam, http, "token", **form)).status_code == 200, "a refusal uses nothing up"


async def test_refresh_tokens_may_be_reused_by_clients_of_that_kind(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    iam.clients["hub"] = client = replace(HUB, reuse_refresh_tokens=True)
    form = {"grant_type": "refresh_token", "refresh_token": iam.grant(client, "ada", ("openid",))}
    for _ in range(2):
        assert (await ask(iam, http, "token", **form)).json()["refresh_token"] == form["refresh_token"]


async def test_renamed_and_regrouped(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": iam.grant(HUB, "ada", ("openid", "profile", "wlcg.groups"))}
    iam.rename("ada", "augusta")
    iam.regroup("augusta", "/icsc")
    token = (await ask(iam, http, "token", **form)).json()["access_token"]
    told = await http.get(iam.url + "userinfo", headers={"Authorization": f"Bearer {token}"})
    assert told.json() == {
        "sub": "sub-ada",
        "name": "Ada Muon",
        "preferred_username": "augusta",
        "wlcg.groups": ["/icsc"],
    }


# --- introspection and revocation


async def test_introspection(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    token, refresh = iam.mint("ada", client_id="hub"), iam.grant(HUB, "ada", ("openid",))
    found = (await ask(iam, http, "introspect", token=token)).json()
    assert found["active"] and (found["username"], found["sub"], found["client_id"]) == ("ada", "sub-ada", "hub")
    assert (await ask(iam, http, "introspect", token=refresh)).json()["active"]
    assert (await ask(iam, http, "introspect", token="guessed")).json() == {"active": False}
    assert (await http.post(iam.url + "introspect", data={"token": token})).status_code == 401
    iam.later(3600)  # type: ignore[attr-defined]
    assert (await ask(iam, http, "introspect", token=token)).json() == {"active": False}


async def test_revocation(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    token, refresh = iam.mint("ada", client_id="hub"), iam.grant(HUB, "ada", ("openid",))
    assert (await ask(iam, http, "revoke", OTHER, token=refresh)).json()["error"] == "unauthorized_client"
    assert (await ask(iam, http, "revoke", OTHER, token=token)).json()["error"] == "unauthorized_client"
    for one in token, refresh, "guessed":
        assert (await ask(iam, http, "revoke", token=one)).status_code == 200
    assert (await http.get(iam.url + "userinfo", headers={"Authorization": f"Bearer {token}"})).status_code == 401
    again = await ask(iam, http, "token", grant_type="refresh_token", refresh_token=refresh)
    assert again.json()["error"] == "invalid_grant"


# --- client credentials and SCIM


async def test_scim_is_read_by_a_client_of_its_own(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    iam.users |= {f"p{n}": DemoUser(f"p{n}", f"sub-{n}", groups=("/icsc",)) for n in range(249)}
    token = (await ask(iam, http, "token", READER, grant_type="client_credentials")).json()
    assert token["scope"] == "scim:read" and "refresh_token" not in token
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    found: list[str] = []
    while True:
        params = {"startIndex": len(found) + 1, "count": 500}
        page = (await http.get(iam.url + "scim/Users", params=params, headers=headers)).json()
        found += [person["id"] for person in page["Resources"]]
        assert page["itemsPerPage"] == len(page["Resources"]) <= 100 and page["totalResults"] == 250
        if not page["Resources"]:
            break
    assert len(found) == len(set(found)) == 250
    ada = (await http.get(iam.url + "scim/Users/sub-ada", headers=headers)).json()
    assert ada["userName"] == "ada" and [group["display"] for group in ada["groups"]] == ["cms", "cms/itcms"]
    groups = (await http.get(iam.url + "scim/Groups", headers=headers)).json()["Resources"]
    assert [group["displayName"] for group in groups] == ["cms", "cms/itcms", "icsc"]


async def test_scim_wants_its_scope(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    assert (await ask(iam, http, "token", grant_type="client_credentials", scope="scim:read")).json()["error"] == (
        "invalid_scope"
    )
    assert (await http.get(iam.url + "scim/Users")).status_code == 401
    headers = {"Authorization": f"Bearer {iam.mint('ada', ' '.join(SCOPES))}"}
    assert (await http.get(iam.url + "scim/Users", headers=headers)).status_code == 403


# --- the end of a login


async def test_end_of_a_login(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    hint = iam.id_token(ADA, HUB, ("openid",), "")
    iam.later(10_000)  # type: ignore[attr-defined]
    asked = {"id_token_hint": hint, "post_logout_redirect_uri": OUT, "state": "st"}
    answer = await http.get(iam.url + "endsession", params=asked)
    assert answer.status_code == 303 and answer.headers["Location"] == OUT + "?state=st"
    assert iam.logged_out == ["sub-ada"]


async def test_who_shows_no_id_token_is_not_sent_on(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    asked = {"client_id": "hub", "post_logout_redirect_uri": OUT}
    answer = await http.get(iam.url + "endsession", params=asked)
    assert answer.status_code == 200 and f'href="{OUT}"' in answer.text and iam.logged_out == []
    answer = await http.get(iam.url + "endsession", params={**asked, "client_id": "other"})
    assert answer.status_code == 200 and "href" not in answer.text


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"post_logout_redirect_uri": "https://evil.test/"}, id="an address that is not registered"),
        pytest.param({"id_token_hint": "forged"}, id="no id token of ours"),
        pytest.param({"client_id": "other"}, id="another client's id token"),
    ],
)
async def test_end_of_a_login_leads_nowhere_else(
    iam: DemoIAM, http: httpx.AsyncClient, changed: dict[str, str]
) -> None:
    asked = {"id_token_hint": iam.id_token(ADA, HUB, ("openid",), ""), "post_logout_redirect_uri": OUT}
    answer = await http.post(iam.url + "endsession", data={**asked, **changed})
    assert answer.status_code == 200 and "signed out" in answer.text


# --- people and faults


async def test_agreement_is_signed_at_the_next_login(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    iam.unsign("ada")
    begun = await begin(iam, http)
    form = {"user_code": begun["user_code"], "user": "ada"}
    page = await http.post(iam.url + "device/approve", data=form)
    assert "There is an agreement to sign" in page.text
    assert (await poll(iam, http, begun)).json()["error"] == "authorization_pending"
    assert "signed in" in (await http.post(iam.url + "device/approve", data={**form, "sign": "yes"})).text
    assert iam.users["ada"].signed


async def test_everything_stands_in_the_discovery(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    found = (await http.get(iam.discovery)).json()
    names = {"device_authorization", "introspection", "revocation", "end_session", "scim"}
    assert all(found[f"{name}_endpoint"].startswith(iam.url) for name in names)
    assert {DEVICE_GRANT, EXCHANGE_GRANT, "client_credentials"} <= set(found["grant_types_supported"])


async def test_busy_says_when_to_come_again_and_recovers(iam: DemoIAM, http: httpx.AsyncClient) -> None:
    iam.faults["scim"] = "busy"
    answer = await http.get(iam.url + "scim/Users/x")
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
    iam.down, iam.clock = True, lambda: 0.0
    iam.recover()
    assert (await http.get(iam.url + "scim/Users/x")).status_code == 401 and iam.clock() == 1_000_000


def test_rotated_keys() -> None:
    iam = DemoIAM([ADA], [])
    old, kids = iam.mint("ada"), set(iam.keys.kids.values())
    iam.rotate_keys()
    new = iam.mint("ada")
    assert iam.verified(old) and iam.verified(new)
    assert jwt.get_unverified_header(new)["kid"] not in kids
    iam.rotate_keys(keep=False)
    with pytest.raises(KeyError):
        iam.verified(new)
