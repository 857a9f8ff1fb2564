"""The dialling side of the forwarder: for the job agent, the session agent and the controller.

Serves every hop to the forwarder. Promises: only the pinned host key is talked to, only the given certificate is shown, nothing of the
machine's own SSH set-up is read; a :class:`Link` dials again whenever its connection ends; a :class:`Bridge` never closes a local connection
that it accepted while the way may come back (Dask's client would hang for ever), but holds it for a bounded time. Leaves to the caller
where keys and certificates come from.
"""

import asyncio
import functools
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import asyncssh

from af_hub.errors import EndpointAway, EndpointRefused, Unavailable
from af_hub.forwarder import ssh
from af_hub.forwarder.access import Endpoint, Service, read_principal
from af_hub.forwarder.dask_settings import PATIENCE
from af_hub.forwarder.login import Credentials as Credentials
from af_hub.forwarder.login import ForwarderAddress as ForwarderAddress
from af_hub.forwarder.pauses import seconds_until_dial
from af_hub.forwarder.relay import ChannelEnd, SocketEnd, close_late

log = logging.getLogger("af_hub.forwarder.client")

T = TypeVar("T")

Connector = Callable[[Callable[[], SocketEnd]], Awaitable[tuple[asyncio.BaseTransport, SocketEnd]]]
"""Connects to a local program with the protocol that it is given; see :func:`tcp_connector` and :func:`unix_connector`."""


def tcp_connector(host: str, port: int) -> Connector:
    """Connects to a TCP port."""
    return lambda protocol: asyncio.get_running_loop().create_connection(protocol, host, port)


def unix_connector(path: str) -> Connector:
    """Connects to a Unix socket; a path relative to the working directory escapes the limit of 107 bytes."""
    return lambda protocol: asyncio.get_running_loop().create_unix_connection(protocol, path)


class ForwarderConnection:
    """One connection to the forwarder; made by :func:`connect`."""

    def __init__(self, ssh_connection: asyncssh.SSHClientConnection, watch: "_Watch", principal: str) -> None:
        self._ssh = ssh_connection
        self._watch = watch
        self._principal = principal

    async def offer(self, service: Service | str, connector: Connector) -> None:
        """For a job: offer a service of its Dask cluster; each stream that is opened is passed to ``connector``.

        Raises
        ------
        EndpointRefused
            When the forwarder does not let us.
        """
        endpoint = Endpoint(read_principal(self._principal).dask_cluster, Service(service))

        async def accept() -> ChannelEnd:
            near, far = ChannelEnd(), SocketEnd()
            near.join(far)
            try:
                await asyncio.wait_for(connector(lambda: far), ssh.OPEN_SECONDS)
            except (OSError, TimeoutError) as error:
                log.info("%s: the program behind it cannot be reached: %s", endpoint.service, error or "no answer")
                raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "the program does not answer") from None
            asyncio.get_running_loop().call_later(ssh.OPEN_SECONDS, far.abort_if_alone)
            return near

        try:
            await asyncio.wait_for(
                self._ssh.create_unix_server(accept, str(endpoint), window=ssh.WINDOW, max_pktsize=ssh.PACKET),
                ssh.OPEN_SECONDS,
            )
        except asyncssh.ChannelListenError:
            raise EndpointRefused(f"the forwarder does not let {self._principal} offer {endpoint}") from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"the forwarder did not take the offer of {endpoint}: {_words(error)}") from error

    async def open(
        self, dask_cluster: str, service: Service | str
    ) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """A stream to an endpoint, as reader and writer.

        Raises
        ------
        EndpointRefused, EndpointAway, Unavailable
            As the forwarder says.
        """
        endpoint = Endpoint(dask_cluster, Service(service))
        opening = self._ssh.open_unix_connection(str(endpoint), window=ssh.WINDOW, max_pktsize=ssh.PACKET)
        reader, writer = await self._opened(endpoint, asyncio.ensure_future(opening))
        return reader, writer

    async def join(self, endpoint: Endpoint, local: SocketEnd) -> None:
        """Join a local socket to an endpoint; raises as :meth:`open`."""
        far = ChannelEnd()
        local.join(far)
        opening = asyncio.ensure_future(
            self._ssh.create_unix_connection(lambda: far, str(endpoint), window=ssh.WINDOW, max_pktsize=ssh.PACKET)
        )
        try:
            await self._opened(endpoint, opening)
        except BaseException:
            opening.add_done_callback(functools.partial(close_late, far))
            raise

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """For the controller: what is offered now, ``{"event": "snapshot"}``, then each change, until the connection ends.

        An item is ``{"event": "offered" or "gone", "cluster": …, "service": …}``.
        """
        try:
            async with self._ssh.create_process("events") as process:
                # Iterating would give an empty or half line when the connection breaks.
                while (line := await process.stdout.readline()).endswith("\n"):
                    yield json.loads(line)
        except asyncssh.ChannelOpenError:
            raise EndpointRefused(f"the forwarder tells no events to {self._principal}") from None
        except (asyncssh.Error, OSError) as error:
            log.info("no more events: %s", error)

    async def drop(self, dask_cluster: str) -> int:
        """For the controller: end all connections of a Dask cluster and refuse it from now on; returns how many there were."""
        try:
            done = await asyncio.wait_for(self._ssh.run(f"drop {dask_cluster}"), ssh.OPEN_SECONDS)
            return int(json.loads(str(done.stdout))["dropped"])
        except (asyncssh.Error, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the forwarder did not drop {dask_cluster}: {_words(error)}") from error

    @property
    def sent_away(self) -> bool:
        """Whether the forwarder ended it on purpose: a newer connection of the job, an expired certificate, a dropped cluster."""
        return isinstance(self._watch.error, asyncssh.DisconnectError) and self._watch.error.code in ssh.SENT_AWAY

    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._ssh.is_closed()

    async def wait_closed(self) -> None:
        """Wait until it ends."""
        await self._ssh.wait_closed()

    async def close(self) -> None:
        """End it, and every stream that goes through it."""
        self._ssh.close()
        await self._ssh.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _opened(self, endpoint: Endpoint, opening: "asyncio.Future[T]") -> T:
        try:
            # Longer than the forwarder waits for the job, so that it is the one to say no.
            return await asyncio.wait_for(asyncio.shield(opening), 2 * ssh.OPEN_SECONDS)
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise EndpointRefused(f"the forwarder does not let {self._principal} open {endpoint}") from None
            raise EndpointAway(f"{endpoint} cannot be reached now: {error.reason}") from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"the way to {endpoint} broke while it was opened: {_words(error)}") from error


