"""The nearest end of the hop "data": tells XRootD clients, at each opening of a file, whether to go to the cache or to the origin.

XRootD's client has one proxy and no second choice: while the cache is down, nothing can be read. So a session, and each Dask worker,
has a signpost on its loopback, which XROOT_PROXY names: a redirector that speaks as much of the protocol as an opening needs, and
sends the client to the cache while that answers, else to the file's origin. A client whose server fails comes back here by itself,
also in the middle of a file, and says which servers it has tried. No file's content passes here.

A client shows its token at the login and never again on that connection, so that with short tokens everything would be refused after an
hour. Here each opening is sent to a name at the server (``tafq7c2k@cache``) that changes with the token file: XRootD's client has a
connection for each such name, and a new one logs in with the new token. Files that are open are read on over the old one.

Promises: an answer within :data:`PROBE_SECONDS`; whatever a client sends, its connection alone suffers. Leaves everything but opening
to XRootD's own configuration (:mod:`af_hub.session.xrootd`).

Source: The XRootD Protocol, version 5, sections "Session Establishment", "kXR_open", "kXR_redirect"; what is said of the client was seen
with 6.2.1 and servers of 5.8.
"""

import asyncio
import base64
import logging
import secrets
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from af_hub.session.probes import ANSWER, HELLO, LOAD_BALANCER, is_welcome
from af_hub.session.xrootd import CACHE, PROXY, signpost_url

log = logging.getLogger(__name__)

TOKEN_FILE_VARIABLE = "BEARER_TOKEN_FILE"  # noqa: S105
PROBE_SECONDS = 2.0
ALIVE_SECONDS, DEAD_SECONDS = 0.1, 5.0
"""How long the word about the cache holds. A client that is sent to a dead one loses ten seconds, a look costs less than opening a file."""

LOGIN_SECONDS = 30.0
MOST_BYTES = 16_384
CONNECTIONS_AT_MOST = 256
"""Anybody on the machine may connect. When there are more, the one that has been quiet for longest goes; XRootD's client dials again."""

REQUEST = struct.Struct(">2sH16si")
RESPONSE = struct.Struct(">2sHi")
OK, ERROR, REDIRECT = 0, 4003, 4004
BAD_ARGUMENT, UNREACHABLE, UNSUPPORTED, NOT_FOUND = 3000, 3005, 3013, 3011
VERSION, IS_MANAGER = 0x310, 2
WHOLE_URL = -(2**31)
"""A port that says: what follows is an address, path included. Other negative ones would also set flags of the client."""

SCHEMES = ("root://", "xroot://", "roots://", "xroots://")


class Request(IntEnum):
    """What a client may want; everything else is refused."""

    PROTOCOL = 3006
    LOGIN = 3007
    OPEN = 3010
    PING = 3011
    END_SESSION = 3023


@dataclass(frozen=True)
class Wish:
    """What somebody wants to open: the file's own address, and the hosts that failed them already, with XRootD's reasons."""

    origin: str
    host: str
    tried: frozenset[str]
    reasons: frozenset[str]


def read_wish(asked: str) -> Wish | None:
    """The wish in the path of an opening, ``/root://origin//file?tried=host``; None when it names no file of an origin."""
    path, _, query = asked.partition("?")
    url = path.lstrip("/")
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    if not host or not url.startswith(SCHEMES):
        return None
    told = parse_qs(query)
    lists = [frozenset(",".join(told.get(key, [])).split(",")) - {""} for key in ("tried", "triedrc")]
    return Wish(url, host, lists[0], lists[1])


def login_name(token_file: str) -> str:
    """What goes before a server's name in the address of somebody with this token file: another text for another token, none without."""
    try:
        changed = Path(token_file).stat().st_mtime_ns if token_file else 0
    except OSError:
        changed = 0
    if not changed:
        return ""
    # XRootD's login request has eight bytes for a name. Seven letters hold 35 bits: milliseconds repeat themselves after a year.
    milliseconds = changed // 10**6 % 2**35
    return f"t{base64.b32encode(milliseconds.to_bytes(5)).decode().lower()[1:]}@"


def with_login(url: str, login: str) -> str:
    """The address with this before its host, if it names nobody there itself."""
    scheme, _, rest = url.partition("://")
    return url if "@" in rest.partition("/")[0] else f"{scheme}://{login}{rest}"


def way_of(wish: Wish, cache_host: str, alive: bool) -> str:
    """``cache``, ``origin``, or ``none`` when both failed this client."""
    if alive and cache_host not in wish.tried:
        return "cache"
    return "origin" if wish.host not in wish.tried else "none"


