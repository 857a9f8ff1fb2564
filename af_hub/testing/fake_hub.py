"""The hub's routes that the controller uses, on a loopback port: who a token belongs to, claims, tokens for the pool, OAuth.

Serves tests of the controller and of what asks it; refuses what the real hub would refuse.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler

SERVICE_SCOPE = "access:services!service=af-controller"
SERVICE_TOKEN = "service-" + "5" * 32
HUB: web.AppKey["FakeHub"] = web.AppKey("hub")


@dataclass
class FakeHub:
    """The hub's routes that the controller uses.

    Parameters
    ----------
    people
        Groups by user name.
    known
        What is known of people, in full, by user name, where more than groups matters.
    tokens
        Hub tokens by what they are: the model that ``/hub/api/user`` answers.
    expired
        People whose login at the IAM has ended. A token for storage that is still good is given all the same.
    mint
        Makes the token of a person for the pool, and for their session.
    mint_storage
        ... and the one that reads data.
    storage_seconds
        How long tokens that read data live. The same one is given until half of that is over, as the keeper does.
    away
        The IAM does not answer, so there are no new tokens.
    clock
        Unix time.
    full_disk
        It cannot write down that a token was used, and then answers as JupyterHub 6.1 does.
    """

    people: dict[str, list[str]] = field(default_factory=dict)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    expired: set[str] = field(default_factory=set)
    condor_tokens_given: list[str] = field(default_factory=list)
    storage_tokens_given: list[str] = field(default_factory=list)
    mint: Callable[[str], str] = "condor-of-{}".format
    mint_storage: Callable[[str], str] = "storage-of-{}".format
    storage_seconds: float = 3600.0
    away: bool = False
    clock: Callable[[], float] = time.time
    browser_user: str = ""
    full_disk: bool = False
    url: str = ""
    _codes: dict[str, str] = field(default_factory=dict, repr=False)
    _storage: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)
    _runner: web.AppRunner | None = None

    def token_of(self, user: str, scopes: Sequence[str] = (SERVICE_SCOPE,), kind: str = "user") -> str:
        """A new hub token."""
        token = secrets.token_hex(16)
        self.tokens[token] = {"name": user, "kind": kind, "scopes": list(scopes)}
        return token

    def storage_token(self, user: str) -> tuple[str, float]:
        """The token with which this person's jobs read data, and when it ends."""
        now = self.clock()
        value, expires_at = self._storage.get(user, ("", 0.0))
        if expires_at - now <= self.storage_seconds / 2 and not self.away and user not in self.expired:
            self._storage[user] = (value, expires_at) = (self.mint_storage(user), now + self.storage_seconds)
        return value, expires_at

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[_disk])
        hub: FakeHub = self
        app[HUB] = hub
        app.add_routes(
            [
                web.get("/hub/api/user", _user),
                web.get("/hub/api/af/token", _own_token),
                web.get("/hub/api/af/people/{name}", _people),
                web.post("/hub/api/af/token/condor", _condor_token),
                web.post("/hub/api/af/token/storage", _storage_token),
                web.get("/hub/api/oauth2/authorize", _authorize),
                web.post("/hub/api/oauth2/token", _oauth_token),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()


@web.middleware
async def _disk(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.app[HUB].full_disk:
        return web.json_response({"status": 403, "message": None}, status=403)
    return await handler(request)


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").partition(" ")[2]


def _service_only(request: web.Request) -> FakeHub:
    if _bearer(request) != SERVICE_TOKEN:
        raise web.HTTPForbidden
    return request.app[HUB]


async def _user(request: web.Request) -> web.Response:
    model = request.app[HUB].tokens.get(_bearer(request))
    return (
        web.json_response(model)
        if model
        else web.json_response({"status": 403, "message": "Missing or invalid credentials."}, status=403)
    )


async def _own_token(request: web.Request) -> web.Response:
    hub = request.app[HUB]
    model = hub.tokens.get(_bearer(request))
    if model is None:
        raise web.HTTPForbidden
    found = {"access_token": hub.mint(model["name"]), "expires_at": time.time() + 600}
    return web.json_response(found | {"issuer": "https://iam.af-hub.test/"})


async def _people(request: web.Request) -> web.Response:
    hub, name = _service_only(request), request.match_info["name"]
    if name in hub.known:
        return web.json_response({"name": "", "email": "", "seen_at": time.time(), **hub.known[name]})
    if name not in hub.people:
        raise web.HTTPNotFound
    claims = {"issuer": "https://iam.af-hub.test/", "subject": f"subject-{name}", "username": name}
    return web.json_response(claims | {"groups": hub.people[name], "name": "", "email": "", "seen_at": time.time()})


async def _condor_token(request: web.Request) -> web.Response:
    hub = _service_only(request)
    name = await _logged_in(request, hub.condor_tokens_given)
    return _given(hub.mint(name), time.time() + 600)


async def _storage_token(request: web.Request) -> web.Response:
    hub = _service_only(request)
    name: str = (await request.json())["username"]
    hub.storage_tokens_given.append(name)
    if name not in hub.people:
        raise web.HTTPNotFound
    value, expires_at = hub.storage_token(name)
    if expires_at <= hub.clock() and name in hub.expired:
        raise web.HTTPUnauthorized
    if expires_at <= hub.clock():
        return web.json_response({"status": 503, "message": "The IAM does not answer."}, status=503)
    return _given(value, expires_at, logged_in=name not in hub.expired)


async def _logged_in(request: web.Request, given: list[str]) -> str:
    name: str = (await request.json())["username"]
    if name in request.app[HUB].expired:
        raise web.HTTPUnauthorized
    given.append(name)
    return name


def _given(token: str, expires_at: float, **more: object) -> web.Response:
    found = {"access_token": token, "expires_at": expires_at, "issuer": "https://iam.af-hub.test/"}
    return web.json_response(found | more)


async def _authorize(request: web.Request) -> web.Response:
    hub, asked = request.app[HUB], request.query
    if asked["client_id"] != "service-af-controller" or asked["code_challenge_method"] != "S256":
        raise web.HTTPBadRequest
    code = secrets.token_hex(8)
    hub._codes[code] = hub.browser_user
    raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")


async def _oauth_token(request: web.Request) -> web.Response:
    hub, sent = request.app[HUB], await request.post()
    user = hub._codes.pop(str(sent["code"]), "")
    if not user or sent["client_secret"] != SERVICE_TOKEN or not sent.get("code_verifier"):
        raise web.HTTPBadRequest
    return web.json_response({"access_token": hub.token_of(user), "token_type": "Bearer"})
