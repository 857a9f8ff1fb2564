"""Ready means that what works beside the requests works too."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest

from af_hub.serving import ended, given_up
from af_hub.testing.hub import RealHub
from af_hub.testing.process import comes_true


async def test_what_has_ended_is_named() -> None:
    loop = asyncio.get_running_loop()
    done, runs = loop.create_task(asyncio.sleep(0), name="token keeper"), loop.create_task(asyncio.sleep(60))
    await done
    loaded, never = loop.create_future(), loop.create_future()
    loaded.set_result(None)
    never.set_exception(OSError("nobody answers"))
    watchers = {
        ("pods", "x"): SimpleNamespace(kind="pods", first_load_future=loaded, watch_task=done),
        ("events", "x"): SimpleNamespace(kind="events", first_load_future=loaded, watch_task=runs),
        ("later", "x"): SimpleNamespace(kind="later", first_load_future=loop.create_future(), watch_task=None),
        ("homes", "x"): SimpleNamespace(kind="homes", first_load_future=never, watch_task=None),
    }
    assert ended([done, runs]) == ["The token keeper has ended."]
    assert given_up(watchers) == ["The watcher of pods has given up.", "The watcher of homes has given up."]
    runs.cancel()


@pytest.mark.real
def test_a_hub_that_serves_is_ready(hub: RealHub) -> None:
    assert comes_true(lambda: httpx.get(hub.url + "hub/af/ready").status_code == 200, 10), "its start is over"
    answer = httpx.get(hub.url + "hub/af/ready")
    assert answer.json() == {"ready": True, "wrong": []}
    assert "Set-Cookie" not in answer.headers
