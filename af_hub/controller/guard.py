"""What every answer and every request has in common: security headers, bounds on bodies, fetch metadata."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from af_hub.controller.problems import Problem, problem

BODY_BYTES = 64 << 10
BODY_SECONDS = 10.0
"""From the end of the headers. Nobody has logged in yet, and each connection takes one of those that the process may have."""

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": PAGE_POLICY,
    # People's own servers share the hub's origin where it has no domain for each; this keeps a page that opened ours out of it.
    "Cross-Origin-Opener-Policy": "noopener-allow-popups",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: refuses bodies beyond the bounds of size and time, adds headers that the answer has not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(scope, receive)
        except TimeoutError:
            return await problem(408, f"The body had not come after {BODY_SECONDS:g} s.")(scope, receive, send_guarded)
        except Problem as error:
            return await problem(error.status, error.detail)(scope, receive, send_guarded)
        waiting = [body]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return await self.app(scope, replay, send_guarded)


async def _read(scope: Scope, receive: Receive) -> Message:
    """The whole body as one message."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > BODY_BYTES:
        raise Problem(413, f"A body of more than {BODY_BYTES} bytes is not taken.")
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise Problem(413, f"A body of more than {BODY_BYTES} bytes is not taken.")
        if not message.get("more_body"):
            return {"type": "http.request", "body": body, "more_body": False}


def check_navigation(request: HTTPConnection) -> None:
    """Only a person who goes to the page gets it, not a script of another page that would read it (Fetch Metadata, W3C).

    Raises
    ------
    Problem
        403, when a browser says that it is something else.
    """
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        raise Problem(403, "This page is for people; programs use the API.")


def check_same_origin(request: HTTPConnection, origin: str) -> None:
    """Only our own pages may do that.

    Raises
    ------
    Problem
        403, when a browser says that another page asks.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or request.headers.get("origin", origin) != origin:
        raise Problem(403, "That was asked by another web page.")
