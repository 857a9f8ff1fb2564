"""The Dask scheduler as a child of the job agent: ``python -m af_hub.job.scheduler``.

Serves workers at its address inside the site, clients through the tunnel, and the agent's questions (:mod:`af_hub.job.control`). Ends when
the agent is gone, asks it to, or a client shuts the Dask cluster down. The first worker comes of this process, before there is a thread or
an event loop in it: loading Dask takes longer than all else, and so is done once.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import Any

import dask

from af_hub.forwarder.dask_settings import SCHEDULER
from af_hub.job import begin, kit, nanny, sandbox
from af_hub.job.addresses import site_address
from af_hub.job.aside import signpost_aside
from af_hub.job.control import serve_control
from af_hub.job.dask_nodes import PrivateScheduler, private_scheduler, stay_in_sandbox
from af_hub.job.dask_tokens import NumberedToken

FIRE_AND_FORGET = "fire-and-forget"
"""distributed counts it among the clients."""


def describe(scheduler: PrivateScheduler) -> dict[str, Any]:
    """What the agent API tells about it."""
    return {
        "scheduler": scheduler.address,
        "workers": [
            {
                "name": str(worker.name),
                "address": worker.address,
                "nthreads": worker.nthreads,
                "memory_limit": worker.memory_limit,
            }
            for worker in scheduler.workers.values()
        ],
        "clients": len(set(scheduler.clients) - {FIRE_AND_FORGET}),
        "tasks": len(scheduler.tasks),
    }


async def retire(scheduler: PrivateScheduler, names: list[str]) -> list[str]:
    """End these workers; their results move to others first. Returns the names of those that there were."""
    workers = {worker.address: str(worker.name) for worker in scheduler.workers.values() if str(worker.name) in names}
    if workers:
        await scheduler.retire_workers(list(workers), close_workers=True)
    return sorted(workers.values())


async def run(control_fd: int, worker_pid: int) -> None:
    """Serve until told to end."""
    job = sandbox.read_file("job.json", kit.read_job_kit)

    async def handle(call: str, **arguments: Any) -> dict[str, Any]:
        match call:
            case "status":
                return describe(scheduler)
            case "retire":
                return {"retired": await retire(scheduler, arguments["workers"])}
            case "token":
                scheduler.tokens.take(NumberedToken(**arguments))
                return {}
            case _:
                return {"error": f"unknown call {call}"}

    async with private_scheduler(site_address(job.bind, job.forwarder.host)) as scheduler:
        ready = {"scheduler": scheduler.address, "worker_pid": worker_pid}
        control = asyncio.create_task(serve_control(control_fd, ready, handle))
        over = asyncio.create_task(scheduler.finished())
        await asyncio.wait([control, over], return_when=asyncio.FIRST_COMPLETED)


def bear_worker(agent_fd: int, control_fd: int) -> int:
    """A process for the first worker, which shares what this one has loaded; returns its id, and only in this one."""
    worker_pid = os.fork()
    if worker_pid:
        os.close(agent_fd)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that it leaves no zombie; nobody here waits for a process
        return worker_pid
    os.close(control_fd)
    os.setsid()
    log = begin.open_log("worker")
    for output in (1, 2):
        os.dup2(log, output)
    nanny.work(agent_fd)
    sys.exit()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="af_hub.job.scheduler", description="A Dask scheduler, for the job agent.")
    parser.add_argument("--control-fd", type=int, required=True, metavar="N", help="socket to the agent")
    parser.add_argument("--worker-fd", type=int, required=True, metavar="N", help="socket from worker to agent")
    args = parser.parse_args()
    os.umask(0o077)
    stay_in_sandbox()
    worker_pid = bear_worker(args.worker_fd, args.control_fd)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    dask.config.set(SCHEDULER)
    with signpost_aside(os.environ):
        asyncio.run(run(args.control_fd, worker_pid))


if __name__ == "__main__":
    main()