class _Watch(asyncssh.SSHClient):
    """Keeps why a connection ended."""

    error: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self.error = exc


async def connect(forwarder: ForwarderAddress, credentials: Credentials) -> ForwarderConnection:
    """Log in at the forwarder.

    Raises
    ------
    EndpointRefused
        When the certificate is not taken.
    Unavailable
        When the forwarder does not answer, or shows another host key than the pinned one.
    """
    try:
        key = asyncssh.import_private_key(credentials.private_key)
        certificate = asyncssh.import_certificate(credentials.certificate)
        options = ssh.client_options(credentials.principal, key, certificate, forwarder.host_key)
    except ValueError as error:
        raise EndpointRefused(f"key, certificate or host key for {credentials.principal} cannot be read") from error
    where = f"the forwarder at {forwarder.host} port {forwarder.port}"
    try:
        connection, watch = await asyncssh.create_connection(_Watch, forwarder.host, forwarder.port, **options)
    except asyncssh.PermissionDenied as error:
        raise EndpointRefused(f"{where} does not take the certificate of {credentials.principal}") from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise Unavailable(f"{where} shows another host key than the one that was given") from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise Unavailable(f"{where} cannot be reached: {_words(error)}") from error
    assert isinstance(watch, _Watch)
    return ForwarderConnection(connection, watch, credentials.principal)


def _words(error: BaseException) -> str:
    return str(error) or "no answer in time"


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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


class Bridge:
    """A local listener; each connection to it becomes a stream to one endpoint.

    Parameters
    ----------
    link
        The way to the forwarder; may be shared.
    endpoint
        Where the streams go.
    host, port
        Where to listen; a port of 0 takes a free one.
    path
        Listen on this Unix socket (0600) instead.
    patience
        Seconds for which an accepted connection is held while the endpoint cannot be reached; then it gets a reset.
    """

    def __init__(
        self,
        link: Link,
        endpoint: Endpoint,
        host: str = "127.0.0.1",
        port: int = 0,
        path: Path | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.endpoint = endpoint
        self.host, self.port, self.path = host, port, path
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
            self._server = await loop.create_server(self._accept, self.host, self.port)
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
