"""The two ends of a stream, joined in memory.

Serves every stream: at the forwarder two SSH channels are joined, in job and session a channel and a local socket. Promises: each byte
in order; a reader that is slow stops the writer (nothing is kept beyond the channel's window); half-close is passed on; a
connection that breaks at one end breaks at the other, after what came before it. Leaves opening the ends to server and client.

SSH knows no reset, only CLOSE. An end therefore closes a channel in peace only after it has passed on EOF both ways, and takes a CLOSE
that comes without any EOF for a break. (A break after one half was closed looks like an end: TLS inside notices.)
"""

import asyncio
import socket
import struct
from typing import Any, Protocol

import asyncssh

LINGER_SECONDS = 30
"""How long what is left may take to flow to a reader after the other end broke."""


class Transport(Protocol):
    """What asyncio's transports and asyncssh's channels have in common."""

    def write(self, data: bytes) -> None:
        """Send, or keep until there is room."""

    def write_eof(self) -> None:
        """Send EOF after all that was written."""

    def pause_reading(self) -> None:
        """Read no more."""

    def resume_reading(self) -> None:
        """Read again."""

    def close(self) -> None:
        """Close after all that was written."""

    def abort(self) -> None:
        """Close at once."""


class End:
    """One end; does nothing until :meth:`join` and both transports are there."""

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.peer: End | None = None
        self._full = False
        self._held = False
        self._eof_in = False
        self._eof_out = False
        self._closing = False

    def join(self, peer: "End") -> None:
        """From now on what comes in here goes out there, and the other way round."""
        self.peer, peer.peer = peer, self
        self._flow()

    def abort(self) -> None:
        """Break it at once."""
        if self.transport:
            self.transport.abort()

    def begin(self, transport: Transport) -> None:
        """The connection is there; nothing is read before the other end is there too."""
        self.transport = transport
        transport.pause_reading()
        self._flow()

    def pass_on(self, data: bytes) -> None:
        """Bytes came in."""
        if self.peer and self.peer.transport and not self.peer._eof_out:
            try:
                self.peer.transport.write(data)
            except OSError:  # its close is on the way to us
                pass

    def pass_on_eof(self) -> bool:
        """No more bytes will come in; True keeps the way out open."""
        self._eof_in = True
        if self.peer:
            self.peer.finish_writing()
        self._settle()
        return True

    def finish_writing(self) -> None:
        """Send EOF after all that was written."""
        if self.transport and not self._eof_out:
            self._eof_out = True
            try:
                self.transport.write_eof()
            except OSError:
                pass
            self._settle()

    def pause_writing(self) -> None:
        """The way out is full: the other end must read no more."""
        self._full = True
        if self.peer and self.peer.transport:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """The way out has room again."""
        self._full = False
        self._let_peer_read()
        if self._closing:  # not at once: asyncssh resumes us before it sends the EOF that waits
            asyncio.get_running_loop().call_soon(self.close)

    def hold(self) -> None:
        """What carries this end takes nothing now, whatever the end itself may have room for."""
        self._held = True
        if self.peer and self.peer.transport:
            self.peer.transport.pause_reading()

    def release(self) -> None:
        """It takes something again."""
        self._held = False
        self._let_peer_read()

    def _let_peer_read(self) -> None:
        if not (self._full or self._held) and self.peer and self.peer.transport:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.transport = None
        peer, self.peer = self.peer, None
        if peer:
            peer.peer = None
            if exc is None and (self._eof_in or self._eof_out):
                peer.finish_writing()
                peer.close()
            else:
                peer.break_off()

    def close(self) -> None:
        """Close in peace, after all that was written has gone out."""
        self._closing = True
        if self.transport:
            self.transport.close()

    def break_off(self) -> None:
        """Let what was written go out for a while, then break."""
        if self.transport:
            self.transport.close()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.abort)

    def abort_if_alone(self) -> None:
        """Break when the other end never came."""
        if self.peer is None or self.peer.transport is None:
            self.abort()

    def _flow(self) -> None:
        if self.peer and self.transport and self.peer.transport:
            self._let_peer_read()
            if self.peer:  # reading may have brought the end
                self.peer._let_peer_read()

    def _settle(self) -> None:
        """Both ways have ended: close."""
        if self._eof_in and self._eof_out:
            asyncio.get_running_loop().call_soon(self.close)


class ChannelEnd(End, asyncssh.SSHUNIXSession[bytes]):
    """An end that is an SSH channel."""

    def connection_made(self, chan: asyncssh.SSHUNIXChannel[bytes]) -> None:
        """The connection is there."""
        # With no room for surplus, writing pauses as soon as the other side's window is used up.
        chan.set_write_buffer_limits(0)
        self.begin(chan)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes came in."""
        self.pass_on(data)

    def eof_received(self) -> bool:
        """No more will come."""
        return self.pass_on_eof()

    def close(self) -> None:
        """Close once nothing waits to be sent: told to close, asyncssh would send what waits, but skip the EOF after it."""
        self._closing = True
        if not self._full:
            super().close()


def close_late(end: ChannelEnd, opening: "asyncio.Future[Any]") -> None:
    """Close a channel that came after somebody gave up; one whose opening were cancelled would stay half open."""
    if not opening.cancelled() and opening.exception() is None:
        end.abort()


class SocketEnd(End, asyncio.Protocol):
    """An end that is a local socket, TCP or Unix."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        assert isinstance(transport, asyncio.Transport)
        self._socket: socket.socket = transport.get_extra_info("socket")
        if self._socket.family in (socket.AF_INET, socket.AF_INET6):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Not at once: Python 3.11.2 (Debian 12) begins to read after this, though we pause here, and first bytes would be lost.
        asyncio.get_running_loop().call_soon(self.begin, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        self.pass_on(data)

    def eof_received(self) -> bool:
        """No more will come."""
        return self.pass_on_eof()

    def break_off(self) -> None:
        """Close with a reset, so that the program there does not take a break for an end."""
        self._reset_on_close()
        super().break_off()

    def abort(self) -> None:
        """Break it at once, with a reset."""
        self._reset_on_close()
        super().abort()

    def _reset_on_close(self) -> None:
        if self.transport and self._socket.fileno() >= 0 and self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
