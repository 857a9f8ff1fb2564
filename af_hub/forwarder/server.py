"""The forwarder itself: ``python -m af_hub.forwarder.server``.

Serves the hop between jobs and sessions. A job offers an endpoint by asking to listen on its path (streamlocal-forward), a session opens it by
asking to connect to that path (direct-streamlocal), and both channels are joined in memory: no port, no file. Promises: users prove
themselves by one certificate of the controller's CA, for as long as it is valid; whatever is not one of these two requests is refused; a fault in
one connection's handling is a refusal there and felt nowhere else. What passes is Dask's own TLS, which the forwarder cannot read.

The controller may also give commands; see :mod:`af_hub.forwarder.commands`.
"""

import argparse
import asyncio
import functools
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from af_hub.errors import AFError, EndpointAway, EndpointRefused
from af_hub.forwarder import ssh
from af_hub.forwarder.access import (
    Endpoint,
    Principal,
    Role,
    may_command,
    may_offer,
    may_open,
    read_endpoint,
    read_login,
)
from af_hub.forwarder.commands import Command
from af_hub.forwarder.keys import read_certificate, read_host_key, read_keys
from af_hub.forwarder.offers import Offers
from af_hub.forwarder.relay import ChannelEnd, close_late
from af_hub.ready import say_ready

log = logging.getLogger("af_hub.forwarder")

BACKLOG_CHECK_SECONDS = 1
EXPIRY_CHECK_SECONDS = 60
"""At least this often the clock is looked at: a timer alone would not see that the clock was set."""


@dataclass(frozen=True)
class Limits:
    """How much one address, one connection, or one Dask cluster may have of the forwarder.

    Parameters
    ----------
    sessions, streams, window_bytes
        Of one Dask cluster, whoever opened them: what the forwarder may have to keep for those that do not read.
    backlog_bytes
        Of one connection that takes nothing.
    """

    half_open: int = 256
    half_open_per_address: int = 64
    connections_per_address: int = 4096
    tries: int = 6
    sessions: int = 64
    streams: int = 1024
    window_bytes: int = 128 << 20
    backlog_bytes: int = 32 << 20


