"""The token in a session: when it is asked for, and that nobody ever reads half of one."""

import asyncio
import logging
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from af_hub.errors import Unavailable
from af_hub.session.freshness import Freshness, NoToken, keep_fresh, seconds_until_ask, seconds_until_retry
from af_hub.session.tokenfile import LONGEST_FOR_XROOTD, TokenFile
from af_hub.tokens.lifetime import AccessToken


class Over(Exception):
    """The test's clock stands still."""


class ScriptedSource:
    """Gives or raises what it was told, in order."""

    def __init__(self, script: Iterable[AccessToken | Exception]) -> None:
        self._script = iter(script)

    async def access_token(self) -> AccessToken:
        step = next(self._script)
        if isinstance(step, Exception):
            raise step
        return step


class Run:
    """Runs :func:`keep_fresh` over a script and notes what there was at each pause."""

    def __init__(self, tmp_path: Path, script: list[AccessToken | Exception]) -> None:
        self.path, self.script = tmp_path / "token", script
        self.freshness, self.first = Freshness(), asyncio.Event()
        self.pauses: list[float] = []
        self.files: list[str | None] = []
        self.firsts: list[bool] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.files.append(self.path.read_text() if self.path.exists() else None)
        self.firsts.append(self.first.is_set())
        if len(self.pauses) == len(self.script):
            raise Over

    async def run(self) -> None:
        source, tokenfile = ScriptedSource(self.script), TokenFile(self.path)
        with pytest.raises(Over):
            await keep_fresh(
                source, tokenfile, self.freshness, self.first, lambda: 1000.0, self.sleep, lambda low, high: high
            )


def token(name: str, left: float = 3600) -> AccessToken:
    return AccessToken(name, 1000, 1000 + left)


@pytest.mark.parametrize(
    "left, pause",
    [
        pytest.param(900, 300, id="a third of what is left"),
        pytest.param(86400, 600, id="never later than ten minutes"),
        pytest.param(6, 5, id="a token near its end does not make us spin"),
        pytest.param(-50, 5, id="one past its end neither"),
    ],
)
def test_when_to_ask(left: float, pause: float) -> None:
    assert seconds_until_ask(token("a", left), 1000) == pause


@pytest.mark.parametrize("failures, low, high", [(1, 0.5, 1), (2, 1, 2), (5, 8, 16), (50, 30, 60)])
def test_when_to_ask_again_after_failures(failures: int, low: float, high: float) -> None:
    assert (
        seconds_until_retry(failures, lambda low, high: low),
        seconds_until_retry(failures, lambda low, high: high),
    ) == (low, high)


async def test_tokens_follow_each_other(tmp_path: Path) -> None:
    run = Run(tmp_path, [token("one"), token("two", 900)])
    await run.run()
    assert run.files == ["one", "two"]
    assert run.pauses == [600, 300]
    assert run.firsts == [True, True]


async def test_last_token_stays_while_the_hub_is_away(tmp_path: Path) -> None:
    run = Run(tmp_path, [token("one"), Unavailable("away"), Unavailable("away"), token("two"), Unavailable("again")])
    await run.run()
    assert run.files == ["one", "one", "one", "two", "two"]
    assert run.pauses == [600, 1, 2, 600, 1]
    assert run.freshness.reason == "again"


async def test_start_waits_for_a_hub_that_is_away_but_not_for_a_refusal(tmp_path: Path) -> None:
    run = Run(tmp_path, [Unavailable("away"), NoToken("log in")])
    await run.run()
    assert run.firsts == [False, True]
    assert run.freshness.describe() == {"expires_at": 0.0, "reason": "log in"}


async def test_file_that_cannot_be_written_is_no_death(tmp_path: Path) -> None:
    run = Run(tmp_path / "missing", [token("one"), token("two")])
    await run.run()
    assert run.files == [None, None]
    assert "No such file" in run.freshness.reason


@pytest.mark.slow
def test_reader_never_sees_half_a_token(tmp_path: Path) -> None:
    tokenfile = TokenFile(tmp_path / "token")
    tokenfile.replace(token("0" * 3000))
    seen, over = set(), threading.Event()

    def read() -> None:
        while not over.is_set():
            found = tokenfile.path.read_text()
            seen.add((len(found), len(set(found)), stat.S_IMODE(tokenfile.path.stat().st_mode)))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1000):
        tokenfile.replace(token(str(number % 10) * (3000 + number % 2)))
    over.set()
    for reader in readers:
        reader.join()
    assert seen <= {(3000, 1, 0o600), (3001, 1, 0o600)}
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_nobody_else_reads_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        TokenFile(tmp_path / "token").replace(token("one"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_token_that_xrootd_will_not_take_is_said_and_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TokenFile(tmp_path / "token").replace(token("x" * (LONGEST_FOR_XROOTD + 1)))
    assert "4097 bytes" in caplog.text
    assert "xxx" not in caplog.text
