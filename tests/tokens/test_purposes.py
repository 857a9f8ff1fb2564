"""Tokens for a purpose: by refresh, by exchange, signed by the hub; the last two against a real token endpoint and a real verifier."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from keeping import HUB, SCOPES, Bench, comes_true

from af_hub.errors import LoginRequired, Unavailable
from af_hub.iam.claims import ANY_AUDIENCE, Claims, own_subject
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy
from af_hub.testing.iam_exchange import ExchangePolicy
from af_hub.tokens import asking
from af_hub.tokens.issuer_keys import KeyFile
from af_hub.tokens.keeper import Purpose
from af_hub.tokens.own_issuer import OwnIssuer, OwnToken
from af_hub.tokens.purposes import condor_purpose, login_scopes, storage_purpose

EXCHANGED = Purpose("storage.read:/", "https://store.test", by="exchange")
SIGNED = Purpose("storage.read:/ wlcg.groups", "store.test", by="hub", lifetime=900)
HUB_ISSUER = "https://hub.test/hub/api/af/issuer"
DAY = 86400.0


def policy(tokens: str = "", issuer_tokens: str = "", prefix: str = "") -> Policy:
    """A facility that signs tokens itself."""
    text = f"""
facility: {{name: T, contact: t@af-hub.test, hub: "https://hub.test/"}}
issuers: [{{issuer: "https://iam.af-hub.test/", groups_prefix: "{prefix}", tokens: {{{issuer_tokens}}}}}]
tokens: {{{tokens}}}
rules: [{{name: r, groups: [/cms], login: true}}]
images: {{}}
sizes: {{}}
"""
    return read_policy(text, "facility.yaml", {})


@pytest.fixture
async def bench(bench: Bench) -> Bench:
    """The hub's client at this IAM may have more than a login there asks for."""
    bench.iam.clients["hub"] = replace(HUB, scopes=(*SCOPES, "storage.read:/"))
    return bench


@pytest.fixture
def signing(bench: Bench, tmp_path: Path) -> OwnIssuer:
    """The hub's own issuer, which the bench's keeper uses."""
    found = policy()
    issuer = OwnIssuer(KeyFile(tmp_path / "keys.json", 30 * DAY, bench.clock), lambda: found, bench.clock)
    bench.keeper._sign = issuer.sign
    return issuer