@dataclass
class Forwarder:
    """What all connections of one forwarder share."""

    options: asyncssh.SSHServerConnectionOptions = field(repr=False)
    limits: Limits = Limits()
    offers: Offers["Guest"] = field(default_factory=Offers)
    guests: set["Guest"] = field(default_factory=set)
    half_open: int = 0
    half_open_by_address: Counter[str] = field(default_factory=Counter)
    by_address: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)
    server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Serve; returns address and port."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: ServerConnection(self, loop), host, port, backlog=1024)
        address: tuple[str, int] = self.server.sockets[0].getsockname()[:2]
        return address

    async def close(self) -> None:
        """Stop, with all connections."""
        if self.server:
            self.server.close()
        guests = list(self.guests)
        for guest in guests:
            guest.send_away("the forwarder stops", asyncssh.DISC_BY_APPLICATION)
        await asyncio.gather(*(guest.connection.wait_closed() for guest in guests))

    def drop(self, dask_cluster: str) -> int:
        """End all connections of a Dask cluster and refuse it from now on; returns how many there were."""
        guests = self.offers.drop(dask_cluster)
        for guest in guests:
            guest.send_away("this Dask cluster has been dropped")
        return len(guests)

    def refuses(self, address: str) -> str:
        """Why nobody may connect from this address now; empty if they may."""
        limits = self.limits
        if self.half_open >= limits.half_open or self.half_open_by_address[address] >= limits.half_open_per_address:
            return "too many logins under way"
        if self.by_address[address] >= limits.connections_per_address:
            return "too many connections"
        return ""

    def count(self, address: str, half_open: int = 0, connections: int = 0) -> None:
        """Keep the books of :meth:`refuses`."""
        self.half_open += half_open
        for counter, change in ((self.half_open_by_address, half_open), (self.by_address, connections)):
            counter[address] += change
            if not counter[address]:
                del counter[address]

    def take_stream(self, dask_cluster: str) -> int:
        """Count one more stream of this Dask cluster; returns its window, which is smaller the more there are.

        Raises
        ------
        EndpointRefused
            When there are too many.
        """
        if self.streams[dask_cluster] >= self.limits.streams:
            raise EndpointRefused(f"more than {self.limits.streams} streams of one Dask cluster")
        left = self.limits.window_bytes - self.windows[dask_cluster]
        window = min(ssh.WINDOW, max(ssh.LEAST_WINDOW, left // 8))
        self.streams[dask_cluster] += 1
        self.windows[dask_cluster] += 2 * window
        return window

    def give_back_stream(self, dask_cluster: str, window: int) -> None:
        """One less."""
        self.streams[dask_cluster] -= 1
        self.windows[dask_cluster] -= 2 * window
        if not self.streams[dask_cluster]:
            del self.streams[dask_cluster], self.windows[dask_cluster]


class ServerConnection(asyncssh.SSHServerConnection):
    """asyncssh's connection, with what its hooks for SSHServer do not show: address, certificate and tries."""

    def __init__(self, forwarder: Forwarder, loop: asyncio.AbstractEventLoop) -> None:
        self.guest = Guest(forwarder, self)
        options = asyncssh.SSHServerConnectionOptions(forwarder.options, server_factory=lambda: self.guest)
        super().__init__(loop, options)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let in, or not, before a byte of SSH is spoken."""
        address = str((transport.get_extra_info("peername") or ("unknown",))[0])
        refusal = self.guest.forwarder.refuses(address)
        if refusal:
            log.warning("refused a connection from %s: %s", address, refusal)
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        else:
            self.guest.arrive(address)
            assert isinstance(transport, asyncio.Transport)
            transport.set_write_buffer_limits(ssh.UNSENT)
            self.guest.transport = transport
            super().connection_made(transport)

    def pause_writing(self) -> None:
        """The client takes nothing; asyncssh would write on, whatever comes."""
        self.guest.congest()

    def resume_writing(self) -> None:
        """It does again."""
        self.guest.relieve()

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """asyncssh checks CA, signature and time; we, that there is one principal, and keep the end of validity."""
        try:
            certificate = read_certificate(key_data)
            principal = read_login(username, [name.decode() for name in certificate.valid_principals])
        except (EndpointRefused, ValueError) as error:
            log.warning("refused login of %s: %s", self.guest.name, error)
            return False
        if self.guest.forwarder.offers.is_dropped(principal.dask_cluster):
            log.warning("refused login of %s: that Dask cluster has been dropped", self.guest.name)
            return False
        valid = await super().validate_public_key(username, key_data, msg, signature)
        if valid and msg:
            self.guest.principal, self.guest.valid_before = principal, certificate.valid_before
        return valid

    def send_userauth_failure(self, partial_success: bool) -> None:
        """A try was in vain."""
        self.guest.tries += 1
        if self.guest.tries >= self.guest.forwarder.limits.tries:
            self.guest.send_away("too many tries")
        else:
            super().send_userauth_failure(partial_success)


class Guest(asyncssh.SSHServer):
    """One connection: what its principal asks for, and gets."""

    def __init__(self, forwarder: Forwarder, connection: ServerConnection) -> None:
        self.forwarder = forwarder
        self.connection = connection
        self.principal: Principal | None = None
        self.valid_before = 0
        self.address = ""
        self.tries = 0
        self.transport: asyncio.Transport | None = None
        self.congested = False
        self.ends: set[GuestEnd] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._half_open = False

    @property
    def name(self) -> str:
        """How the log calls it."""
        return f"{self.principal or 'somebody'} at {self.address}"

    def arrive(self, address: str) -> None:
        """Connected, not yet logged in."""
        self.address = address
        self._half_open = True
        self.forwarder.guests.add(self)
        self.forwarder.count(address, half_open=1, connections=1)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone, with all that it offered."""
        self.forwarder.count(self.address, half_open=-1 if self._half_open else 0, connections=-1)
        self.forwarder.guests.discard(self)
        for end in list(self.ends):
            end.leave()
        if self._expiry:
            self._expiry.cancel()
        if self.principal:
            self.forwarder.offers.leave(self.principal.dask_cluster, self)
            log.info("%s has gone%s", self.name, f": {exc}" if exc else "")

    def auth_completed(self) -> None:
        """Logged in."""
        self._half_open = False
        self.forwarder.count(self.address, half_open=-1)
        if self.principal is None:  # cannot be: without a valid certificate there is no login
            return self.send_away("no certificate")
        if self.forwarder.offers.is_dropped(self.principal.dask_cluster):
            return self.send_away("this Dask cluster has been dropped")
        log.info("%s has come", self.name)
        self._check_expiry()
        if self.principal.role is Role.JOB:
            replaced = self.forwarder.offers.take_over(self.principal.dask_cluster, self)
            if replaced:
                replaced.send_away("a newer connection of this job took over", asyncssh.DISC_TOO_MANY_CONNECTIONS)
        elif self.principal.role is Role.SESSION:
            if self.forwarder.offers.sessions(self.principal.dask_cluster) >= self.forwarder.limits.sessions:
                return self.send_away("too many sessions of this Dask cluster", asyncssh.DISC_TOO_MANY_CONNECTIONS)
            self.forwarder.offers.join(self.principal.dask_cluster, self)
        return None

    def send_away(self, reason: str, code: int = asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE) -> None:
        """End the connection and all that goes through it."""
        log.info("%s is sent away: %s", self.name, reason)

        async def end() -> None:
            raise asyncssh.DisconnectError(code, reason)

        # disconnect() closes channels first; a client that answers a closed channel meets a reset and never reads the reason.
        self.connection.create_task(end())

    def congest(self) -> None:
        """The client takes nothing now: nobody shall send to it."""
        self.congested = True
        for end in list(self.ends):
            end.hold()
        self._check_backlog()

    def relieve(self) -> None:
        """It takes something again."""
        self.congested = False
        for end in list(self.ends):
            end.release()

    def _check_backlog(self) -> None:
        """What is answered to requests is not held back, so a client that asks on and never reads is sent away."""
        if not self.congested or self.transport is None or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() > self.forwarder.limits.backlog_bytes:
            log.warning("%s is cut off: it does not read what it asks for", self.name)
            self.connection.abort()
        else:
            asyncio.get_running_loop().call_later(BACKLOG_CHECK_SECONDS, self._check_backlog)

    def _check_expiry(self) -> None:
        left = self.valid_before - time.time()
        if left <= 0:
            self.send_away("the certificate has expired")
        else:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(min(left, EXPIRY_CHECK_SECONDS), self._check_expiry)

    def unix_server_requested(self, listen_path: str) -> "Offer | bool":
        """A job offers an endpoint."""
        try:
            endpoint = self._permitted(listen_path, may_offer)
            if not self.forwarder.offers.offer(endpoint, self):
                raise EndpointRefused(f"{endpoint} is offered already")
        except Exception as error:  # asyncssh ends the connection at anything but OSError
            self._log_refusal("an offer", error)
            return False
        return Offer(endpoint, self)

    def unix_connection_requested(
        self, dest_path: str
    ) -> tuple[asyncssh.SSHUNIXChannel[bytes], Coroutine[Any, Any, ChannelEnd]]:
        """A session or the controller opens an endpoint."""
        try:
            endpoint = self._permitted(dest_path, may_open)
            job = self.forwarder.offers.job_of(endpoint)
            if job is None:
                raise EndpointAway("nobody offers this endpoint now")
            # Counted here, not once it opens: a thousand may be asked for before the first opens.
            near = CountedEnd(self, endpoint.dask_cluster)
        except EndpointAway as error:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, str(error)) from None
        except Exception as error:
            self._log_refusal("a stream", error)
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "not permitted") from None
        channel = self.connection.create_unix_channel(window=near.window, max_pktsize=ssh.PACKET)
        return channel, self._pair(near, job, endpoint)

    def session_requested(self) -> "Command | bool":
        """The controller gives a command; nobody else has anything to run here."""
        if self.principal is None or not may_command(self.principal):
            return False
        return Command(self.forwarder.offers, self.forwarder.drop)

    def _log_refusal(self, what: str, error: Exception) -> None:
        details = None if isinstance(error, AFError) else error
        log.warning("refused %s to %s: %s", what, self.name, error, exc_info=details)

    def _permitted(self, path: str, may: Callable[[Principal, Endpoint], bool]) -> Endpoint:
        endpoint = read_endpoint(path)
        if self.principal is None or not may(self.principal, endpoint):
            raise EndpointRefused(f"{self.principal} may not do that with {endpoint}")
        return endpoint

    async def _pair(self, near: "CountedEnd", job: "Guest", endpoint: Endpoint) -> ChannelEnd:
        """``near``, the end for the channel that opens, joined to a new channel of the job."""
        far = GuestEnd(job)
        near.join(far)
        opening = asyncio.ensure_future(job.open_forwarded(endpoint, far, near.window))
        try:
            await asyncio.wait_for(asyncio.shield(opening), ssh.OPEN_SECONDS)
        except BaseException as error:
            opening.add_done_callback(functools.partial(close_late, far))
            near.leave()
            far.leave()
            if not isinstance(error, Exception):
                raise
            log.info("%s gets no stream to %s: %s", self.name, endpoint, str(error) or "no answer in time")
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "the job does not answer") from None
        if self.connection.is_closed():
            near.leave()
            far.abort()
        return near

    async def open_forwarded(self, endpoint: Endpoint, end: ChannelEnd, window: int) -> None:
        """Open a channel towards the job."""
        await self.connection.create_unix_connection(lambda: end, str(endpoint), window=window, max_pktsize=ssh.PACKET)