@dataclass
class Signpost:
    """The redirector for one cache.

    Parameters
    ----------
    cache
        ``root://host:port``.
    token_file
        Says where the token is now; empty when there is none.
    """

    cache: str
    clock: Callable[[], float] = time.monotonic
    token_file: Callable[[], str] = str
    _alive: bool = field(default=True, init=False)
    _until: float = field(default=0.0, init=False)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _open: dict[asyncio.StreamWriter, None] = field(default_factory=dict, init=False)

    @property
    def host(self) -> str:
        """The cache's."""
        return urlsplit(self.cache).hostname or ""

    @property
    def port(self) -> int:
        """The cache's."""
        return urlsplit(self.cache).port or 1094

    async def alive(self) -> bool:
        """Whether the cache answers: one look for all who ask at one time, good for :data:`ALIVE_SECONDS` or :data:`DEAD_SECONDS`."""
        async with self._looking:
            if self.clock() >= self._until:
                alive = await answers(self.host, self.port)
                if alive != self._alive:
                    log.warning(
                        "the cache %s %s",
                        self.cache,
                        "answers again" if alive else "is down: files come from their origins",
                    )
                self._alive = alive
                self._until = self.clock() + (ALIVE_SECONDS if alive else DEAD_SECONDS)
            return self._alive

    async def answer(self, asked: str) -> tuple[int, bytes]:
        """Status and body of the answer to an opening."""
        wish = read_wish(asked)
        if wish is None:
            return refusal(BAD_ARGUMENT, "only files of an origin are opened here: root://host//path")
        way = way_of(wish, self.host, await self.alive())
        login = login_name(self.token_file())
        if way == "cache":
            return REDIRECT, struct.pack(">i", self.port) + (login + self.host).encode()
        if way == "origin":
            return REDIRECT, struct.pack(">i", WHOLE_URL) + with_login(wish.origin, login).encode()
        if wish.reasons and wish.reasons <= {"enoent"}:
            return refusal(NOT_FOUND, f"there is no such file at {wish.host}")
        neither = f"neither the cache {self.host}:{self.port} nor the origin {wish.host} gives this file"
        return refusal(UNREACHABLE, neither)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it leaves or says something that we do not understand."""
        try:
            self._heard(writer)
            async with asyncio.timeout(LOGIN_SECONDS):
                if await reader.readexactly(len(HELLO)) != HELLO:
                    return
            writer.write(ANSWER.pack(b"\0\0", OK, 8, VERSION, LOAD_BALANCER))
            while True:
                stream, request, _, size = REQUEST.unpack(await reader.readexactly(REQUEST.size))
                if not 0 <= size <= MOST_BYTES:
                    return
                self._heard(writer)
                status, body = await self._respond(request, await reader.readexactly(size))
                writer.write(RESPONSE.pack(stream, status, len(body)) + body)
                await writer.drain()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            self._open.pop(writer, None)
            writer.close()

    def _heard(self, writer: asyncio.StreamWriter) -> None:
        """Note who spoke last, and let go whoever has been quiet for longest when there are too many."""
        self._open.pop(writer, None)
        self._open[writer] = None
        if len(self._open) > CONNECTIONS_AT_MOST:
            quiet = next(iter(self._open))
            del self._open[quiet]
            quiet.transport.abort()

    async def _respond(self, request: int, data: bytes) -> tuple[int, bytes]:
        match request:
            case Request.PROTOCOL:
                return OK, struct.pack(">ii", VERSION, IS_MANAGER)
            case Request.LOGIN:
                return OK, secrets.token_bytes(16)
            case Request.OPEN:
                return await self.answer(data.rstrip(b"\0").decode(errors="replace"))
            case Request.PING | Request.END_SESSION:
                return OK, b""
        return refusal(UNSUPPORTED, "only files are opened here")


def refusal(code: int, sentence: str) -> tuple[int, bytes]:
    """Status and body of an error."""
    return ERROR, struct.pack(">i", code) + sentence.encode() + b"\0"


async def answers(host: str, port: int) -> bool:
    """As :func:`af_hub.session.probes.xrootd_answers`, without stopping the event loop."""
    writer = None
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(HELLO)
            return is_welcome(await reader.readexactly(ANSWER.size))
    except (OSError, EOFError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()


@asynccontextmanager
async def open_signpost(
    cache: str, listener: socket.socket | None = None, token_file: Callable[[], str] = str
) -> AsyncIterator[str]:
    """A signpost for this cache on the loopback; gives what XROOT_PROXY shall be.

    Parameters
    ----------
    listener
        Where it answers; a port of its own when None. It stays open for the next signpost.
    token_file
        As in :class:`Signpost`.
    """
    own = socket.create_server(("127.0.0.1", 0)) if listener is None else listener.dup()
    server = await asyncio.start_server(Signpost(cache, token_file=token_file).talk, sock=own, limit=MOST_BYTES)
    try:
        yield signpost_url(own.getsockname()[1])
    finally:
        server.close()


@asynccontextmanager
async def signpost_before(environ: MutableMapping[str, str]) -> AsyncIterator[None]:
    """Put a signpost before the cache that a job's environment names, for all that this process starts; none where none is named.

    The token is in the file that ``BEARER_TOKEN_FILE`` of that environment names at the time.
    """
    cache = environ.get(PROXY, "").rstrip("/")
    if not urlsplit(cache).hostname or CACHE in environ:
        yield
        return
    async with AsyncExitStack() as stack:
        try:
            environ[PROXY] = await stack.enter_async_context(
                open_signpost(cache, token_file=lambda: environ.get(TOKEN_FILE_VARIABLE, ""))
            )
            environ[CACHE] = cache
        except OSError as error:
            log.warning("no signpost for XRootD (%s): while the cache is down, nothing can be read", error)
        yield
