"""The way from a notebook to the scheduler of a Dask cluster, and what is known of the cluster meanwhile.

Serves the hop kernel → session agent and scheduler, as the base of :class:`~af_hub.client.remote.RemoteHTCondor`. Promises: a way that
breaks is told and found again; a cluster that is over is told once, with the reason; letting go takes bounded time.
"""

# Dask has types in places only.
# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from distributed.core import Status, rpc
from distributed.deploy.cluster import Cluster
from distributed.objects import SchedulerInfo
from distributed.security import Security

from af_hub.client.api import Controller, SessionAgent, Way
from af_hub.client.security import security_of
from af_hub.client.words import OVER, say_broken, say_over
from af_hub.errors import AFError, Unavailable

log = logging.getLogger(__name__)

CONNECT_SECONDS = 60
ATTACH_AWAY_SECONDS = 30
"""How long the way to a cluster that runs may not be had; a restart of controller or session agent takes seconds."""

PAUSE_SECONDS = 0.5
DISCONNECT_SECONDS = 10
SYNC_SECONDS = 5


class WayToCluster(Cluster):
    """What Dask calls a cluster, as far as it is a connection; ``_found`` is the cluster as the controller told it last."""

    def __init__(
        self, controller: Controller, agent: SessionAgent, asynchronous: bool, loop: Any, quiet: bool, name: str | None
    ) -> None:
        self._controller, self._agent = controller, agent
        self._found: dict[str, Any] = {}
        self.security: Security | None = None
        self._agent_pid = 0
        self._finding_back: asyncio.Task[Any] | None = None
        self._keeping_told: asyncio.Task[None] | None = None
        self._warned = ""
        super().__init__(
            asynchronous=asynchronous, loop=loop, quiet=quiet, name=name, scheduler_sync_interval=SYNC_SECONDS
        )

    @property
    def cluster_id(self) -> str:
        """The cluster's number at the controller; empty before it was asked for."""
        return str(self._found.get("id", ""))

    def _attach_ahead(self) -> asyncio.Task[Way]:
        """Begin to ask for the way while the cluster is still on its way; the near end holds what comes too early."""
        ahead = asyncio.create_task(self._attach())
        ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
        return ahead

    async def _connect(self, ahead: asyncio.Task[Way] | None = None) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                way = await self._attached(ahead)
                self.security = security_of(way)
                self.scheduler_comm = rpc(way.scheduler, connection_args=self.security.get_connection_args("client"))
                await super()._start()
            # The scheduler may know another name, given by whoever was connected first.
            self.name = self._found["name"]
            self._keeping_told = asyncio.create_task(self._keep_told())
        except (TimeoutError, OSError) as error:
            raise Unavailable(
                f"The Dask cluster runs, but its scheduler does not answer through the tunnel "
                f"({type(error).__name__}); it has been closed. Try again."
            ) from error

    async def _attached(self, ahead: asyncio.Task[Way] | None) -> Way:
        if ahead is not None:
            with suppress(AFError):
                return await ahead
        return await self._attach()

    async def _attach(self) -> Way:
        """The way, once it can be had: session agent or controller may be on their way back."""
        deadline = time.monotonic() + ATTACH_AWAY_SECONDS
        while True:
            try:
                way = await self._agent.attach(self.cluster_id)
                self._agent_pid = await self._agent.pid()
                return way
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    async def _keep_told(self) -> None:
        """Know what the controller knows, for whoever looks at this object; say once that the cluster is over."""
        while self._found["state"] not in OVER:
            await asyncio.sleep(SYNC_SECONDS)
            with suppress(AFError):
                self._found = await self._controller.get(self.cluster_id)
        self._warn(say_over(self._found))

    def _warn(self, sentence: str) -> None:
        if sentence != self._warned:
            log.warning("%s", sentence)
        self._warned = sentence

    async def _watch_worker_status(self, comm: Any) -> None:
        """Follow the workers; when the connection breaks, say what that means, and follow them again once it is back."""
        while True:
            await super()._watch_worker_status(comm)
            if self.status != Status.running:
                return
            self._finding_back = asyncio.create_task(self._find_back())
            try:
                comm = await self._finding_back
            except asyncio.CancelledError:
                return
            if comm is None:
                return

    async def _find_back(self) -> Any:
        """A new connection on which the scheduler tells of its workers; None when the cluster is over."""
        self._warn(await self._why_broken())
        if self._found["state"] in OVER or self.scheduler_comm is None:
            return None
        comm = self._watch_worker_status_comm = await self.scheduler_comm.live_comm()
        await comm.write({"op": "subscribe_worker_status"})
        self.scheduler_info = SchedulerInfo(await comm.read())
        self._warn(f"{self.name} is reached again.")
        return comm

    async def _why_broken(self) -> str:
        """What the facility says of it, for people."""
        pid = 0
        with suppress(AFError):
            pid = await self._agent.pid()
            self._found = await self._controller.get(self.cluster_id)
        before, self._agent_pid = self._agent_pid, pid
        return say_broken(self._found, before, pid)

    async def _disconnect(self) -> None:
        """Let go of the scheduler, which may not answer any more, and of the tunnel."""
        self.status = Status.closing
        for task in (self._finding_back, self._keeping_told):
            if task:
                task.cancel()
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(DISCONNECT_SECONDS):
                await super()._close()
        for task in (self._watch_worker_status_task, self._sync_cluster_info_task):
            if task and not task.done():
                task.cancel()
        self.status = Status.closed
        if self.cluster_id:
            with suppress(AFError):
                await self._agent.detach(self.cluster_id)