class GuestEnd(ChannelEnd):
    """An end on a guest's connection, and held back with it."""

    def __init__(self, guest: Guest) -> None:
        super().__init__()
        self._guest = guest
        self._held = guest.congested
        guest.ends.add(self)

    def leave(self) -> None:
        """It is over, or never came to be; may be said again."""
        self._guest.ends.discard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        self.leave()
        super().connection_lost(exc)


class CountedEnd(GuestEnd):
    """The end towards whoever opened the stream: counts in the limits of its Dask cluster."""

    def __init__(self, guest: Guest, dask_cluster: str) -> None:
        self.window = guest.forwarder.take_stream(dask_cluster)
        self._dask_cluster = dask_cluster
        super().__init__(guest)

    def leave(self) -> None:
        """Give back what it counted for."""
        if self in self._guest.ends:
            self._guest.forwarder.give_back_stream(self._dask_cluster, self.window)
        super().leave()


class Offer(asyncssh.SSHListener):
    """What asyncssh takes for a listener: an entry in the table, which goes when the job cancels it or is gone."""

    def __init__(self, endpoint: Endpoint, guest: Guest) -> None:
        super().__init__()
        self._endpoint, self._guest = endpoint, guest

    def close(self) -> None:
        """The job takes it back, or is gone."""
        self._guest.forwarder.offers.withdraw(self._endpoint, self._guest)


