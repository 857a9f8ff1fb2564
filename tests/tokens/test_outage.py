"""An IAM that is away for half an hour, with many people logged in, on a clock that only moves when told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from keeping import HUB, SCOPES, Bench, comes_true

from af_hub.errors import IAMAway, Unavailable
from af_hub.iam.claims import Claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_tokens import DemoUser
from af_hub.tokens.health import Health

PEOPLE = [f"user{number}" for number in range(10)]


@pytest.fixture
async def crowd(bench: Bench) -> AsyncIterator[Bench]:
    """Everybody is logged in, and has a token; the loop runs."""
    for name in PEOPLE:
        bench.iam.users[name] = DemoUser(name, f"sub-{name}", groups=("/cms",))
        await bench.log_in(name)
    loop = asyncio.create_task(bench.keeper.keep_fresh())
    await comes_true(lambda: bench.iam.asked.count("userinfo") == 0 and fresh(bench) == len(PEOPLE))
    yield bench
    loop.cancel()


def fresh(bench: Bench) -> int:
    """How many have a token that need not be refreshed yet."""
    return Counter(one.state for one in bench.keeper.standings())["fresh"]


async def passes(bench: Bench, seconds: int, step: int = 5) -> None:
    """Time goes by, and whatever was due was done meanwhile."""
    for _ in range(seconds // step):
        bench.clock.now += step
        bench.keeper._changed.set()
        await asyncio.sleep(0)
        await comes_true(lambda: not bench.keeper._changed.is_set() and not bench.keeper._asking._under_way)


@pytest.mark.slow
async def test_half_an_hour_without_iam(crowd: Bench) -> None:
    await passes(crowd, 900, 60)  # some have been refreshed, some are about to be
    crowd.iam.down, asked = True, []
    for _ in range(30):
        crowd.iam.asked.clear()
        await passes(crowd, 60)
        asked.append(len(crowd.iam.asked))
        for name in PEOPLE:
            assert (await crowd.keeper.access_token(name)).seconds_left(crowd.clock.now) > 0
            assert await crowd.keeper.claims(name, max_age=300)
    assert all(crowd.keeper.logged_in(name) for name in PEOPLE)
    assert "503" in crowd.keeper.trouble(PEOPLE[0])

    crowd.iam.down = False
    crowd.iam.asked.clear()
    seconds = 0
    while fresh(crowd) < len(PEOPLE):
        await passes(crowd, 5)
        seconds += 5
        assert seconds <= 60
    assert crowd.iam.asked.count("refresh_token") <= len(PEOPLE) + 1


@pytest.mark.slow
@pytest.mark.long
async def test_iam_that_is_away_is_asked_by_one_at_a_time(bench: Bench) -> None:
    asked: list[float] = []

    async def away(request: web.Request) -> web.Response:
        asked.append(bench.clock.now)
        return web.Response(status=503)

    app = web.Application()
    app.router.add_post("/token", away)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for name in PEOPLE:
        bench.iam.users[name] = DemoUser(name, f"sub-{name}")
        await bench.log_in(name)
    client = bench.keeper._clients[bench.iam.issuer]
    metadata = await client.discovery.metadata()
    object.__setattr__(metadata, "token_endpoint", f"http://127.0.0.1:{runner.addresses[0][1]}/token")
    loop = asyncio.create_task(bench.keeper.keep_fresh())
    await passes(bench, 600)
    loop.cancel()
    await runner.cleanup()
    later = [at for at in asked if at > asked[0]]
    in_a_minute = max(sum(start <= at < start + 60 for at in later) for start in later)
    assert len(asked) - len(later) <= 10 and len(later) >= 30 and in_a_minute <= 6


async def test_iam_that_hangs_holds_up_nobody_of_another(bench: Bench) -> None:
    async with DemoIAM([], [HUB], issuer="https://other.test/", clock=bench.clock) as other:
        bench.keeper._clients = {
            **bench.keeper._clients,
            other.issuer: IAMClient(Discovery(other.issuer, other.discovery), "hub", "s3cret", bench.clock),
        }
        names = [f"o{number}" for number in range(12)]
        for name in names:
            other.users[name] = DemoUser(name, f"sub-{name}")
            await bench.keeper.enrol(Claims(other.issuer, f"sub-{name}", name), other.grant(HUB, name, SCOPES))
        other.faults["token"] = "silent"
        waiting = [asyncio.create_task(bench.keeper.access_token(name)) for name in names]
        await bench.log_in()
        assert await bench.keeper.access_token("ada")
        assert not [task for task in waiting if task.done()]
        other.recover()
        assert all(await asyncio.gather(*waiting))


@pytest.mark.slow
@pytest.mark.long
async def test_many_after_a_restart_are_one_refresh_each(bench: Bench) -> None:
    names = [f"p{number}" for number in range(60)]
    for name in names:
        bench.iam.users[name] = DemoUser(name, f"sub-{name}")
        bench.keeper._store.write_claims(Claims(bench.iam.issuer, f"sub-{name}", name), bench.clock.now)
        refresh_token = bench.iam.grant(HUB, name, SCOPES)
        await bench.keeper.enrol(Claims(bench.iam.issuer, f"sub-{name}", name), refresh_token)
    keeper = bench.restarted()
    await asyncio.gather(*(keeper.access_token(name) for name in names for _ in range(2)))
    assert bench.iam.asked.count("refresh_token") == 60


def test_one_persons_trouble_is_not_the_iams() -> None:
    health = Health()
    for now in range(10):
        health.failed("ada", Unavailable("odd"), now)
        health.served(now)
    assert health.down_since is None and health.again_at("ada") > 200 and health.again_at("bob") == 0


def test_three_in_a_row_are_an_outage_and_one_answer_ends_it_for_all() -> None:
    health = Health()
    assert [health.failed(name, IAMAway("away"), 10.0) for name in ("a", "b", "c", "d")] == [False, False, True, False]
    with pytest.raises(Unavailable, match="away"):
        health.ask("e", 11.0)
    health.ask("e", 30.0)
    with pytest.raises(Unavailable):
        health.ask("f", 31.0)  # one alone looks
    assert health.served(32.0) and health.down_since is None
    assert [health.again_at(name) for name in ("a", "b", "c", "d", "e")] == [0] * 5 and health.why("a") == ""


def test_pause_of_the_iam_counts_within_reason() -> None:
    health = Health()
    health.failed("ada", IAMAway("busy", 40.0), 0.0)
    assert health.again_at("ada") == 40
    health.failed("ada", IAMAway("busy", 10**9), 0.0)
    assert health.again_at("ada") == 300
