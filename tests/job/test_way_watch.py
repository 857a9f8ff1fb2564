import asyncio

import pytest

from af_hub.job import watch as module
from af_hub.job.watch import QUIET_SECONDS, watch, worth_saying


class Way:
    def __init__(self, trouble="it is down"):
        self.trouble = trouble


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)


@pytest.mark.parametrize(
    "trouble, seconds, words",
    [
        ("", 100, ""),
        ("it is down", QUIET_SECONDS / 1000, ""),
        ("it is down", QUIET_SECONDS, "the job has no way to its users: it is down"),
    ],
)
def test_what_is_worth_saying(trouble, seconds, words):
    assert worth_saying(trouble, seconds) == words


async def test_a_way_that_never_was_is_given_up():
    said = []
    async with asyncio.timeout(10):
        assert await watch(Way(), 0.05, said.append) == "it is down"
    assert said == ["the job has no way to its users: it is down"]


async def test_a_way_that_was_there_is_never_given_up_and_what_was_said_is_taken_back():
    way, said = Way(""), []
    watching = asyncio.create_task(watch(way, 0.05, said.append))
    async with asyncio.timeout(10):
        for trouble in ("it is down", "", "it is down again"):
            before = len(said)
            await asyncio.sleep(0.01)
            way.trouble = trouble
            while len(said) == before:
                await asyncio.sleep(0.001)
    watching.cancel()
    assert said == [
        "the job has no way to its users: it is down",
        "",
        "the job has no way to its users: it is down again",
    ]