async def serve(host: str, port: int, host_key: Path, user_ca: Path, ready_fd: int | None) -> None:
    """Run a forwarder until SIGTERM or SIGINT."""
    key = read_host_key(host_key)
    forwarder = Forwarder(ssh.server_options(key, read_keys(user_ca)))
    address, bound = await forwarder.listen(host, port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    public = " ".join(key.export_public_key().decode().split()[:2])
    log.info("listening on %s port %d", address, bound)
    say_ready(ready_fd, host=address, port=bound, host_key=public)
    await stop.wait()
    await forwarder.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="af_hub.forwarder.server", description="Join jobs and sessions that dial in.")
    parser.add_argument("--listen", default="127.0.0.1:31022", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--host-key", type=Path, required=True, metavar="FILE", help="made when it is not there")
    parser.add_argument(
        "--user-ca", type=Path, required=True, metavar="FILE", help="public keys of the user CAs, one a line"
    )
    parser.add_argument("--ready-fd", type=int, metavar="N", help="pipe that gets a line of JSON once it serves")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncssh.set_log_level(logging.WARNING)
    host, _, port = args.listen.rpartition(":")
    asyncio.run(serve(host.strip("[]"), int(port), args.host_key, args.user_ca, args.ready_fd))


if __name__ == "__main__":
    main()
