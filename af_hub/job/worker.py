"""One Dask worker: ``python -m af_hub.job.worker``, as a job of its own or as a child of the job agent.

Serves the scheduler at its address inside the site. Promises: no HTTP; ends at the job's expiry, when the scheduler is gone, or (as a child)
when the agent is; a task that eats all memory ends the worker before scheduler and agent (``oom_score_adj``). Reads ``worker.json``, or its
text from the agent's pipe, so that a child has imported all it needs by the time the scheduler has an address.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import distributed  # noqa: F401  imported while the scheduler starts, before there is a kit to read

from af_hub.errors import AFError
from af_hub.job import kit, sandbox
from af_hub.job.addresses import site_address
from af_hub.job.dask_nodes import silent_worker, stay_in_sandbox

OOM_SCORE = "500"


def die_first() -> None:
    """Tell the kernel to end this process and its children before others of the job when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


async def until_end_of(pipe: asyncio.StreamReader | None) -> None:
    """Wait until whoever holds the other end of the pipe is gone; for ever without a pipe."""
    if pipe is None:
        await asyncio.get_running_loop().create_future()
    else:
        await pipe.read()


async def run(lifeline_fd: int | None) -> None:
    """Work until told to end."""
    pipe = None if lifeline_fd is None else await open_pipe(lifeline_fd)
    if pipe is None:
        worker = sandbox.read_file("worker.json", kit.read_worker_kit)
    else:
        text = (await pipe.readline()).decode()
        if not text:
            return
        worker = kit.read_worker_kit(text)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    scheduler_host = worker.scheduler.partition("://")[2].rpartition(":")[0].strip("[]")
    async with silent_worker(worker, site_address(worker.bind, scheduler_host)) as nanny:
        ends = [nanny.finished(), until_end_of(pipe), stop.wait(), asyncio.sleep(worker.expires_at - time.time())]
        tasks = [asyncio.ensure_future(end) for end in ends]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


async def open_pipe(fd: int) -> asyncio.StreamReader:
    """A reader of an inherited pipe."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    return reader


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="af_hub.job.worker", description="A Dask worker.")
    parser.add_argument("--lifeline-fd", type=int, metavar="N", help="pipe with worker.json's text; its end ends us")
    args = parser.parse_args()
    os.umask(0o077)
    sandbox.protect_secrets()
    die_first()
    stay_in_sandbox()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        asyncio.run(run(args.lifeline_fd))
    except AFError as error:
        sys.exit(f"af_hub.job.worker: {error}")
    finally:
        if args.lifeline_fd is None:
            sandbox.remove_secrets()


if __name__ == "__main__":
    main()
