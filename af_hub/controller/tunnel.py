"""The controller's end of the forwarder: one connection for everything, and Unix sockets that lead to endpoints.

Serves the hop controller → job agent and dashboard. Promises: it knows which endpoints are offered, so nobody waits for one that is
not; the connection is dialled again when it ends, with a certificate that is renewed ahead of its end. Content stays with TLS
above (:mod:`af_hub.controller.jobagent`).
"""

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Self

import asyncssh

from af_hub.controller.keys import UserCA
from af_hub.errors import AFError, Unavailable
from af_hub.forwarder.access import Endpoint, Service
from af_hub.forwarder.bridge import Bridge
from af_hub.forwarder.link import Link
from af_hub.forwarder.login import Credentials, ForwarderAddress

log = logging.getLogger(__name__)

PRINCIPAL = "controller"
CERTIFICATE_SECONDS = 24 * 3600
RENEWAL_SECONDS = 8 * 3600
PATIENCE = 5
"""Seconds for which a call may wait for a way that has just gone."""

DROP_SECONDS = 5
SOCKETS, PREFIX = "sockets", "af-ctl-"


class Tunnel:
    """See the module; used as ``async with``.

    Parameters
    ----------
    changed
        Called with the cluster when one of its endpoints comes or goes.
    is_over
        Whether a cluster is over for good: a forwarder that was started anew knows of none, and certificates outlive clusters.
    """

    def __init__(
        self,
        user_ca: UserCA,
        forwarder: ForwarderAddress,
        changed: Callable[[str], None] = lambda cluster: None,
        is_over: Callable[[str], bool] = lambda cluster: False,
    ) -> None:
        self.changed = changed
        self.is_over = is_over
        self._user_ca = user_ca
        self._link = Link(forwarder, self._credentials())
        self._offered: set[Endpoint] = set()
        self._bridges: dict[Endpoint, Bridge] = {}
        self._opening = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._folder = Path()

    async def __aenter__(self) -> Self:
        self._folder = self._stack.enter_context(_short_folder(self._user_ca.public_path.with_name(SOCKETS)))
        await self._stack.enter_async_context(self._link)
        self._tasks = [asyncio.create_task(self._keep_watching()), asyncio.create_task(self._keep_renewing())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(bridge.close() for bridge in self._bridges.values()))
        self._bridges.clear()
        await self._stack.aclose()

    @property
    def trouble(self) -> str:
        """Why there is no connection to the forwarder; empty while there is one."""
        return self._link.trouble

    def offered(self, cluster: str, service: str) -> bool:
        """Whether the cluster's job offers that service at the moment."""
        return Endpoint(cluster, Service(service)) in self._offered

    async def socket(self, cluster: str, service: str) -> Path:
        """A Unix socket (0600) that leads there; always the same one."""
        endpoint = Endpoint(cluster, Service(service))
        path = self._folder / f"{cluster}.{service}"
        async with self._opening:
            if endpoint not in self._bridges:
                self._bridges[endpoint] = await Bridge(self._link, endpoint, path=path, patience=PATIENCE).start()
        return path

    async def forget(self, cluster: str) -> None:
        """Close the sockets that lead there, and have the forwarder refuse the cluster from now on.

        Raises
        ------
        Unavailable
            When the forwarder could not be told.
        """
        for service in Service:
            bridge = self._bridges.pop(Endpoint(cluster, service), None)
            if bridge:
                await bridge.close()
        try:
            async with asyncio.timeout(DROP_SECONDS):
                await (await self._link.connection()).drop(cluster)
        except TimeoutError as error:
            raise Unavailable(f"the forwarder could not be told that the cluster is over: {self.trouble}") from error

    async def _keep_watching(self) -> None:
        while True:
            connection = await self._link.connection()
            try:
                async for event in connection.events():
                    self._note(event)
                    if event["event"] == "offered" and self.is_over(event["cluster"]):
                        log.warning("a job of cluster %s, which is over, came to the forwarder", event["cluster"])
                        await connection.drop(event["cluster"])
            except (AFError, asyncssh.Error, OSError, ValueError) as error:
                log.warning("the forwarder's events ended: %s", error)
            finally:
                self._offered.clear()
            if not connection.is_closed():
                await connection.close()

    def _note(self, event: dict[str, str]) -> None:
        if event["event"] not in ("offered", "gone"):
            return
        endpoint = Endpoint(event["cluster"], Service(event["service"]))
        (self._offered.add if event["event"] == "offered" else self._offered.discard)(endpoint)
        self.changed(endpoint.dask_cluster)

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            self._link.credentials = self._credentials()

    def _credentials(self) -> Credentials:
        key = asyncssh.generate_private_key("ssh-ed25519")
        certificate = self._user_ca.certify(key.convert_to_public(), PRINCIPAL, time.time() + CERTIFICATE_SECONDS)
        return Credentials(PRINCIPAL, key.export_private_key().decode(), certificate)


@contextmanager
def _short_folder(link: Path) -> Iterator[Path]:
    """A folder for Unix sockets, whose paths have at most 107 bytes: too few for a folder below the state.

    ``link``, in the state, names it; by that the folder of a controller that was killed is found and removed.
    """
    if link.is_symlink():
        left = link.readlink()
        if left.name.startswith(PREFIX):
            shutil.rmtree(left, ignore_errors=True)
        link.unlink()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        link.symlink_to(folder)
        try:
            yield Path(folder)
        finally:
            link.unlink(missing_ok=True)
