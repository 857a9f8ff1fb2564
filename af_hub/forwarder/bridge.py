"""A local listener whose connections go to one endpoint at the forwarder.

Serves session agent and controller. Promises: a local connection that was accepted is not closed while the way may come back (Dask's client
would hang for ever), but held for a bounded time; a Unix socket is its owner's only.
"""

import asyncio
import logging
import random
from contextlib import suppress
from pathlib import Path
from typing import Self

from af_hub.errors import EndpointRefused, Unavailable
from af_hub.forwarder.access import Endpoint
from af_hub.forwarder.dask_settings import PATIENCE
from af_hub.forwarder.link import Link
from af_hub.forwarder.pauses import seconds_until_dial
from af_hub.forwarder.relay import SocketEnd

log = logging.getLogger(__name__)


class Bridge:
    """A local listener; each connection to it becomes a stream to one endpoint.

    Parameters
    ----------
    link
        The way to the forwarder; may be shared.
    endpoint
        Where the streams go.
    port
        Where to listen on 127.0.0.1; 0 takes a free one.
    path
        Listen on this Unix socket (0600) instead.
    patience
        Seconds for which an accepted connection is held while the endpoint cannot be reached; then it gets a reset.
    """

    def __init__(
        self,
        link: Link,
        endpoint: Endpoint,
        port: int = 0,
        path: Path | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.endpoint = endpoint
        self.port, self.path = port, path
        self._link = link
        self._patience = patience
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._locals: set[_LocalEnd] = set()

    async def start(self) -> Self:
        """Listen; ``port`` says where from now on."""
        loop = asyncio.get_running_loop()
        if self.path:
            with suppress(FileNotFoundError):
                self.path.unlink()
            self._server = await loop.create_unix_server(self._accept, str(self.path), start_serving=False)
            self.path.chmod(0o600)
            await self._server.start_serving()
        else:
            self._server = await loop.create_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Stop listening and break what goes through."""
        if self._server:
            self._server.close()
        for task in self._serving:
            task.cancel()
        for end in list(self._locals):
            end.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self.path:
            with suppress(FileNotFoundError):
                self.path.unlink()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _accept(self) -> "_LocalEnd":
        return _LocalEnd(self)

    def arrived(self, end: "_LocalEnd") -> None:
        """A local connection is there."""
        self._locals.add(end)
        task = asyncio.create_task(self._serve(end))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def left(self, end: "_LocalEnd") -> None:
        """A local connection is gone."""
        self._locals.discard(end)

    async def _serve(self, end: "_LocalEnd") -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._join(end)
        except (TimeoutError, EndpointRefused) as error:
            log.warning("a connection to %s is given up: %s", self.endpoint, error or self._link.trouble or "no answer")
            end.abort()

    async def _join(self, end: "_LocalEnd") -> None:
        failures = 0
        while True:
            connection = await self._link.connection()
            try:
                return await connection.join(self.endpoint, end)
            except Unavailable as error:
                failures += 1
                log.info("%s", error)
            await asyncio.sleep(seconds_until_dial(failures, False, random.uniform))


class _LocalEnd(SocketEnd):
    """An accepted connection of a bridge."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted: the bridge finds it a way."""
        super().connection_made(transport)
        self._bridge.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Over: nothing to find any more."""
        self._bridge.left(self)
        super().connection_lost(exc)
