"""A hub that dies at each point of a refresh, really: what the next one finds, and whether the person is still logged in."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from keeping import KEY_TEXT, SESSION, Bench, comes_true
from prometheus_client import REGISTRY

from af_hub.errors import LoginRequired
from af_hub.testing.iam_oauth import DemoClient

POINTS = ("before the note", "noted", "waiting", "heard", "half stored", "stored", "answered")
LOST = {"waiting", "heard", "half stored"}
"""Where an IAM that rotates without grace has spent the only refresh token that anybody knows."""

pytestmark = pytest.mark.slow


async def die(bench: Bench, point: str) -> int:
    """A hub begins a refresh and dies there; its exit status."""
    facts = {
        "issuer": bench.iam.issuer,
        "discovery": bench.iam.discovery,
        "database": str(bench.path),
        "key": KEY_TEXT,
        "scope": SESSION.scope,
        "now": str(bench.clock.now),
    }
    script = Path(__file__).with_name("dying_hub.py")
    hub = await asyncio.create_subprocess_exec(sys.executable, str(script), point, stdin=asyncio.subprocess.PIPE)
    await hub.communicate(json.dumps(facts).encode())
    assert hub.returncode is not None
    return hub.returncode


async def all_are_answered(bench: Bench, point: str) -> None:
    """The IAM has done what it was asked by the hub of before, and by the one that died, if that came so far."""
    asked = 1 if point in ("before the note", "noted") else 2
    await comes_true(lambda: bench.iam.asked.count("refresh_token") == asked)


async def about_to_refresh(bench: Bench, reuse: bool, point: str) -> None:
    """Somebody is logged in, has a token that is still good for half an hour, and it is time for a new one."""
    hub = bench.iam.clients["hub"]
    bench.iam.clients["hub"] = DemoClient(
        hub.client_id, hub.client_secret, hub.redirect_uris, hub.scopes, reuse_refresh_tokens=reuse
    )
    await bench.log_in()
    await bench.keeper.access_token("ada")
    bench.keeper._store.close()
    bench.clock.now += 1800
    if point in ("waiting", "stopped"):
        bench.iam.faults["token"] = "silent" if point == "waiting" else "slow"


@pytest.mark.parametrize(
    "grace",
    [
        pytest.param(False, id="tokens stay", marks=pytest.mark.long),
        pytest.param(True, id="tokens rotate with grace"),
    ],
)
@pytest.mark.parametrize(
    "point", [point if point == "heard" else pytest.param(point, marks=pytest.mark.long) for point in POINTS]
)
async def test_nobody_loses_a_login(bench: Bench, point: str, grace: bool) -> None:
    bench.iam.grace = 60 if grace else 0
    await about_to_refresh(bench, not grace, point)
    assert await die(bench, point) == -signal.SIGKILL
    bench.iam.faults.clear()
    bench.iam.release()  # an answer that was under way comes to nobody
    await all_are_answered(bench, point)

    keeper = bench.restarted()
    bench.clock.now += 5
    assert (await keeper.access_token("ada")).seconds_left(bench.clock.now) > 3500
    bench.clock.now += 3000
    assert (await keeper.access_token("ada")).seconds_left(bench.clock.now) > 3500


@pytest.mark.parametrize(
    "point", [point if point == "heard" else pytest.param(point, marks=pytest.mark.long) for point in POINTS]
)
async def test_rotation_without_grace_loses_what_nobody_else_can_know_and_says_so(bench: Bench, point: str) -> None:
    await about_to_refresh(bench, False, point)
    before = REGISTRY.get_sample_value("af_forced_logins_total", {"issuer": bench.iam.issuer, "reason": "interrupted"})
    assert await die(bench, point) == -signal.SIGKILL
    bench.iam.recover()
    await all_are_answered(bench, point)

    keeper = bench.restarted()
    token = await keeper.access_token("ada")
    if point not in LOST:
        assert keeper.logged_in("ada") and token.seconds_left(bench.clock.now) > 3500
        return
    assert 1700 < token.seconds_left(bench.clock.now) <= 1800  # the session goes on with what it has
    loop = asyncio.create_task(keeper.keep_fresh())
    await comes_true(lambda: not keeper.logged_in("ada"))
    loop.cancel()
    assert "The hub was stopped" in keeper.trouble("ada")
    with pytest.raises(LoginRequired, match="The hub was stopped"):
        await keeper.claims("ada", max_age=0)
    after = REGISTRY.get_sample_value("af_forced_logins_total", {"issuer": bench.iam.issuer, "reason": "interrupted"})
    assert after == (before or 0) + 1


async def test_hub_that_is_told_to_stop_waits_for_what_is_under_way(bench: Bench) -> None:
    await about_to_refresh(bench, False, "stopped")
    assert await die(bench, "stopped") == 0
    bench.iam.recover()
    keeper = bench.restarted()
    assert (await keeper.access_token("ada")).seconds_left(bench.clock.now) == 3600
    assert bench.iam.asked.count("refresh_token") == 2 and not keeper._store.flights()
