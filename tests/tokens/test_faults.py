"""What an IAM may do wrong, one thing at a time, and what must become of the person: stay, be asked to log in, or lose a right.

Each row is a mistake that plain oauthenticator makes, or a way in which a real IAM has failed.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from keeping import POOL, Bench, comes_true

from af_hub.errors import AFError, LoginRequired, Unavailable
from af_hub.iam.http import read_pause
from af_hub.testing.iam_faults import KINDS, RETRY_AFTER, Kind
from af_hub.testing.process import free_port
from af_hub.tokens import asking, flight, keeper


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """People wait for a moment only; what was begun goes on as long as ever."""
    monkeypatch.setattr(asking, "SLOW_SECONDS", 0.8)
    monkeypatch.setattr(keeper, "CLAIMS_PATIENCE", 0.8)
    monkeypatch.setattr(flight, "SECONDS", 2)


async def test_token_about_to_end_is_refreshed_ahead(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.access_token("ada")
    bench.clock.now += 3570
    second = await bench.keeper.access_token("ada")
    assert first.seconds_left(bench.clock.now) == 30 and second.seconds_left(bench.clock.now) == 3600


def kinds(*without: Kind) -> list[Any]:
    """All but these; those that let the hub wait are marked."""
    waits = {"silent", "drip"}
    return [pytest.param(kind, marks=[pytest.mark.slow] * (kind in waits)) for kind in KINDS if kind not in without]


@pytest.mark.parametrize("kind", kinds("refuses", "tells", "slow", "other issuer", "cut"))
@pytest.mark.usefixtures("impatient")
async def test_token_endpoint_that_fails_logs_nobody_out(bench: Bench, kind: Kind) -> None:
    if (
        kind == "silent"
    ):  # it makes a new refresh token after the hub has given up; where those rotate, that ends the login
        bench.iam.clients["hub"] = replace(bench.iam.clients["hub"], reuse_refresh_tokens=True)
    before = await bench.log_in()
    token = await bench.keeper.access_token("ada")
    bench.clock.now += 3000
    bench.iam.faults["token"] = kind
    assert await bench.keeper.access_token("ada") == token
    assert await bench.keeper.claims("ada", max_age=0) == before
    bench.clock.now += 1000
    with pytest.raises(Unavailable):
        await bench.keeper.access_token("ada")
    assert bench.keeper.logged_in("ada") and bench.keeper.trouble("ada")

    bench.iam.recover()
    bench.clock.now += 60
    await comes_true(lambda: not bench.keeper._asking._under_way)
    assert (await bench.keeper.access_token("ada")).seconds_left(bench.clock.now) == 3600
    assert not bench.keeper.trouble("ada")


@pytest.mark.parametrize("kind", kinds("slow", "drip", "other issuer"))
@pytest.mark.usefixtures("impatient")
async def test_userinfo_that_fails_keeps_the_rights(bench: Bench, kind: Kind) -> None:
    before = await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.iam.regroup("ada", "/cms/itcms")
    bench.clock.now += 301
    bench.iam.faults["userinfo"] = kind
    assert await bench.keeper.claims("ada", max_age=300) == before
    assert await bench.keeper.access_token("ada")

    bench.iam.recover()
    bench.clock.now += 60
    await comes_true(lambda: not bench.keeper._asking._under_way)
    assert (await bench.keeper.claims("ada", max_age=0)).groups == ("/cms/itcms",)


async def test_userinfo_that_refuses_every_token_costs_fewer_and_fewer_refreshes(bench: Bench) -> None:
    await bench.log_in()
    bench.clock.now += 301
    bench.iam.faults["userinfo"] = "refuses"
    refreshes = []
    for _ in range(4):
        before = bench.iam.asked.count("refresh_token")
        for _ in range(20):
            assert await bench.keeper.claims("ada", max_age=300)
            bench.clock.now += 30
        refreshes.append(bench.iam.asked.count("refresh_token") - before)
    assert refreshes[0] < 10 and refreshes[-1] <= 2 and bench.keeper.logged_in("ada")

    bench.iam.recover()
    bench.clock.now += 301
    bench.iam.regroup("ada", "/icsc")
    assert (await bench.keeper.claims("ada", max_age=300)).groups == ("/icsc",)


async def test_nobody_listens_and_no_such_name(bench: Bench) -> None:
    before = await bench.log_in()
    token = await bench.keeper.access_token("ada")
    for url in f"http://127.0.0.1:{free_port()}/", "http://iam.invalid/":
        client = bench.keeper._clients[bench.iam.issuer]
        metadata = await client.discovery.metadata()
        client.discovery._metadata = replace(metadata, token_endpoint=url, userinfo_endpoint=url)
        bench.clock.now += 1500
        assert await bench.keeper.access_token("ada") == token
        assert await bench.keeper.claims("ada", max_age=0) == before


async def test_hub_that_starts_while_the_iam_is_away(bench: Bench) -> None:
    before = await bench.log_in()
    token = await bench.keeper.access_token("ada")
    bench.iam.down = True
    bench.clock.now += 3000
    restarted = bench.restarted()
    assert await restarted.access_token("ada") == token
    assert await restarted.claims("ada", max_age=0) == before


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
async def test_answer_that_comes_late_is_kept(bench: Bench) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.clock.now += 7200
    bench.iam.faults["token"] = "silent"
    with pytest.raises(Unavailable):
        await bench.keeper.access_token("ada")
    bench.iam.faults.clear()
    bench.iam.release()
    await comes_true(lambda: not bench.keeper._asking._under_way)
    assert (await bench.restarted().access_token("ada")).seconds_left(bench.clock.now) == 3600
    assert bench.iam.asked.count("refresh_token") == 2


async def test_half_an_answer_is_not_the_end_where_refresh_tokens_stay(bench: Bench) -> None:
    bench.iam.clients["hub"] = replace(bench.iam.clients["hub"], reuse_refresh_tokens=True)
    await bench.log_in()
    bench.iam.faults["token"] = "cut"
    with pytest.raises(Unavailable):
        await bench.keeper.access_token("ada")
    bench.iam.recover()
    bench.clock.now += 60
    assert await bench.keeper.access_token("ada")


async def test_iam_that_is_busy_is_left_alone_as_long_as_it_wants(bench: Bench) -> None:
    assert read_pause(str(RETRY_AFTER)) == RETRY_AFTER
    await bench.log_in()
    bench.iam.faults["token"] = "busy"
    with pytest.raises(Unavailable, match="429"):
        await bench.keeper.access_token("ada")
    bench.iam.recover()
    bench.clock.now += RETRY_AFTER - 1
    with pytest.raises(Unavailable, match="429"):
        await bench.keeper.access_token("ada")
    bench.clock.now += 1
    assert await bench.keeper.access_token("ada")
    assert bench.iam.asked.count("refresh_token") == 1


@pytest.mark.parametrize("how", ["revoked", "suspended", "unsigned", "said by 401"])
async def test_login_that_the_iam_ended_is_over_and_says_why(bench: Bench, how: str) -> None:
    await bench.log_in()
    token = await bench.keeper.access_token("ada")
    match how:
        case "revoked":
            bench.iam.revoke("ada")
        case "suspended":
            bench.iam.suspend("ada")
        case "unsigned":
            bench.iam.unsign("ada")
        case _:
            bench.iam.faults["token"] = "refuses"
    bench.clock.now += 3000
    assert await bench.keeper.access_token("ada") == token  # sessions go on until it ends
    assert not bench.keeper.logged_in("ada") and bench.keeper.login_ends("ada") == bench.clock.now
    assert ("AUP" in bench.keeper.trouble("ada")) == (how == "unsigned")
    with pytest.raises(LoginRequired, match="log in"):
        await bench.keeper.claims("ada", max_age=0)
    bench.clock.now += 601
    with pytest.raises(LoginRequired):
        await bench.keeper.access_token("ada")
    with pytest.raises(LoginRequired):
        await bench.keeper.purpose_token("ada", POOL)
    assert bench.keeper.trouble("ada") == bench.restarted().trouble("ada")


async def test_left_group_is_lost_within_one_refresh(bench: Bench) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.iam.regroup("ada")
    keeping = asyncio.create_task(bench.keeper.keep_fresh())
    bench.clock.now += 1700
    bench.keeper._changed.set()
    await comes_true(lambda: (found := bench.keeper.record("ada")) is not None and found.claims.groups == ())
    keeping.cancel()


async def test_renamed_person_keeps_name_and_groups_change(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.rename("ada", "ada-married")
    bench.iam.regroup("ada-married", "/icsc")
    bench.clock.now += 61
    claims = await bench.keeper.claims("ada", max_age=60)
    assert (claims.username, claims.groups) == ("ada", ("/icsc",))


async def test_rotated_keys_and_wrong_clocks_do_not_matter_to_a_login_that_lasts(bench: Bench) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.iam.rotate_keys(keep=False)
    bench.clock.now += 3000
    assert (await bench.keeper.access_token("ada")).seconds_left(bench.clock.now) == 3600
    for wrong in -7200, 7200:
        bench.iam.clock = lambda wrong=wrong: bench.clock.now + wrong
        bench.clock.now += 3000
        token = await bench.keeper.access_token("ada")
        assert token.seconds_left(bench.clock.now) == 3600  # counted by our clock, from when we asked
        assert await bench.keeper.claims("ada", max_age=0)


async def test_purpose_token_outlives_an_outage_too(bench: Bench) -> None:
    await bench.log_in()
    token = await bench.keeper.purpose_token("ada", POOL)
    bench.iam.down = True
    bench.clock.now += 500
    assert await bench.keeper.purpose_token("ada", POOL) == token
    bench.clock.now += 100
    with pytest.raises(Unavailable):
        await bench.keeper.purpose_token("ada", POOL)


async def test_wrong_secret_of_the_hub_ends_nobodys_login(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.clients["hub"] = replace(bench.iam.clients["hub"], client_secret="another")
    with pytest.raises(Unavailable, match="invalid_client"):
        await bench.keeper.access_token("ada")
    assert bench.keeper.logged_in("ada")


async def test_claims_that_cannot_be_read_change_nothing(bench: Bench) -> None:
    before = await bench.log_in()
    for told in ({"wlcg.groups": "no list"}, {"preferred_username": None}, {"sub": None}):
        bench.iam.told = dict(told)
        bench.clock.now += 301
        assert await bench.keeper.claims("ada", max_age=300) == before
    assert bench.keeper.logged_in("ada")


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
async def test_no_message_holds_a_token(bench: Bench) -> None:
    await bench.log_in()
    said = []
    for kind in KINDS:
        bench.iam.faults["token"] = kind
        bench.clock.now += 600
        try:
            await bench.keeper.access_token("ada")
        except AFError as error:
            said.append(f"{error!r} {error.__cause__!r} {bench.keeper.trouble('ada')}")
        bench.iam.release()
    assert said and not [token for token in bench.iam.refresh_tokens() if token in " ".join(said)]
