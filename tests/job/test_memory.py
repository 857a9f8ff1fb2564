"""A task that eats all memory, in a real job: real scheduler, real nanny."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest
from distributed import KilledWorker
from test_agent import client_of

from af_hub.job.kit import first_worker_memory

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

MIB = 1 << 20
JOB_MEMORY = 1024 * MIB
ENOUGH = 4096 * MIB
"""At which the greedy task stops by itself, for the machine's sake."""


def greedy():
    """A task that touches memory without end; made here, so that it travels by value."""

    def eat(step=16 * MIB, enough=ENOUGH):
        eaten = []
        while len(eaten) * step < enough:
            eaten.append(b"x" * step)
        return len(eaten)

    return eat


@pytest.fixture
def one_death_is_enough(tmp_path, monkeypatch):
    """Dask kills a task that has killed four workers; here one will do."""
    settings = tmp_path / ".config" / "dask" / "test.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("distributed: {scheduler: {allowed-failures: 0}}\n")
    monkeypatch.setenv("HOME", str(tmp_path))


async def test_a_task_that_eats_all_memory_ends_its_worker_only(one_death_is_enough, running):
    job = running(memory_limit=JOB_MEMORY)
    async with client_of(job) as client:
        worker = await client.submit(os.getpid, pure=False)
        scheduler = await client.run_on_scheduler(os.getpid)
        with pytest.raises(KilledWorker):
            await client.submit(greedy())
        assert await client.submit(os.getpid, pure=False) != worker
        assert await client.run_on_scheduler(os.getpid) == scheduler and job.process.poll() is None
        held = sum(psutil.Process(pid).memory_info().rss for pid in (job.process.pid, scheduler))
        left = JOB_MEMORY - first_worker_memory(JOB_MEMORY)
        print(f"scheduler and agent hold {held // MIB} of the {left // MIB} MiB that are left to them")
        assert held < left


async def test_the_worker_is_the_first_that_the_kernel_ends(running):
    """A kernel that is out of memory before the nanny has looked chooses by this; also for a worker that was started again."""
    job = running()
    async with client_of(job) as client:
        for _ in range(2):
            worker = await client.submit(os.getpid, pure=False)
            scheduler = await client.run_on_scheduler(os.getpid)
            scores = {pid: oom_score(pid) for pid in (worker, scheduler, job.process.pid)}
            assert scores[worker] == 500 and max(scores[scheduler], scores[job.process.pid]) < 500
            psutil.Process(worker).kill()
            async with asyncio.timeout(30):
                while psutil.pid_exists(worker):
                    await asyncio.sleep(0.05)


def oom_score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
