"""How the demo IAM fails when it is told to: one way for each endpoint, on the wire, as real ones have failed.

``iam.faults["token"] = "silent"`` while it runs, or ``--fault token=silent`` where it starts; ``*`` stands for every endpoint.
"""

import asyncio
import json
from argparse import ArgumentTypeError
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from aiohttp import web

Kind = Literal[
    "down",
    "busy",
    "slow",
    "gone",
    "silent",
    "drip",
    "crash",
    "echo",
    "tells",
    "html",
    "cut",
    "list",
    "huge",
    "refuses",
    "other issuer",
]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ENDPOINTS = {
    "/.well-known/openid-configuration": "discovery",
    "/jwk": "keys",
    "/authorize": "authorize",
    "/login": "login",
    "/token": "token",
    "/userinfo": "userinfo",
    "/devicecode": "devicecode",
    "/device": "device",
    "/introspect": "introspect",
    "/revoke": "revoke",
    "/endsession": "logout",
    "/scim": "scim",
}
KINDS: dict[Kind, str] = {
    "down": "503 and the JSON of RFC 6749",
    "busy": "429 with Retry-After, as from a limiter in front of it",
    "slow": "the right answer, a second late",
    "gone": "the connection is closed without an answer",
    "silent": "takes the request and never answers",
    "drip": "an answer that comes byte by byte and has no end",
    "crash": "500 and an HTML page with a traceback",
    "echo": "500 and an HTML page that repeats the whole request, as debug pages of frameworks do",
    "tells": "400 and the JSON of RFC 6749, whose invalid_grant repeats what was sent, as INDIGO IAM repeats refresh tokens",
    "html": "200 and the page of a captive portal",
    "cut": "the right answer, but only half of it",
    "list": "JSON that is no object",
    "huge": "an answer of 64 MiB",
    "refuses": "401, as for a token that was revoked",
    "other issuer": "the right answer, but as if from another issuer",
}
DRIP_SECONDS = 0.1
SLOW_SECONDS = 1.0
RETRY_AFTER = 30
PIECE = b" " * 2**20


def fault_of(faults: Mapping[str, Kind], request: web.Request) -> Kind | None:
    """How this request shall fail; None when it shall not."""
    return faults.get(endpoint_of(request.path), faults.get("*"))


def endpoint_of(path: str) -> str:
    """What we call the endpoint at ``path``, or the one that it lies below; empty when there is none."""
    return ENDPOINTS.get(path) or ENDPOINTS.get("/" + path.lstrip("/").partition("/")[0], "")


async def misbehave(kind: Kind, request: web.Request, handler: Handler, released: asyncio.Event) -> web.StreamResponse:
    """Answer in this way; ``released`` ends a silence."""
    match kind:
        case "down":
            body = {"error": "temporarily_unavailable", "error_description": "down, as a test wants it"}
            return web.json_response(body, status=503)
        case "busy":
            return web.Response(status=429, text="Too many requests", headers={"Retry-After": str(RETRY_AFTER)})
        case "slow":
            await asyncio.sleep(SLOW_SECONDS)
            return await handler(request)
        case "refuses":
            return web.json_response({"error": "invalid_token"}, status=401)
        case "gone":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        case "silent":
            await request.read()
            await released.wait()
            return await handler(request)
        case "drip" | "huge":
            return await _stream(kind, request)
        case "crash":
            page = "<html><body><pre>Traceback (most recent call last):\n  NullPointerException</pre></body></html>"
            return web.Response(text=page, status=500, content_type="text/html")
        case "echo":
            said = f"{request.method} {request.path_qs}\n{dict(request.headers)}\n\n{await request.text()}"
            return web.Response(
                text=f"<html><body><pre>{said}</pre></body></html>", status=500, content_type="text/html"
            )
        case "tells":
            sent = [request.headers.get("Authorization", ""), await request.text()]
            body = {"error": "invalid_grant", "error_description": f"Invalid refresh token: {' '.join(sent)}"}
            return web.json_response(body, status=400)
        case "html":
            return web.Response(
                text="<html><body>Welcome to the hotel's network</body></html>", content_type="text/html"
            )
        case "list":
            return web.json_response(["no", "object"])
    return _changed(kind, await handler(request))


async def _stream(kind: Kind, request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    try:
        await answer.write(b"{")
        for _ in range(64 if kind == "huge" else 10_000):
            await answer.write(PIECE if kind == "huge" else b" ")
            if kind == "drip":
                await asyncio.sleep(DRIP_SECONDS)
    except (ConnectionError, RuntimeError):  # the client has had enough
        pass
    return answer


def _changed(kind: Kind, answer: web.StreamResponse) -> web.StreamResponse:
    assert isinstance(answer, web.Response)
    text = answer.text or ""
    if kind == "other issuer":
        return web.json_response({**json.loads(text), "issuer": "https://evil.test/"}, status=answer.status)
    return web.Response(text=text[: len(text) // 2], status=answer.status, content_type="application/json")


def read_fault(text: str) -> tuple[str, Kind]:
    """``token=silent`` of a command line."""
    endpoint, _, said = text.partition("=")
    for kind in KINDS:
        if kind == said and endpoint in {"*", *ENDPOINTS.values()}:
            return endpoint, kind
    wanted = f"{'|'.join(ENDPOINTS.values())}|*={'|'.join(KINDS)}"
    raise ArgumentTypeError(f"found {text!r}, wanted {wanted}")