def read(issuer: OwnIssuer, token: str, now: float, audience: str = "store.test") -> dict[str, object]:
    """What somebody reads in ``token`` who knows nothing but the issuer's public answers."""
    key = next(key for key in issuer.key_set()["keys"] if key["kid"] == jwt.get_unverified_header(token)["kid"])
    claims: dict[str, object] = jwt.decode(
        token,
        jwt.PyJWK(key),
        algorithms=["ES256"],
        audience=audience,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert float(str(claims["nbf"])) <= now < float(str(claims["exp"]))
    return claims


# --- what the policy says


def test_purposes_are_as_the_policy_says() -> None:
    found = policy('storage: {by: hub, lifetime: 5 min, audience: x}, condor: {by: exchange, scopes: ["condor:/READ"]}')
    tokens = found.tokens_of("https://iam.af-hub.test/")
    assert tokens.storage is not None
    assert storage_purpose(tokens.storage) == Purpose("storage.read:/", "x", "hub", 300)
    assert condor_purpose(tokens.condor, "pool") == Purpose("condor:/READ", "pool", "exchange")
    assert found.own_issuer == HUB_ISSUER


@pytest.mark.parametrize(
    "tokens, more",
    [
        pytest.param("storage: {scopes: ['storage.read:/x']}", ["storage.read:/x"], id="by refresh"),
        pytest.param("storage: {by: exchange, scopes: ['storage.read:/x']}", [], id="an exchange asks by itself"),
        pytest.param(
            "storage: {by: hub, scopes: ['storage.read:/x']}", [], id="the hub signs whatever the policy says"
        ),
        pytest.param("", [], id="none"),
    ],
)
def test_a_login_asks_for_what_its_refreshes_need(tokens: str, more: list[str]) -> None:
    found = policy(f"session: {{scopes: [openid]}}, condor: {{by: hub}}{', ' * bool(tokens)}{tokens}")
    assert login_scopes(found.tokens_of("https://iam.af-hub.test/")) == ["openid", *more, "offline_access"]


# --- by exchange


async def test_exchange_shows_the_sessions_token(bench: Bench) -> None:
    await bench.log_in()
    token = await bench.keeper.purpose_token("ada", EXCHANGED)
    claims = bench.iam.verified(token.value)
    assert (claims["scope"], claims["aud"], claims["sub"]) == ("storage.read:/", "https://store.test", "sub-ada")
    assert "act" in claims and bench.iam.asked == ["refresh_token", "token-exchange"]
    assert await bench.keeper.purpose_token("ada", EXCHANGED) == token
    assert "storage" not in str(bench.iam.verified((await bench.keeper.access_token("ada")).value)["scope"])
    bench.clock.now += 400
    assert (await bench.keeper.purpose_token("ada", EXCHANGED)).seconds_left(bench.clock.now) == 600
    assert bench.iam.asked == ["refresh_token", "token-exchange", "token-exchange"]


async def test_a_hundred_at_once_are_one_exchange(bench: Bench) -> None:
    await bench.log_in()
    for _ in range(2):
        tokens = await asyncio.gather(*(bench.keeper.purpose_token("ada", EXCHANGED) for _ in range(100)))
        assert len(set(tokens)) == 1
        bench.clock.now += 7200
    assert bench.iam.asked.count("token-exchange") == 2 == bench.iam.asked.count("refresh_token")


async def test_exchange_that_the_iam_does_not_permit_is_not_asked_for_again_and_again(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.exchanges = (ExchangePolicy(permit=False),)
    for _ in range(5):
        with pytest.raises(Unavailable, match="access_denied"):
            await bench.keeper.purpose_token("ada", EXCHANGED)
    assert bench.iam.asked.count("token-exchange") == 1
    assert await bench.keeper.access_token("ada") and bench.keeper.logged_in("ada") and not bench.keeper.trouble("ada")
    bench.iam.exchanges = (ExchangePolicy(),)
    bench.clock.now += 6
    assert await bench.keeper.purpose_token("ada", EXCHANGED)


async def test_login_that_ended_is_noticed_by_an_exchange(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.purpose_token("ada", EXCHANGED)
    bench.iam.suspend("ada")
    bench.clock.now += 500
    assert await bench.keeper.purpose_token("ada", EXCHANGED) == first  # as long as it is good
    assert not bench.keeper.logged_in("ada")
    bench.clock.now += 200
    with pytest.raises(LoginRequired):
        await bench.keeper.purpose_token("ada", EXCHANGED)
    assert bench.iam.asked.count("token-exchange") == 2


async def test_revoked_token_is_replaced_and_exchanged(bench: Bench) -> None:
    await bench.log_in()
    session = await bench.keeper.access_token("ada")
    bench.iam.revoked.add(str(bench.iam.verified(session.value)["jti"]))
    assert await bench.keeper.purpose_token("ada", EXCHANGED)
    assert await bench.keeper.access_token("ada") != session and bench.keeper.logged_in("ada")


async def test_token_that_is_refused_however_fresh_ends_nothing_and_is_not_tried_on_and_on(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.lifetime = 0
    for _ in range(3):
        with pytest.raises(Unavailable):
            await bench.keeper.purpose_token("ada", EXCHANGED)
    assert bench.keeper.logged_in("ada") and bench.iam.asked.count("token-exchange") <= 2


async def test_exchange_outlives_an_outage_as_long_as_its_token_does(bench: Bench) -> None:
    await bench.log_in()
    token = await bench.keeper.purpose_token("ada", EXCHANGED)
    bench.iam.down = True
    bench.clock.now += 590
    assert await bench.keeper.purpose_token("ada", EXCHANGED) == token
    bench.clock.now += 11
    with pytest.raises(Unavailable, match="503"):
        await bench.keeper.purpose_token("ada", EXCHANGED)
    bench.iam.down = False
    bench.clock.now += 60
    assert await bench.keeper.purpose_token("ada", EXCHANGED) and bench.keeper.logged_in("ada")


async def test_nobody_waits_long_for_an_exchange_and_it_ends_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    monkeypatch.setattr(asking, "SLOW_SECONDS", 0.1)
    bench.iam.faults["token"] = "silent"
    with pytest.raises(Unavailable, match="within"):
        await bench.keeper.purpose_token("ada", EXCHANGED)
    bench.iam.faults.clear()
    bench.iam.release()
    await comes_true(lambda: not bench.keeper._asking._under_way)
    assert await bench.keeper.purpose_token("ada", EXCHANGED)
    assert bench.iam.asked.count("token-exchange") == 1


async def test_exchange_that_gives_a_refresh_token_leaves_the_login_alone(bench: Bench) -> None:
    await bench.log_in()
    wanted = replace(EXCHANGED, scope="openid offline_access")
    bench.iam.clients["other"] = replace(HUB, client_id="other")
    with pytest.raises(Unavailable):  # INDIGO IAM refuses this to one and the same client
        await bench.keeper.purpose_token("ada", wanted)
    bench.clock.now += 7200
    assert await bench.restarted().access_token("ada")


# --- signed by the hub


async def test_signed_token_is_of_the_wlcg_profile_and_asks_no_iam(bench: Bench, signing: OwnIssuer) -> None:
    person = await bench.log_in()
    bench.iam.down = True
    token = await bench.keeper.purpose_token("ada", SIGNED)
    claims = read(signing, token.value, bench.clock.now)
    begins = int(bench.clock.now)
    assert isinstance(claims.pop("jti"), str)
    assert claims == {
        "wlcg.ver": "1.0",
        "iss": HUB_ISSUER,
        "sub": own_subject(person.issuer, person.subject),
        "aud": "store.test",
        "scope": SIGNED.scope,
        "iat": begins,
        "nbf": begins,
        "exp": begins + 900,
        "preferred_username": "ada",
        "wlcg.groups": ["/cms"],
    }
    assert isinstance(token, OwnToken) and (token.issuer, token.expires_at) == (HUB_ISSUER, begins + 900)
    assert bench.iam.asked == [] and "eyJ" not in repr(token)


async def test_signed_tokens_need_a_living_login(bench: Bench, signing: OwnIssuer) -> None:
    with pytest.raises(LoginRequired):
        await bench.keeper.purpose_token("ada", SIGNED)
    await bench.log_in()
    token = await bench.keeper.purpose_token("ada", SIGNED)
    await bench.keeper.access_token("ada")
    bench.iam.revoke("ada")
    bench.clock.now += 3000
    with pytest.raises(LoginRequired):
        await bench.keeper.claims("ada", max_age=0)
    with pytest.raises(LoginRequired):
        await bench.keeper.purpose_token("ada", SIGNED)
    assert token.seconds_left(bench.clock.now) == 0


async def test_each_signed_token_is_another_and_groups_are_those_of_now(bench: Bench, signing: OwnIssuer) -> None:
    await bench.log_in()
    first = await bench.keeper.purpose_token("ada", SIGNED)
    assert await bench.keeper.purpose_token("ada", SIGNED) == first
    bench.iam.regroup("ada", "/icsc")
    bench.clock.now += 600
    await bench.keeper.claims("ada", max_age=300)
    second = await bench.keeper.purpose_token("ada", SIGNED)
    claims = [read(signing, token.value, token.issued_at) for token in (first, second)]
    assert claims[0]["jti"] != claims[1]["jti"] and claims[1]["wlcg.groups"] == ["/icsc"]


@pytest.mark.parametrize(
    "scope, audience, groups, aud",
    [
        pytest.param("storage.read:/", "", None, ANY_AUDIENCE, id="groups were not asked for; anybody"),
        pytest.param("wlcg.groups", "a", ["/cms", "/cms/it"], "a", id="all groups"),
        pytest.param("wlcg.groups:/cms/it", "a b", ["/cms/it"], ["a", "b"], id="one group, two audiences"),
        pytest.param("wlcg.groups:/other", "a", None, "a", id="none of the groups"),
    ],
)
async def test_groups_and_audience_of_a_signed_token(
    bench: Bench, signing: OwnIssuer, scope: str, audience: str, groups: object, aud: object
) -> None:
    person = Claims("https://iam.af-hub.test/", "s", "ada", ("/cms", "/cms/it"))
    token = signing.sign(person, Purpose(scope, audience, "hub", 60))
    claims = jwt.decode(token.value, options={"verify_signature": False})
    assert (claims.get("wlcg.groups"), claims["aud"]) == (groups, aud)


def test_groups_have_the_prefix_of_their_issuer(bench: Bench, tmp_path: Path) -> None:
    found = policy(prefix="/x")
    issuer = OwnIssuer(KeyFile(tmp_path / "k", 30 * DAY, time.time), lambda: found)
    token = issuer.sign(Claims("https://iam.af-hub.test/", "s", "ada", ("/cms",)), SIGNED)
    assert jwt.decode(token.value, options={"verify_signature": False})["wlcg.groups"] == ["/x/cms"]


def test_people_of_two_issuers_with_one_subject_are_two() -> None:
    pairs = [("https://a.test/", "1"), ("https://b.test/", "1"), ("https://a.test/", "2")]
    assert len({own_subject(*pair) for pair in pairs}) == 3
    assert own_subject(*pairs[0]) == own_subject("https://a.test/", "1")


async def test_nothing_is_signed_where_the_policy_names_no_hub(bench: Bench, tmp_path: Path) -> None:
    found = policy().model_copy(update={"facility": policy().facility.model_copy(update={"hub": ""})})
    issuer = OwnIssuer(KeyFile(tmp_path / "k", 30 * DAY, time.time), lambda: found)
    bench.keeper._sign = issuer.sign
    await bench.log_in()
    with pytest.raises(Unavailable, match=r"facility\.hub"):
        await bench.keeper.purpose_token("ada", SIGNED)
    assert issuer.configuration() == {} and issuer.key_set() == {"keys": []} and not (tmp_path / "k").exists()


# --- all of them


async def test_purposes_are_gone_after_a_restart_and_come_again(bench: Bench, signing: OwnIssuer) -> None:
    await bench.log_in()
    before = [await bench.keeper.purpose_token("ada", purpose) for purpose in (EXCHANGED, SIGNED)]
    bench.restarted()._sign = signing.sign
    after = [await bench.keeper.purpose_token("ada", purpose) for purpose in (EXCHANGED, SIGNED)]
    assert not set(before) & set(after) and bench.iam.asked.count("refresh_token") == 1
    content = bench.path.read_bytes()
    assert not [token for token in before if token.value.encode() in content]


async def test_hub_that_was_killed_in_a_refresh_exchanges_with_a_token_that_is_still_good(bench: Bench) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.keeper._store.begin_flight("ada", bench.clock.now)
    assert await bench.restarted().purpose_token("ada", EXCHANGED)
    first = bench.iam.asked.count("token-exchange")
    assert await bench.keeper.purpose_token("ada", EXCHANGED) and bench.iam.asked.count("token-exchange") == first


async def test_another_policy_is_another_token(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.purpose_token("ada", EXCHANGED)
    second = await bench.keeper.purpose_token("ada", replace(EXCHANGED, scope="storage.read:/cms"))
    assert first != second and bench.iam.verified(second.value)["scope"] == "storage.read:/cms"


async def test_signing_out_forgets_all_of_them(bench: Bench, signing: OwnIssuer) -> None:
    await bench.log_in()
    for purpose in EXCHANGED, SIGNED:
        await bench.keeper.purpose_token("ada", purpose)
    await bench.keeper.end("ada")
    for purpose in EXCHANGED, SIGNED:
        with pytest.raises(LoginRequired):
            await bench.keeper.purpose_token("ada", purpose)
