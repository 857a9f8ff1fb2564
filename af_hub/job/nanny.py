"""One Dask worker and the nanny that looks after it, in a process that has loaded Dask.

Serves the scheduler at its address inside the site. Promises: no HTTP; ends at the job's expiry, when the scheduler is gone, or (beside the
scheduler) when the agent is; a task that eats all memory ends the worker before scheduler and agent (``oom_score_adj``); while the site's
XRootD cache is down, tasks read from the origins. Reads ``worker.json``, or its text from the agent's socket, so that Dask is loaded by the
time the scheduler has an address.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import dask

from af_hub.job import kit, sandbox
from af_hub.job.addresses import site_address
from af_hub.job.dask_nodes import silent_worker
from af_hub.session.signpost import signpost_before

OOM_SCORE = "500"
M_TRIM_THRESHOLD, TRIM_BYTES = -1, 64 << 10
METHOD = "distributed.worker.multiprocessing-method"
"""How the nanny gets the process that does the work. At first by fork: Dask is loaded by then, and to load it again takes longer than all
else. Later, when the nanny has threads, by ``spawn``."""


def die_first() -> None:
    """Tell the kernel to end this process and its children before others of the job when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def give_memory_back() -> None:
    """Let the C library return freed memory early (mallopt(3)).

    Dask has its nanny set ``MALLOC_TRIM_THRESHOLD_`` for this, which is too late for a process that is forked.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def take_after_nobody() -> None:
    """In a process forked from the nanny: signals are its own again, none is passed on to the nanny's event loop."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


async def end_with(agent: asyncio.StreamReader) -> None:
    """End the whole process group when the agent is gone.

    At once, for nobody wants the results: told to end while the scheduler ends too, nanny and worker would wait for each other.
    """
    with suppress(OSError):
        await agent.read()
    os.killpg(0, signal.SIGKILL)


async def run(agent_fd: int | None) -> None:
    """Work until told to end."""
    if agent_fd is None:
        return await serve(sandbox.read_file("worker.json", kit.read_worker_kit))
    agent, _writer = await asyncio.open_connection(sock=socket.socket(fileno=agent_fd))
    if text := (await agent.readline()).decode():
        ending = asyncio.create_task(end_with(agent))
        await serve(kit.read_worker_kit(text))
        ending.cancel()


async def serve(worker: kit.WorkerKit) -> None:
    """Work until told to end, or no longer wanted."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    scheduler_host = worker.scheduler.partition("://")[2].rpartition(":")[0].strip("[]")
    # First the signpost: the worker's process has the environment that this one has when it starts it.
    async with (
        signpost_before(os.environ),
        silent_worker(worker, site_address(worker.bind, scheduler_host)) as nanny,
    ):
        # The nanny has threads now: processes to come in the place of this one start from scratch.
        dask.config.set({METHOD: "spawn"})
        ends = [nanny.finished(), stop.wait(), asyncio.sleep(worker.expires_at - time.time())]
        tasks = [asyncio.ensure_future(end) for end in ends]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


def work(agent_fd: int | None = None) -> None:
    """Work in this process, which has loaded Dask already."""
    die_first()
    give_memory_back()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    dask.config.set({METHOD: "fork"})
    os.register_at_fork(after_in_child=take_after_nobody)
    asyncio.run(run(agent_fd))
