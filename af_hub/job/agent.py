"""The job agent, main process of a scheduler job: ``python -m af_hub.job.agent`` in the job's sandbox.

Serves the hop from the site to the forwarder. It runs the Dask scheduler and a first worker as children, dials the forwarder, offers
``scheduler``, ``dashboard`` and ``agent``, and ends the job on order or when it expires. It is never inside a Dask event loop: a stalled
scheduler must not stall the tunnel. Promises: after it ended there is no child, no key file and no socket of its own.

Exit status: 0 closed, expired, or shut down by a client; 3 the scheduler died; 4 the files that came with the job cannot be used; 5 the
forwarder could never be reached. Whatever is not 0 leaves its reason in the job's ad (:mod:`af_hub.job.start`).
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import asyncssh

from af_hub.errors import AFError, Unavailable
from af_hub.forwarder.access import Service
from af_hub.forwarder.client import tcp_connector, unix_connector
from af_hub.forwarder.link import Link
from af_hub.job import kit, sandbox
from af_hub.job.api import api, read_end
from af_hub.job.children import Child, start_child
from af_hub.job.control import Control
from af_hub.job.private_http import serve_private, server_context
from af_hub.job.start import say
from af_hub.job.watch import watch

log = logging.getLogger("af_hub.job.agent")

SCHEDULER_START_SECONDS = 120
RETIRE_SECONDS = 600
"""How long moving the results of retired workers to others may take."""

SCHEDULER_DIED, KIT_UNUSABLE, FORWARDER_AWAY = 3, 4, 5
LOG_END_BYTES = 4096


class Agent:
    """Runs one job."""

    def __init__(self, job: kit.JobKit) -> None:
        self._job = job
        self._closing = asyncio.Event()
        self._scheduler = ""
        self._first_worker: Child | None = None
        ours, self._theirs = socket.socketpair()
        self._control = Control(ours)

    async def run(self) -> int:
        """Run until the end; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.close)
        fd = self._theirs.detach()
        scheduler = await start_child("scheduler", ["--control-fd", str(fd)], fd)
        try:
            await self._start_first_worker()
            self._scheduler = (await self._control.start(SCHEDULER_START_SECONDS))["scheduler"]
            self._introduce_first_worker()
            return await self._serve(scheduler)
        except Unavailable as error:
            log.error("%s; see scheduler.log", error)
            await self._say_scheduler_died()
            return SCHEDULER_DIED
        finally:
            self._control.close()
            await asyncio.gather(scheduler.stop(), self._stop_first_worker())

    async def _serve(self, scheduler: Child) -> int:
        host, _, port = self._scheduler.partition("://")[2].rpartition(":")
        offers = {
            Service.SCHEDULER: tcp_connector(host.strip("[]"), int(port)),
            Service.DASHBOARD: unix_connector(str(kit.DASHBOARD_SOCKET)),
            Service.AGENT: unix_connector(str(kit.AGENT_SOCKET)),
        }
        context = server_context(*map(Path, (kit.CA, kit.SCHEDULER_CERTIFICATE, kit.SCHEDULER_KEY)))
        server = serve_private(api(self), kit.AGENT_SOCKET, context, ["controller"])
        log.info("the Dask scheduler of %s serves at %s", self._job.dask_cluster, self._scheduler)
        async with Link(self._job.forwarder, sandbox.read_credentials(self._job.dask_cluster), offers) as link:
            status = await self._until_end(scheduler, link)
            # The answer to the order that ended us still has to go out: the children first, then the link.
            self._control.close()
            await asyncio.gather(scheduler.stop(), self._stop_first_worker())
            await server.close_all_connections()
        server.stop()
        return status

    async def _until_end(self, scheduler: Child, link: Link) -> int:
        died, closing = asyncio.create_task(scheduler.wait()), asyncio.create_task(self._closing.wait())
        cut_off = asyncio.create_task(watch(link, self._job.patience, say))
        left = self._job.expires_at - time.time()
        done, pending = await asyncio.wait([died, closing, cut_off], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if died in done:
            return await self._scheduler_ended(died.result())
        if cut_off in done:
            log.error("gave up: %s", cut_off.result())
            await asyncio.to_thread(say, f"gave up after {self._job.patience:g} s: {cut_off.result()}")
            return FORWARDER_AWAY
        log.info("the job %s", "is closed" if closing in done else "has expired")
        return 0

    async def _scheduler_ended(self, status: int) -> int:
        if status == 0:
            log.info("the Dask scheduler was shut down by a client")
            return 0
        log.error("the Dask scheduler died (status %d); see scheduler.log", status)
        await self._say_scheduler_died()
        return SCHEDULER_DIED

    async def _say_scheduler_died(self) -> None:
        end = read_end(Path("scheduler.log"), LOG_END_BYTES).decode("utf-8", "replace")
        await asyncio.to_thread(say, end)

    async def _start_first_worker(self) -> None:
        read, write = os.pipe()
        self._first_worker = await start_child("worker", ["--lifeline-fd", str(read)], read, lifeline=write)

    def _introduce_first_worker(self) -> None:
        """Tell the worker, which imports meanwhile, where its scheduler is."""
        assert self._first_worker
        worker = kit.WorkerKit(
            dask_cluster=self._job.dask_cluster,
            scheduler=self._scheduler,
            name=self._first_worker_name,
            nthreads=self._job.nthreads,
            memory_limit=kit.first_worker_memory(self._job.memory_limit),
            expires_at=self._job.expires_at,
            bind=self._job.bind,
        )
        self._first_worker.tell(worker.as_json())

    async def _stop_first_worker(self) -> None:
        worker, self._first_worker = self._first_worker, None
        if worker:
            await worker.stop()

    @property
    def _first_worker_name(self) -> str:
        return kit.worker_name(self._job.dask_cluster, 0)

    async def status(self) -> dict[str, Any]:
        """What the controller sees."""
        facts = await self._control.ask("status")
        return facts | {
            "cluster": self._job.dask_cluster,
            "site": self._job.site,
            "expires_at": self._job.expires_at,
            "first_worker": bool(self._first_worker and self._first_worker.alive),
        }

    async def retire(self, workers: list[str]) -> list[str]:
        """End workers; the first one ends its process too."""
        answer = await self._control.ask("retire", RETIRE_SECONDS, workers=workers)
        retired: list[str] = answer["retired"]
        if self._first_worker_name in workers:
            await self._stop_first_worker()
        log.info("retired %s", ", ".join(retired) or "nobody")
        return retired

    async def want_first_worker(self, wanted: bool) -> None:
        """Start or retire the worker beside the scheduler; nothing happens when it is so already."""
        runs = bool(self._first_worker and self._first_worker.alive)
        if wanted and not runs:
            await self._stop_first_worker()
            await self._start_first_worker()
            self._introduce_first_worker()
        elif runs and not wanted:
            await self.retire([self._first_worker_name])

    def close(self) -> None:
        """End the job soon."""
        self._closing.set()


async def run() -> int:
    """Read the kit, run the job, clean up; returns the exit status."""
    sandbox.protect_secrets()
    try:
        return await Agent(sandbox.read_file("job.json", kit.read_job_kit)).run()
    finally:
        sandbox.remove_secrets()
        for path in (kit.AGENT_SOCKET, kit.DASHBOARD_SOCKET):
            path.unlink(missing_ok=True)


def main() -> None:
    """Run the job; its log is ``agent.log``."""
    os.umask(0o077)
    logging.basicConfig(
        filename="agent.log", level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    asyncssh.set_log_level(logging.WARNING)
    try:
        status = asyncio.run(run())
    except AFError as error:
        log.error("%s", error)
        print(f"af_hub.job.agent: {error}", file=sys.stderr)
        say(str(error))
        status = KIT_UNUSABLE
    sys.exit(status)


if __name__ == "__main__":
    main()
