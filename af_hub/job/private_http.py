"""HTTP that nobody else on the worker node reaches: a Unix socket (0600) and TLS that asks for a certificate of the Dask cluster's CA.

Serves dashboard and agent API. Worker nodes are shared: a TCP port could be read by any job there, since Dask's pages ask for no
password. Promises: without a certificate of this Dask cluster there is no TLS, with one of another role there is only 403. The role is
the certificate's common name.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket


def server_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for a server whose clients must show a certificate of ``ca``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


async def nothing() -> None:
    """No preparation."""


class Once:
    """Something to do that is done when it is first called, and waited for by all who call."""

    def __init__(self, do: Callable[[], Coroutine[None, None, None]]) -> None:
        self._do = do
        self._doing: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Wait until it is done."""
        self._doing = self._doing or asyncio.create_task(self._do())
        await asyncio.shield(self._doing)


def serve_private(
    application: httputil.HTTPServerConnectionDelegate,
    path: Path,
    context: ssl.SSLContext,
    roles: Collection[str],
    first: Callable[[], Awaitable[None]] = nothing,
) -> HTTPServer:
    """Serve ``application`` to these roles on a Unix socket; the path should be relative, since 107 bytes are all it may have.

    Each request that is admitted waits for ``first``.
    """
    server = HTTPServer(RoleGate(application, roles, first), ssl_options=context)
    server.add_socket(bind_unix_socket(str(path), mode=0o600))
    return server


class RoleGate(httputil.HTTPServerConnectionDelegate):
    """Passes requests on when the client's certificate names one of the roles."""

    def __init__(
        self,
        application: httputil.HTTPServerConnectionDelegate,
        roles: Collection[str],
        first: Callable[[], Awaitable[None]],
    ) -> None:
        self._application = application
        self._roles = frozenset(roles)
        self.first = first

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """A request may begin; the TLS handshake may still be under way."""
        return _GatedRequest(self, server_conn, request_conn)

    def open(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """Who takes the request, now that the client's certificate is known."""
        certificate = server_conn.stream.socket.getpeercert()  # type: ignore[attr-defined]
        if common_name(certificate) in self._roles:
            return self._application.start_request(server_conn, request_conn)
        return _Forbidden(request_conn)

    def on_close(self, server_conn: object) -> None:
        """A connection is over."""
        self._application.on_close(server_conn)


class _GatedRequest(httputil.HTTPMessageDelegate):
    def __init__(self, gate: RoleGate, server_conn: object, request_conn: httputil.HTTPConnection) -> None:
        self._gate, self._server_conn, self._request_conn = gate, server_conn, request_conn
        self._taker = httputil.HTTPMessageDelegate()

    async def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        self._taker = self._gate.open(self._server_conn, self._request_conn)
        if not isinstance(self._taker, _Forbidden):
            await self._gate.first()
        taken = self._taker.headers_received(start_line, headers)
        if taken is not None:
            await taken

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._taker.data_received(chunk)

    def finish(self) -> None:
        self._taker.finish()

    def on_connection_close(self) -> None:
        self._taker.on_connection_close()


class _Forbidden(httputil.HTTPMessageDelegate):
    def __init__(self, connection: httputil.HTTPConnection) -> None:
        self._connection = connection

    def finish(self) -> None:
        body = b"this certificate's role is not admitted here\n"
        headers = httputil.HTTPHeaders({"Content-Type": "text/plain", "Content-Length": str(len(body))})
        self._connection.write_headers(httputil.ResponseStartLine("HTTP/1.1", 403, "Forbidden"), headers, body)
        self._connection.finish()


def common_name(certificate: dict[str, object] | None) -> str | None:
    """The one common name of a certificate as ``getpeercert`` gives it; None when there is not exactly one."""
    subject = (certificate or {}).get("subject", ())
    assert isinstance(subject, tuple)
    names = [value for part in subject for name, value in part if name == "commonName"]
    return names[0] if len(names) == 1 else None
