"""The keeper against a real token endpoint: rotation, outages, ended logins, one flight a person.

Keeper and IAM are on one clock that only moves when told.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from keeping import HUB, POOL, Bench
from sqlalchemy import Connection, Engine, event

from af_hub.errors import LoginRequired, Refused, Unavailable
from af_hub.iam.claims import Claims
from af_hub.tokens.keeper import Purpose


async def test_token_is_kept_until_it_is_due(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.access_token("ada")
    assert bench.iam.verified(first.value)["scope"] == "openid profile wlcg.groups"
    bench.clock.now += 600
    assert await bench.keeper.access_token("ada") == first
    bench.clock.now += 1600  # 60 % of an hour and more
    second = await bench.keeper.access_token("ada")
    assert second != first and second.seconds_left(bench.clock.now) > 3500


async def test_refresh_works_long_after_expiry(bench: Bench) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.clock.now += 20 * 86400
    assert (await bench.keeper.access_token("ada")).seconds_left(bench.clock.now) > 3500


async def test_many_at_once_are_one_flight(bench: Bench) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.clock.now += 7200
    tokens = await asyncio.gather(*(bench.keeper.access_token("ada") for _ in range(100)))
    assert len(set(tokens)) == 1 and bench.iam.asked.count("refresh_token") == 2


async def test_who_goes_away_does_not_end_what_was_begun(bench: Bench) -> None:
    await bench.log_in()
    asking = [asyncio.create_task(bench.keeper.access_token("ada")) for _ in range(3)]
    await asyncio.sleep(0)
    for task in asking:
        task.cancel()
    assert await bench.keeper.access_token("ada") and bench.iam.asked.count("refresh_token") == 1


async def test_purposes_and_sessions_share_one_rotation(bench: Bench) -> None:
    await bench.log_in()
    keeper = bench.keeper
    session, condor = await asyncio.gather(keeper.access_token("ada"), keeper.purpose_token("ada", POOL))
    claims = bench.iam.verified(condor.value)
    assert (claims["aud"], claims["scope"]) == ("pool.test", POOL.scope) and claims["exp"] - claims["iat"] <= 600
    assert "compute" not in bench.iam.verified(session.value)["scope"]
    bench.clock.now += 3600
    await asyncio.gather(keeper.access_token("ada"), keeper.purpose_token("ada", POOL))  # the family still lives


async def test_purpose_token_is_kept_a_while(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.purpose_token("ada", POOL)
    assert await bench.keeper.purpose_token("ada", POOL) == first
    bench.clock.now += 400
    second = await bench.keeper.purpose_token("ada", POOL)
    assert second != first and second.seconds_left(bench.clock.now) == 600


async def test_login_that_is_older_than_the_policys_scopes_goes_on_with_what_it_has(bench: Bench) -> None:
    user = bench.iam.users["ada"]
    granted = "openid profile wlcg.groups offline_access"
    refresh_token = bench.iam.grant(HUB, "ada", tuple(granted.split()))
    await bench.keeper.enrol(Claims(bench.iam.issuer, user.subject, "ada"), refresh_token, scope=granted)
    bench.keeper._session = lambda _: Purpose("openid profile wlcg.groups storage.read:/new")
    token = await bench.keeper.access_token("ada")
    assert bench.iam.verified(token.value)["scope"] == "openid profile wlcg.groups"
    assert bench.keeper.lacks("ada") == "storage.read:/new"
    with pytest.raises(LoginRequired, match="more of your login"):
        await bench.keeper.purpose_token("ada", POOL)
    bench.clock.now += 3000
    assert await bench.restarted().access_token("ada") != token and bench.keeper.logged_in("ada")


async def test_rotation_survives_a_restart(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.access_token("ada")
    assert await bench.restarted().access_token("ada") == first
    bench.clock.now += 3600
    await bench.keeper.access_token("ada")
    bench.clock.now += 3600
    assert (await bench.restarted().access_token("ada")).seconds_left(bench.clock.now) > 3500


@pytest.fixture
def disk() -> Iterator[set[str]]:
    """The word "read-only" in here makes every database refuse changes, as one does whose disk is full."""
    state: set[str] = set()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only={'ON' if 'read-only' in state else 'OFF'}")

    event.listen(Engine, "begin", begin)
    yield state
    event.remove(Engine, "begin", begin)


async def test_rotation_outlives_a_full_disk(bench: Bench, disk: set[str]) -> None:
    await bench.log_in()
    first = await bench.keeper.access_token("ada")
    disk.add("read-only")
    bench.clock.now += 7200
    second = await bench.keeper.access_token("ada")
    assert second != first

    disk.clear()
    await bench.keeper._write_down()  # as each round of the loop does
    bench.clock.now += 7200
    assert await bench.restarted().access_token("ada") != second


async def test_nobody_logs_in_by_halves_on_a_full_disk(bench: Bench, disk: set[str]) -> None:
    disk.add("read-only")
    with pytest.raises(Unavailable, match="The hub cannot write down anything now"):
        await bench.log_in()
    assert bench.keeper.record("ada") is None
    with pytest.raises(LoginRequired):
        await bench.keeper.access_token("ada")

    disk.clear()
    await bench.log_in()
    assert await bench.keeper.access_token("ada")


async def test_no_refresh_token_in_clear(bench: Bench) -> None:
    await bench.log_in()
    await bench.keeper.access_token("ada")
    content = bench.path.read_bytes()
    assert len(bench.iam.refresh_tokens()) == 2
    assert not [token for token in bench.iam.refresh_tokens() if token.encode() in content]


async def test_outage_hands_out_what_is_good_and_then_says_so(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.access_token("ada")
    bench.iam.down = True
    bench.clock.now += 3000
    assert await bench.keeper.access_token("ada") == first
    bench.clock.now += 700
    with pytest.raises(Unavailable):
        await bench.keeper.access_token("ada")
    assert await bench.keeper.claims("ada", max_age=60)
    bench.iam.down = False
    bench.clock.now += 300
    assert (await bench.keeper.access_token("ada")).seconds_left(bench.clock.now) > 3500


async def test_an_iam_that_is_down_is_left_alone_for_a_while(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.down = True
    for _ in range(5):
        with pytest.raises(Unavailable):
            await bench.keeper.access_token("ada")
    bench.iam.down = False
    with pytest.raises(Unavailable):
        await bench.keeper.access_token("ada")
    bench.clock.now += 6
    assert await bench.keeper.access_token("ada")


async def test_ended_login_is_asked_for_once_and_its_token_lives_out(bench: Bench) -> None:
    await bench.log_in()
    first = await bench.keeper.access_token("ada")
    bench.iam.revoke("ada")
    bench.clock.now += 3000
    assert await bench.keeper.access_token("ada") == first
    asked = len(bench.iam.asked)
    for _ in range(3):
        assert await bench.keeper.access_token("ada") == first
        with pytest.raises(LoginRequired):
            await bench.keeper.claims("ada", max_age=0)
    bench.clock.now += 601
    with pytest.raises(LoginRequired):
        await bench.keeper.access_token("ada")
    assert len(bench.iam.asked) == asked
    await bench.log_in()
    assert await bench.keeper.access_token("ada") != first


async def test_groups_are_asked_for_again(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.users["ada"] = replace(bench.iam.users["ada"], groups=("/cms/itcms",))
    assert (await bench.keeper.claims("ada", max_age=60)).groups == ("/cms",)
    bench.clock.now += 61
    assert (await bench.keeper.claims("ada", max_age=60)).groups == ("/cms/itcms",)
    record = bench.keeper.record("ada")
    assert record is not None and record.seen_at == bench.clock.now


async def test_somebody_else_at_the_iam_ends_the_login(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.users["ada"] = replace(bench.iam.users["ada"], subject="sub-eve")
    bench.clock.now += 61
    with pytest.raises(LoginRequired):
        await bench.keeper.claims("ada", max_age=60)
    with pytest.raises(Refused):
        await bench.log_in()


async def test_two_people_with_one_name_at_one_moment(bench: Bench) -> None:
    first, second = (Claims(bench.iam.issuer, subject, "ada") for subject in ("sub-ada", "sub-eve"))
    outcome = await asyncio.gather(
        bench.keeper.enrol(first, "r1"), bench.keeper.enrol(second, "r2"), return_exceptions=True
    )
    assert outcome[0] == first and isinstance(outcome[1], Refused)


async def test_renamed_person_stays_who_they_are(bench: Bench) -> None:
    await bench.log_in()
    bench.iam.users["ada"] = replace(bench.iam.users["ada"], username="ada-married")
    bench.clock.now += 61
    assert (await bench.keeper.claims("ada", max_age=60)).username == "ada"


async def test_userinfo_that_refuses_fresh_tokens_logs_nobody_out(bench: Bench) -> None:
    before = await bench.log_in()
    bench.clock.now += 61
    bench.iam.lifetime = 0
    assert await bench.keeper.claims("ada", max_age=60) == before
    bench.iam.lifetime = 3600
    bench.clock.now += 6
    assert await bench.keeper.access_token("ada")


async def test_strangers_have_nothing(bench: Bench) -> None:
    with pytest.raises(LoginRequired):
        await bench.keeper.access_token("nobody")
    with pytest.raises(LoginRequired):
        await bench.keeper.claims("nobody", max_age=60)
    assert bench.keeper.record("nobody") is None


async def test_login_of_an_iam_that_the_policy_dropped(bench: Bench) -> None:
    await bench.keeper.enrol(Claims("https://old.test/", "sub-old", "old"), "refresh")
    with pytest.raises(LoginRequired, match=r"facility\.yaml"):
        await bench.keeper.access_token("old")


async def test_loop_refreshes_with_nobody_asking_and_survives_trouble(bench: Bench) -> None:
    await bench.log_in("ada")
    await bench.log_in("bob")
    bench.iam.revoke("bob")
    loop = asyncio.create_task(bench.keeper.keep_fresh())
    try:
        async with asyncio.timeout(5):
            while bench.iam.asked.count("refresh_token") < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await bench.log_in("bob")  # wakes the loop
            while bench.iam.asked.count("refresh_token") < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
    finally:
        loop.cancel()
    asked = len(bench.iam.asked)
    await bench.keeper.access_token("ada")
    assert len(bench.iam.asked) == asked
