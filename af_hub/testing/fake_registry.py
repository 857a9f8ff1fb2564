"""A registry of images that wants a token before it shows anything, and ones that do not behave; on a loopback port.

It speaks as much of the OCI distribution specification as a pull needs, and the distribution project's token authentication; it refuses what a
real one would refuse. ``asked`` says what it was asked, and with which authorization.
"""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

from af_hub.registry.proof import digest_of
from af_hub.testing.registry import HandmadeImage


@dataclass
class FakeRegistry:
    """Images by path and tag, shown to whoever brings a token for that path.

    Parameters
    ----------
    people
        Passwords by name; with none, anybody gets a token.
    private
        Paths for which a token is given to people only.
    behave
        Answers in place of the registry where it gives something; for registries that do not behave.
    realm
        Where tokens are said to be had; its own address when empty.
    service
        What it calls itself to the token server.
    """

    images: dict[tuple[str, str], HandmadeImage] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict, repr=False)
    private: set[str] = field(default_factory=set)
    behave: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
    realm: str = ""
    service: str = "fake-registry"
    asked: list[tuple[str, str]] = field(default_factory=list, repr=False)
    url: str = ""
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)
    _runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.partition("//")[2]

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_get("/v2/{path:.+}/manifests/{which}", self._manifest)
        app.router.add_get("/v2/{path:.+}/blobs/{digest}", self._blob)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.realm = self.realm or f"{self.url}/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        kind, _, path = request.query.get("scope", "").partition(":")
        path, _, action = path.rpartition(":")
        if (kind, action) != ("repository", "pull") or request.query.get("service") != self.service:
            return web.json_response({"errors": [{"code": "DENIED"}]}, status=400)
        if not self._knows(request.headers.get("Authorization", "")) and (
            path in self.private or self._brings(request)
        ):
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        token = secrets.token_urlsafe(16)
        self._tokens[token] = path
        return web.json_response({"token": token, "expires_in": 60})

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        path, which = request.match_info["path"], request.match_info["which"]
        if refused := self._refused(request):
            return refused
        image = self.images.get((path, which)) or next(
            (one for (where, _), one in self.images.items() if where == path and one.digest == which), None
        )
        if image is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        return web.Response(body=image.manifest, headers={"Content-Type": image.media_type})

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        blobs = [
            blob for (path, _), one in self.images.items() if path == request.match_info["path"] for blob in one.blobs
        ]
        found = next((blob for blob in blobs if digest_of(blob) == request.match_info["digest"]), None)
        return web.Response(body=found) if found is not None else web.Response(status=404)

    def _refused(self, request: web.Request) -> web.StreamResponse | None:
        self._note(request)
        if answer := self.behave(request):
            return answer
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token) == request.match_info["path"]:
            return None
        scope = f"repository:{request.match_info['path']}:pull"
        challenge = f'Bearer realm="{self.realm}",service="{self.service}",scope="{scope}"'
        return web.json_response({"errors": []}, status=401, headers={"WWW-Authenticate": challenge})

    def _note(self, request: web.Request) -> None:
        self.asked.append((request.path_qs, request.headers.get("Authorization", "")))

    def _brings(self, request: web.Request) -> bool:
        return "Authorization" in request.headers

    def _knows(self, authorization: str) -> bool:
        name, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return bool(name) and self.people.get(name) == password
