"""A connection to the forwarder that comes back: dialled again whenever it ends, with new offers each time.

Serves job agent, session agent and controller for as long as they live. Leaves to :mod:`af_hub.forwarder.pauses` when to dial.
"""

import asyncio
import logging
import random
from contextlib import suppress
from typing import Self

from af_hub.errors import EndpointRefused, Unavailable
from af_hub.forwarder.access import Service
from af_hub.forwarder.client import Connector, ForwarderConnection, connect
from af_hub.forwarder.login import Credentials, ForwarderAddress
from af_hub.forwarder.pauses import seconds_until_dial

log = logging.getLogger(__name__)


class Link:
    """A connection to the forwarder that is dialled again whenever it ends.

    Parameters
    ----------
    offers
        For a job: what to offer each time the connection is there.

    Attributes
    ----------
    credentials
        Used at the next dial; replace it to renew.
    trouble
        Why there is no connection at this moment, as a sentence; empty while there is one.
    """

    def __init__(
        self,
        forwarder: ForwarderAddress,
        credentials: Credentials,
        offers: dict[Service, Connector] | None = None,
    ) -> None:
        self.forwarder = forwarder
        self.credentials = credentials
        self.trouble = "not dialled yet"
        self._offers = offers or {}
        self._connection: ForwarderConnection | None = None
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Begin to dial; returns at once."""
        self._task = asyncio.create_task(self._keep())
        return self

    async def connection(self) -> ForwarderConnection:
        """The connection; waits until there is one."""
        async with self._changed:
            while self._connection is None or self._connection.is_closed():
                await self._changed.wait()
            return self._connection

    async def close(self) -> None:
        """End the connection and dial no more."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _keep(self) -> None:
        failures = 0
        while True:
            refused = False
            try:
                connection = await connect(self.forwarder, self.credentials)
                try:
                    for service, connector in self._offers.items():
                        await connection.offer(service, connector)
                    await self._set(connection, "")
                    failures = 0
                    await connection.wait_closed()
                    refused = connection.sent_away
                    await self._set(None, "the connection to the forwarder ended")
                finally:
                    await connection.close()
            except (EndpointRefused, Unavailable) as error:
                failures += 1
                refused = isinstance(error, EndpointRefused)
                await self._set(None, str(error))
            pause = seconds_until_dial(failures, refused, random.uniform)
            log.warning("%s; dialling again in %.1f s", self.trouble, pause)
            await asyncio.sleep(pause)

    async def _set(self, connection: ForwarderConnection | None, trouble: str) -> None:
        async with self._changed:
            self._connection, self.trouble = connection, trouble
            if connection:
                log.info("connected to the forwarder as %s", self.credentials.principal)
            self._changed.notify_all()
