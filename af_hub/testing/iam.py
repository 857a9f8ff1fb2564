"""A small IAM on loopback: the other end of the hop "IAM says who".

It speaks what the hub and HTCondor use of INDIGO IAM, and refuses what that refuses: discovery (OpenID Connect Discovery 1.0), keys
(RFC 7517) that rotate, authorization code (RFC 6749) with PKCE S256 only (RFC 7636), refresh with rotation and narrower scopes or
another audience, device flow (RFC 8628), token exchange (RFC 8693), client credentials, userinfo, introspection (RFC 7662), revocation
(RFC 7009), the end of a login (RP-initiated logout 1.0), users and groups by SCIM (RFC 7644), tokens of the WLCG profile 1.0 and of
IAM's own, signed RS256 or ES256. Its login page asks for no password: whoever reaches it may be any of its users, so it must never
stand where people are.

As a library it is ``async with DemoIAM(...)`` or, beside a test without an event loop, ``with in_thread(DemoIAM(...))``. As a program::

    python -m af_hub.testing.iam --users users.yaml --clients clients.json --ready-fd 3

``clients.json`` holds secrets, so it must be of mode 0600: a list of what :class:`~af_hub.testing.iam_oauth.DemoClient` has. Each part
of the protocol has a module: iam_login (pages), iam_device, iam_endpoint (tokens), iam_exchange, iam_inspection, iam_scim. What is true
and what is signed stands in iam_authority, how it fails in iam_faults.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar

from aiohttp import web

from af_hub.testing.iam_authority import Authority
from af_hub.testing.iam_device import DevicePages
from af_hub.testing.iam_endpoint import TokenEndpoint
from af_hub.testing.iam_exchange import ExchangePolicy
from af_hub.testing.iam_faults import Kind, fault_of, misbehave
from af_hub.testing.iam_inspection import Inspection
from af_hub.testing.iam_login import LoginPages, stop_page
from af_hub.testing.iam_oauth import GRANTS, SCOPES, DemoClient, Fault
from af_hub.testing.iam_scim import Scim
from af_hub.testing.iam_tokens import DemoUser

PERMIT_ALL = (ExchangePolicy(),)
Server = TypeVar("Server", bound=AbstractAsyncContextManager[Any])


class DemoIAM(Authority):
    """The IAM; ``users`` and ``clients`` are plain dicts by name, which a test may change while it runs.

    Tests read ``asked``, the requests so far, ``logged_out``, the subjects whose login ended here, and make it fail: ``faults`` says how
    each endpoint fails (:mod:`af_hub.testing.iam_faults`), ``down`` answers 503 to everything, ``grace`` is for how many seconds
    the last refresh token is still taken after a new one was given, ``clock`` may be wrong, ``forged`` changes
    the claims of id tokens, ``forged_algorithm`` their signature (``none`` for no signature), ``told`` what userinfo tells; a claim that is
    None is left out. ``iss_parameter`` is what answers to a login name as their issuer (RFC 9207), and discovery says that they do; with an
    empty one they do not. :meth:`recover` takes all of that back. :meth:`rename`, :meth:`regroup`, :meth:`suspend`, :meth:`unsign`,
    :meth:`revoke` and :meth:`rotate_keys` change what is true.

    Parameters
    ----------
    port
        Any free one when 0.
    address
        Where it listens.
    interval
        Seconds that a program of the device flow must leave between two questions.
    exchanges
        Who may exchange whose tokens; everybody everybody's by default, nobody when empty.
    about
        As :class:`~af_hub.testing.iam_authority.Authority` takes it: issuer, lifetime, algorithm, profile, clock, state.
    """

    def __init__(
        self,
        users: Iterable[DemoUser],
        clients: Iterable[DemoClient],
        *,
        port: int = 0,
        address: str = "127.0.0.1",
        interval: float = 5,
        exchanges: Iterable[ExchangePolicy] = PERMIT_ALL,
        **about: Any,
    ) -> None:
        super().__init__(users, clients, **about)
        self.port, self.address, self._right_clock = port, address, self.clock
        self.interval, self.exchanges = interval, tuple(exchanges)
        self.asked: list[str] = []
        self.logged_out: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = asyncio.Event()
        self.recover()
        self.devices = DevicePages(self)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        app = web.Application(middlewares=[answer_faults, self._fail])
        logins = LoginPages(self)
        app.add_routes([web.get("/.well-known/openid-configuration", self._discovery), web.get("/jwk", self._jwk)])
        for part in logins, self.devices, TokenEndpoint(self, logins, self.devices), Inspection(self), Scim(self):
            app.add_routes(part.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # --- where it is, and who may come

    @property
    def url(self) -> str:
        """Where it listens, with a slash."""
        return f"http://{self.address}:{self.port}/"

    @property
    def discovery(self) -> str:
        """Address of its configuration."""
        return self.url + ".well-known/openid-configuration"

    @property
    def jwks(self) -> str:
        """Address of its keys."""
        return self.url + "jwk"

    def facts(self) -> dict[str, str]:
        """What others need to know, as in the line of ``--ready-fd``."""
        return {"url": self.url, "issuer": self.issuer, "discovery": self.discovery, "jwks": self.jwks}

    def stop_at_login(
        self, user: DemoUser, hidden: Mapping[str, str], action: str, signs: bool, target: str = ""
    ) -> web.Response | None:
        """The page at which this login stops; None when it goes on. Who ``signs`` has the agreement signed from now on."""
        if signs:
            user = self.users[user.username] = replace(user, signed=True)
        return stop_page(user, hidden, action, target)

    # --- how it fails

    def recover(self) -> None:
        """No fault any more, nothing forged, and the right time; who there is stays as it was made."""
        self.down, self.grace = False, 0.0
        self.faults: dict[str, Kind] = {}
        self.told: dict[str, object] = {}
        self.iss_parameter: str | None = None
        self.forged: dict[str, object] = {}
        self.forged_algorithm: str | None = None
        self.clock = self._right_clock
        self.release()

    def release(self) -> None:
        """Answer, late, all requests that met the fault ``silent`` until now; from any thread."""
        released, self._released = self._released, asyncio.Event()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(released.set)

    # --- what it answers

    @web.middleware
    async def _fail(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        kind = "down" if self.down else fault_of(self.faults, request)
        if kind is not None:
            return await misbehave(kind, request, handler, self._released)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _discovery(self, request: web.Request) -> web.Response:
        named = {"authorization_response_iss_parameter_supported": True} if self.iss_parameter is not None else {}
        return web.json_response(
            named
            | {
                "issuer": self.issuer,
                "authorization_endpoint": self.url + "authorize",
                "token_endpoint": self.url + "token",
                "userinfo_endpoint": self.url + "userinfo",
                "jwks_uri": self.jwks,
                "device_authorization_endpoint": self.url + "devicecode",
                "introspection_endpoint": self.url + "introspect",
                "revocation_endpoint": self.url + "revoke",
                "end_session_endpoint": self.url + "endsession",
                "scim_endpoint": self.url + "scim",
                "scopes_supported": list(SCOPES),
                "response_types_supported": ["code"],
                "grant_types_supported": list(GRANTS),
                "code_challenge_methods_supported": ["S256"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }
        )

    async def _jwk(self, request: web.Request) -> web.Response:
        self.asked.append("jwk")
        return web.json_response(self.keys.published())


@web.middleware
async def answer_faults(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """A :class:`Fault` becomes the JSON of RFC 6749, section 5.2."""
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except Fault as fault:
        body = {"error": fault.error, "error_description": fault.description}
        return web.json_response(body, status=fault.status, headers={"Cache-Control": "no-store"})


@contextmanager
def in_thread(iam: Server) -> Iterator[Server]:
    """Serve it, or any other of our fakes, from a thread of its own, for tests that have no event loop or must not block theirs."""
    ready, failed, loop = threading.Event(), [], asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with iam:
            ready.set()
            await over.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except Exception as error:
            failed.append(error)
            ready.set()
        finally:
            loop.close()

    thread = threading.Thread(target=run, name=type(iam).__name__, daemon=True)
    thread.start()
    ready.wait(10)
    if failed:
        raise failed[0]
    try:
        yield iam
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)


if __name__ == "__main__":
    from af_hub.testing.iam_command import main

    main()
