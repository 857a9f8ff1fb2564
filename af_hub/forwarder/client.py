"""One connection to the forwarder, dialled by the job agent, the session agent or the controller.

Serves every hop to the forwarder. Promises: only the pinned host key is talked to, only the given certificate is shown, nothing of the
machine's own SSH set-up is read; every call has a time limit. Leaves to the caller where keys and certificates come from, and to
:mod:`af_hub.forwarder.link` to dial again.
"""

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self, TypeVar

import asyncssh

from af_hub.errors import EndpointAway, EndpointRefused, Unavailable
from af_hub.forwarder import ssh
from af_hub.forwarder.access import Endpoint, Service, read_principal
from af_hub.forwarder.login import Credentials, ForwarderAddress
from af_hub.forwarder.relay import ChannelEnd, SocketEnd, close_late

log = logging.getLogger(__name__)

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

    async def __aexit__(self, *_: object) -> None:
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
    ssh.have_a_local_user()
    try:
        connection, watch = await asyncssh.create_connection(_Watch, forwarder.host, forwarder.port, **options)
    except asyncssh.PermissionDenied as error:
        raise EndpointRefused(f"{where} does not take the certificate of {credentials.principal}") from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise Unavailable(f"{where} shows another host key than the one that was given") from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise Unavailable(f"{where} cannot be reached: {_words(error)}") from error
    if not isinstance(watch, _Watch):  # asyncssh forgets it when the connection is over before we come here
        connection.abort()
        raise EndpointRefused(f"{where} takes the certificate of {credentials.principal}, but sends it away at once")
    return ForwarderConnection(connection, watch, credentials.principal)


def _words(error: BaseException) -> str:
    return str(error) or "no answer in time"
