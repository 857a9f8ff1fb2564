"""The person's token from the scheduler to workers that are there, that come later, and whose nanny was out of reach for a while.

Dask's own scheduler and worker, in this process and with the Dask cluster's certificates; whole jobs are in ``test_agent.py``.
"""

import asyncio
import logging
import stat
import time
from contextlib import asynccontextmanager

import pytest
from distributed import Worker
from distributed.core import Server

from af_hub.controller.keys import ClusterKeys, UserCA
from af_hub.job import kit
from af_hub.job.dask_nodes import private_scheduler, worker_security
from af_hub.job.dask_tokens import CALL, NEWS, Holder, NumberedToken
from af_hub.session.tokenfile import TokenFile

FIRST, SECOND, THIRD = (NumberedToken(number, f"secret-{number}", 3600.0 * number) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A folder with the files that come with a scheduler job."""
    folder = tmp_path_factory.mktemp("sandbox")
    keys = ClusterKeys(folder, "c" * 32)
    keys.make(UserCA(folder), time.time() + 600)
    for name in (*kit.WORKER_FILES, kit.SCHEDULER_CERTIFICATE, kit.SCHEDULER_KEY):
        (folder / name).write_bytes(keys.path(name).read_bytes())
    return folder


@pytest.fixture
async def scheduler(sandbox, monkeypatch):
    monkeypatch.chdir(sandbox)
    async with private_scheduler("127.0.0.1") as scheduler:
        yield scheduler


@asynccontextmanager
async def worker_of(scheduler, file, failures=0):
    """A worker in this process; its nanny is a server that has the nanny's part in tokens, and is deaf at first."""
    security = worker_security()
    nanny = Server({}, connection_args=security.get_connection_args("worker"))
    holder = Holder(TokenFile(file), nanny.rpc(scheduler.address))
    deaf = iter(range(failures))

    async def hear():
        if next(deaf, None) is not None:
            raise OSError("deaf")
        return await holder.hear()

    nanny.handlers[NEWS] = hear
    await nanny.listen("tls://127.0.0.1", **security.get_listen_args("worker"))
    options = {"host": "127.0.0.1", "dashboard": False, "local_directory": str(file.parent)}
    async with Worker(scheduler.address, nanny=nanny.address, security=security, **options) as worker:
        yield worker
    await nanny.close()


async def holds(file, token):
    async with asyncio.timeout(5):
        while not file.exists() or file.read_text() != token.value:
            await asyncio.sleep(0)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_workers_that_are_there_and_workers_that_come_later(scheduler, tmp_path):
    first, later = tmp_path / "first", tmp_path / "later"
    async with worker_of(scheduler, first):
        assert not first.exists()
        scheduler.tokens.take(FIRST)
        await holds(first, FIRST)
        async with worker_of(scheduler, later):
            await holds(later, FIRST)
            scheduler.tokens.take(SECOND)
            await asyncio.gather(holds(first, SECOND), holds(later, SECOND))
        scheduler.tokens.take(THIRD)
        await holds(first, THIRD)
    assert later.read_text() == SECOND.value


async def test_a_nanny_that_was_deaf_gets_the_newest(scheduler, tmp_path):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        scheduler.tokens.take(NumberedToken(1 + len(pauses), f"secret-{1 + len(pauses)}", 0.0))

    scheduler.tokens._sleep = sleep
    scheduler.tokens.take(FIRST)
    async with worker_of(scheduler, tmp_path / "token", failures=2):
        await holds(tmp_path / "token", THIRD)
    assert pauses == [1, 2]


async def test_a_worker_that_is_gone_is_told_nothing(scheduler, tmp_path):
    tried = asyncio.Event()

    async def sleep(seconds):
        tried.set()
        await asyncio.sleep(0)

    scheduler.tokens._sleep = sleep
    scheduler.tokens.take(FIRST)
    async with worker_of(scheduler, tmp_path / "token", failures=10**6):
        await tried.wait()
    async with asyncio.timeout(5):
        while scheduler.tokens._telling:
            await asyncio.sleep(0)


async def test_an_older_token_never_takes_the_place_of_a_newer_one(tmp_path):
    class Scheduler:
        answers = iter([{}, SECOND, FIRST, THIRD])

        async def af_token(self):
            found = next(self.answers)
            return vars(found) if found else {}

    file = TokenFile(tmp_path / "token")
    holder = Holder(file, Scheduler())
    assert [(await holder.hear())["number"] for _ in range(4)] == [0, 2, 2, 3]
    assert file.path.read_text() == THIRD.value


async def test_no_token_in_the_logs_of_dask(scheduler, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    scheduler.tokens.take(FIRST)
    async with worker_of(scheduler, tmp_path / "token", failures=1):
        await holds(tmp_path / "token", FIRST)
    assert "did not get to" in caplog.text
    assert FIRST.value not in caplog.text
    assert FIRST.value not in repr(FIRST)
    assert (await scheduler.handlers[CALL]())["value"] == FIRST.value
