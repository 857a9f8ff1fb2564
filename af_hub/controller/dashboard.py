"""The way of a dashboard: from the owner's browser, through the hub's proxy and the tunnel, to the scheduler's page.

Promises: only the owner; ``GET`` and ``HEAD`` and WebSockets only; nothing of the hub (cookies, tokens, addresses) goes to the site,
and no cookie and no wider right comes back: the page may talk to its own dashboard and to nothing else on the hub's address.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

import httpx
import websockets
from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import ClientConnection, unix_connect

from af_hub.controller.guard import check_same_origin
from af_hub.controller.jobagent import PEER, SECONDS, Way
from af_hub.controller.parts import Parts
from af_hub.controller.problems import Problem
from af_hub.errors import Unavailable

log = logging.getLogger(__name__)

READ_SECONDS = 60
MESSAGE_BYTES = 16 << 20
MESSAGES_WAITING = 2

PASSED_ON = {"accept", "accept-encoding", "accept-language", "if-modified-since", "if-none-match", "range"}
PASSED_BACK = {
    "content-type",
    "content-length",
    "content-encoding",
    "content-range",
    "accept-ranges",
    "last-modified",
    "etag",
    "cache-control",
    "vary",
}

router = APIRouter()


@router.api_route("/clusters/{cluster_id}/dashboard/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def dashboard(cluster_id: str, path: str, request: Request) -> Response:
    """One answer of the dashboard."""
    parts: Parts = request.app.state.parts
    person = await parts.login.by_either(request)
    if person is None:
        return _to_login(request, parts)
    cluster = parts.own(cluster_id, person.name)
    way = await parts.agents.way(cluster.id, "dashboard")
    asked = way.client.build_request(
        request.method,
        _target(request, parts, cluster.id),
        headers={name: value for name, value in request.headers.items() if name in PASSED_ON},
        timeout=httpx.Timeout(SECONDS, read=READ_SECONDS),
    )
    try:
        answer = await way.client.send(asked, stream=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:  # the second for an odd Location, although it is not followed
        raise Unavailable(f"the dashboard does not answer ({type(error).__name__})") from error
    headers = {name: value for name, value in answer.headers.items() if name in PASSED_BACK}
    headers |= {"Content-Security-Policy": _policy(parts, cluster.id)} | _location(answer, parts, cluster.id)
    return StreamingResponse(_body(answer), answer.status_code, headers, background=BackgroundTask(answer.aclose))


@router.websocket("/clusters/{cluster_id}/dashboard/{path:path}")
async def dashboard_stream(browser: WebSocket, cluster_id: str, path: str) -> None:
    """One WebSocket of the dashboard; refused like a page that is not there."""
    parts: Parts = browser.app.state.parts
    try:
        if "authorization" not in browser.headers:
            check_same_origin(browser, parts.origin)
        person = await parts.login.by_either(browser)
        if person is None:
            raise Problem(401, "Not logged in.")
        cluster = parts.own(cluster_id, person.name)
        way = await parts.agents.way(cluster.id, "dashboard")
        upstream = await _dial(way, _target(browser, parts, cluster.id), browser.scope["subprotocols"])
    except (Problem, Unavailable) as error:
        log.info("a dashboard's WebSocket was refused: %s", error)
        return await browser.close(code=4404)
    async with upstream:
        await browser.accept(subprotocol=upstream.subprotocol)
        await _join(browser, upstream)


async def _dial(way: Way, target: str, subprotocols: Iterable[str]) -> ClientConnection:
    try:
        return await unix_connect(
            str(way.socket),
            f"wss://{PEER}{target}",
            ssl=way.tls,
            server_hostname=PEER,
            subprotocols=[websockets.Subprotocol(name) for name in subprotocols] or None,
            max_size=MESSAGE_BYTES,
            max_queue=MESSAGES_WAITING,
            open_timeout=SECONDS,
            compression=None,
            proxy=None,
        )
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        raise Unavailable(f"the dashboard does not answer ({type(error).__name__})") from error


async def _join(browser: WebSocket, upstream: ClientConnection) -> None:
    """Pass messages on, both ways, until either end has enough."""

    async def up() -> None:
        while True:
            message = await browser.receive()
            if message["type"] == "websocket.disconnect":
                return
            await upstream.send(message["text"] if message.get("text") is not None else message["bytes"])

    async def down() -> None:
        async for message in upstream:
            await (browser.send_text(message) if isinstance(message, str) else browser.send_bytes(message))

    tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(
                result, websockets.ConnectionClosed | WebSocketDisconnect | RuntimeError
            ):
                log.warning("a dashboard's WebSocket broke: %s", type(result).__name__)
    if browser.client_state is WebSocketState.CONNECTED and browser.application_state is WebSocketState.CONNECTED:
        await browser.close()


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it came, still packed."""
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.HTTPError as error:
        # The head is out already: all that is left is to break off, which uvicorn does.
        raise ConnectionError(f"the dashboard broke off ({type(error).__name__})") from None


def _base(parts: Parts, cluster: str) -> str:
    return f"{parts.prefix}clusters/{cluster}/dashboard"


def _target(request: HTTPConnection, parts: Parts, cluster: str) -> str:
    """The path and query at the dashboard, written as the browser wrote them."""
    raw: bytes = request.scope["raw_path"]
    path = raw.partition(b"?")[0].decode("ascii").removeprefix(_base(parts, cluster))
    query = request.scope["query_string"].decode("ascii")
    return f"{path}?{query}" if query else path


def _location(answer: httpx.Response, parts: Parts, cluster: str) -> dict[str, str]:
    """A redirect inside the dashboard, seen from outside; one that leads elsewhere is not passed on."""
    said = answer.headers.get("location", "")
    found = urlsplit(said)
    # Browsers take a backslash for a slash: two of them begin another site's address.
    if not found.path or found.netloc not in ("", PEER) or "\\" in said:
        return {}
    where = found.path + (f"?{found.query}" if found.query else "")
    return {"Location": _base(parts, cluster) + where if where.startswith("/") else where}


def _policy(parts: Parts, cluster: str) -> str:
    """Bokeh needs scripts and styles in the page; what they reach is this dashboard only."""
    here = f"{parts.origin}{_base(parts, cluster)}/"
    stream = "ws" + here.removeprefix("http")
    return (
        f"default-src 'none'; script-src {here} 'unsafe-inline' 'unsafe-eval'; style-src {here} 'unsafe-inline'; "
        f"img-src {here} data: blob:; font-src {here} data:; connect-src {here} {stream}; frame-src {here}; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
    )


def _to_login(request: Request, parts: Parts) -> Response:
    """People are sent to log in; what a page loads is refused."""
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        raise Problem(401, "Not logged in.")
    return parts.login.redirect(request)
