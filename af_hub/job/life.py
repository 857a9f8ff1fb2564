"""What the job agent does all its life: one scheduler, one first worker, and the way to the forwarder.

It dials the forwarder, offers ``scheduler``, ``dashboard`` and ``agent``, and ends the job on order or when it expires. It is never inside
a Dask event loop: a stalled scheduler must not stall the tunnel.
"""

import asyncio
import itertools
import logging
import signal
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
from af_hub.job.begin import TOKEN_FILE, DaskProcesses
from af_hub.job.children import FirstWorker, SchedulerProcess, begin_worker
from af_hub.job.control import Control
from af_hub.job.private_http import serve_private, server_context
from af_hub.job.start import say
from af_hub.job.watch import watch
from af_hub.session.tokenfile import TokenFile
from af_hub.tokens.lifetime import AccessToken

log = logging.getLogger("af_hub.job.agent")

SCHEDULER_START_SECONDS = 120
RETIRE_SECONDS = 600
"""How long moving the results of retired workers to others may take."""

SCHEDULER_DIED, KIT_UNUSABLE, FORWARDER_AWAY = 3, 4, 5
LOG_END_BYTES = 4096


class Agent:
    """Runs one job."""

    def __init__(self, job: kit.JobKit, dask: DaskProcesses) -> None:
        self._job = job
        self._closing = asyncio.Event()
        self._address = ""
        self._scheduler = SchedulerProcess(dask.scheduler)
        self._first_worker: FirstWorker | None = FirstWorker(dask.worker)
        self._control = Control(dask.control)
        self._token_file = TokenFile(Path(TOKEN_FILE).absolute())
        self._token_numbers = itertools.count(1)
        self._token_expires_at: float | None = None

    async def run(self) -> int:
        """Run until the end; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.close)
        try:
            ready = await self._control.start(SCHEDULER_START_SECONDS)
            self._address = ready["scheduler"]
            assert self._first_worker
            self._introduce(await self._first_worker.start(ready["worker_pid"]))
            return await self._serve()
        except Unavailable as error:
            log.error("%s; see scheduler.log", error)
            await self._say_scheduler_died()
            return SCHEDULER_DIED
        finally:
            await self._end_children()

    async def _serve(self) -> int:
        host, _, port = self._address.partition("://")[2].rpartition(":")
        offers = {
            Service.SCHEDULER: tcp_connector(host.strip("[]"), int(port)),
            Service.DASHBOARD: unix_connector(str(kit.DASHBOARD_SOCKET)),
            Service.AGENT: unix_connector(str(kit.AGENT_SOCKET)),
        }
        context = server_context(*map(Path, (kit.CA, kit.SCHEDULER_CERTIFICATE, kit.SCHEDULER_KEY)))
        server = serve_private(api(self), kit.AGENT_SOCKET, context, ["controller"])
        log.info("the Dask scheduler of %s serves at %s", self._job.dask_cluster, self._address)
        async with Link(self._job.forwarder, sandbox.read_credentials(self._job.dask_cluster), offers) as link:
            status = await self._until_end(link)
            # The answer to the order that ended us still has to go out: the children first, then the link.
            await self._end_children()
            await server.close_all_connections()
        server.stop()
        return status

    async def _end_children(self) -> None:
        self._control.close()
        await asyncio.gather(self._scheduler.stop(), self._stop_first_worker())

    async def _until_end(self, link: Link) -> int:
        died, closing = asyncio.create_task(self._scheduler.wait()), asyncio.create_task(self._closing.wait())
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

    def _introduce(self, first_worker: FirstWorker) -> None:
        """Tell the worker, which has loaded Dask meanwhile, where its scheduler is."""
        worker = kit.WorkerKit(
            dask_cluster=self._job.dask_cluster,
            scheduler=self._address,
            name=self._first_worker_name,
            nthreads=self._job.nthreads,
            memory_limit=kit.first_worker_memory(self._job.memory_limit),
            expires_at=self._job.expires_at,
            bind=self._job.bind,
        )
        first_worker.tell(worker.as_json())

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
            "token_expires_at": self._token_expires_at,
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
            self._first_worker = await begin_worker()
            self._introduce(self._first_worker)
        elif runs and not wanted:
            await self.retire([self._first_worker_name])

    async def take_token(self, token: AccessToken) -> None:
        """Put it where scheduler and first worker look for it, and have the scheduler give it to all workers."""
        self._token_file.replace(token)
        self._token_expires_at = token.expires_at
        number = next(self._token_numbers)
        await self._control.ask("token", number=number, value=token.value, expires_at=token.expires_at)
        log.info("token %d is here, good for %.0f s", number, token.seconds_left(time.time()))

    def close(self) -> None:
        """End the job soon."""
        self._closing.set()


async def run(dask: DaskProcesses) -> int:
    """Read the kit, run the job, clean up; returns the exit status."""
    sandbox.protect_secrets()
    try:
        return await Agent(sandbox.read_file("job.json", kit.read_job_kit), dask).run()
    finally:
        sandbox.remove_secrets()
        for path in (kit.AGENT_SOCKET, kit.DASHBOARD_SOCKET):
            path.unlink(missing_ok=True)


def live(dask: DaskProcesses) -> int:
    """Run the job with these processes; returns the exit status."""
    asyncssh.set_log_level(logging.WARNING)
    try:
        return asyncio.run(run(dask))
    except AFError as error:
        dask.end()
        log.error("%s", error)
        print(f"af_hub.job.agent: {error}", file=sys.stderr)
        say(str(error))
        return KIT_UNUSABLE
