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
of the protocol has a module: iam_login (pages), iam_device, iam_endpoint (tokens), iam_exchange, iam_inspection, iam_scim; how it
fails stands in iam_faults.
"""

import asyncio
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import jwt
from aiohttp import web

from af_hub.testing.iam_device import DevicePages
from af_hub.testing.iam_endpoint import TokenEndpoint
from af_hub.testing.iam_exchange import ExchangePolicy
from af_hub.testing.iam_faults import Kind, fault_of, misbehave
from af_hub.testing.iam_inspection import Inspection
from af_hub.testing.iam_login import LoginPages, stop_page
from af_hub.testing.iam_oauth import (
    GRANTS,
    SCOPES,
    DemoClient,
    Fault,
    Grant,
    client_credentials,
    read_client,
)
from af_hub.testing.iam_scim import Scim
from af_hub.testing.iam_state import read_state, write_state
from af_hub.testing.iam_tokens import DemoUser, access_claims, person_claims, profile_of

ISSUER = "https://iam.af-hub.test/"
ID_TOKEN_SECONDS = 600
NARROW_SECONDS = 600
PERMIT_ALL = (ExchangePolicy(),)


class DemoIAM:
    """The IAM; ``users`` and ``clients`` are plain dicts by name, which a test may change while it runs.

    Tests read ``asked``, the requests so far, ``logged_out``, the subjects whose login ended here, and make it fail: ``faults`` says how
    each endpoint fails (:mod:`af_hub.testing.iam_faults`), ``down`` answers 503 to everything, ``grace`` is for how many seconds
    the last refresh token is still taken after a new one was given, ``clock`` may be wrong, ``forged`` changes
    the claims of id tokens, ``forged_algorithm`` their signature (``none`` for no signature), ``told`` what userinfo tells; a claim that is
    None is left out. :meth:`recover` takes all of that back. :meth:`rename`, :meth:`regroup`, :meth:`suspend`, :meth:`unsign`,
    :meth:`revoke` and :meth:`rotate_keys` change what is true.

    Parameters
    ----------
    issuer
        The stable name in all tokens; not where it listens.
    lifetime
        Of access tokens, in seconds. Tokens for one audience live at most ``NARROW_SECONDS``.
    algorithm
        ``RS256`` or ``ES256``.
    profile
        ``wlcg`` or ``iam``; a client that asks for one of these as a scope gets that one.
    state
        File (0600) for keys and refresh tokens, so that an IAM which is started anew is the same; kept in memory only when None.
    interval
        Seconds that a program of the device flow must leave between two questions.
    exchanges
        Who may exchange whose tokens; everybody everybody's by default, nobody when empty.
    """

    def __init__(
        self,
        users: Iterable[DemoUser],
        clients: Iterable[DemoClient],
        *,
        issuer: str = ISSUER,
        port: int = 0,
        lifetime: float = 3600,
        algorithm: str = "RS256",
        profile: str = "wlcg",
        clock: Callable[[], float] = time.time,
        state: Path | None = None,
        interval: float = 5,
        exchanges: Iterable[ExchangePolicy] = PERMIT_ALL,
    ) -> None:
        self.users = {user.username: user for user in users}
        self.clients = {client.client_id: client for client in clients}
        self.issuer, self.port, self.lifetime = issuer, port, lifetime
        self.algorithm, self.profile, self.clock, self._right_clock = algorithm, profile, clock, clock
        self.interval, self.exchanges = interval, tuple(exchanges)
        self._file = state
        self.keys, self.grants = read_state(state, self.clients)
        self.save()
        self.asked: list[str] = []
        self.grace = 0.0
        self.logged_out: list[str] = []
        self.revoked: set[str] = set()
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
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
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
        return f"http://127.0.0.1:{self.port}/"

    @property
    def discovery(self) -> str:
        """Address of its configuration."""
        return self.url + ".well-known/openid-configuration"

    @property
    def jwks(self) -> str:
        """Address of its keys."""
        return self.url + "jwk"

    def add_client(self, client: Mapping[str, Any]) -> None:
        """One more client, as it would stand in the clients file."""
        self.clients[client["client_id"]] = read_client(client)

    def facts(self) -> dict[str, str]:
        """What others need to know, as in the line of ``--ready-fd``."""
        return {"url": self.url, "issuer": self.issuer, "discovery": self.discovery, "jwks": self.jwks}

    def mint(
        self,
        username: str,
        scope: str = "openid profile email wlcg.groups",
        audience: str | None = None,
        lifetime: float | None = None,
        client_id: str = "minted",
        algorithm: str | None = None,
        profile: str | None = None,
        **changed: object,
    ) -> str:
        """An access token of this user, with any claim ``changed`` (None leaves it out); for tests."""
        claims = self._claims(self.users[username], client_id, tuple(scope.split()), audience, lifetime, profile)
        return self.sign({**claims, **changed}, algorithm)

    def _claims(
        self,
        user: DemoUser | None,
        client_id: str,
        scopes: tuple[str, ...],
        audience: str | None,
        lifetime: float | None,
        profile: str | None = None,
    ) -> dict[str, object]:
        return access_claims(
            user,
            issuer=self.issuer,
            client_id=client_id,
            scopes=scopes,
            audience=audience,
            profile=profile or profile_of(scopes, self.profile),
            now=self.clock(),
            lifetime=self.lifetime if lifetime is None else lifetime,
        )

    def sign(self, claims: Mapping[str, object], algorithm: str | None = None) -> str:
        """Any claims, signed with our key; those that are None are left out."""
        return self.keys.sign(
            {key: value for key, value in claims.items() if value is not None}, algorithm or self.algorithm
        )

    def access(
        self,
        user: DemoUser | None,
        client: DemoClient,
        scopes: tuple[str, ...],
        audience: str | None = None,
        **more: object,
    ) -> dict[str, object]:
        """The answer of the token endpoint, with claims that are ``more``; the token is the client's own when there is no user."""
        lifetime = min(self.lifetime, NARROW_SECONDS) if audience else self.lifetime
        token = self.sign({**self._claims(user, client.client_id, scopes, audience or None, lifetime), **more})
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(lifetime), "scope": " ".join(scopes)}

    def id_token(self, user: DemoUser, client: DemoClient, scopes: tuple[str, ...], nonce: str) -> str:
        """Who logged in, as a test wants it forged."""
        now = int(self.clock())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": client.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        if nonce:
            claims["nonce"] = nonce
        claims |= person_claims(user, scopes, profile_of(scopes, self.profile))
        return self.sign({**claims, **self.forged}, self.forged_algorithm)

    def grant(self, client: DemoClient, username: str, scopes: tuple[str, ...]) -> str:
        """A refresh token, as a login gives it."""
        token = secrets.token_urlsafe(32)
        self.grants[token] = Grant(client, username, scopes, good=token)
        self.save()
        return token

    def verified(self, token: str) -> dict[str, Any]:
        """The claims of an access token of ours that is still good."""
        claims = self.read_token(token)
        if claims["exp"] <= self.clock():
            raise jwt.ExpiredSignatureError("expired")
        if claims["jti"] in self.revoked:
            raise jwt.InvalidTokenError("revoked")
        return claims

    def read_token(self, token: str) -> dict[str, Any]:
        """The claims of any token that we signed, though it be too old."""
        keys = jwt.PyJWKSet.from_dict(self.keys.published())
        key = keys[str(jwt.get_unverified_header(token).get("kid"))]
        options: Any = dict.fromkeys(("verify_aud", "verify_exp", "verify_iat", "verify_nbf"), False)  # our clock
        return dict(jwt.decode(token, key, algorithms=["RS256", "ES256"], issuer=self.issuer, options=options))

    def client_of(self, authorization: str, form: Mapping[str, str]) -> DemoClient:
        """The client that asks; :class:`Fault` when it does not know its secret."""
        client_id, secret = client_credentials(authorization, form)
        client = self.clients.get(client_id)
        if client is None or not secrets.compare_digest(client.client_secret.encode(), secret.encode()):
            raise Fault("invalid_client", "client id and secret do not belong together", 401)
        return client

    def user_of(self, subject: str) -> DemoUser | None:
        """Who has this subject."""
        return next((user for user in list(self.users.values()) if user.subject == subject), None)

    def stop_at_login(
        self, user: DemoUser, hidden: Mapping[str, str], action: str, signs: bool, target: str = ""
    ) -> web.Response | None:
        """The page at which this login stops; None when it goes on. Who ``signs`` has the agreement signed from now on."""
        if signs:
            user = self.users[user.username] = replace(user, signed=True)
        return stop_page(user, hidden, action, target)

    # --- what tests change

    def rename(self, username: str, new: str) -> DemoUser:
        """The same person under another name; logins go on."""
        user = replace(self.users.pop(username), username=new)
        self.users[new] = user
        for grant in self.grants.values():
            if grant.username == username:
                grant.username = new
        self.save()
        return user

    def regroup(self, username: str, *groups: str) -> DemoUser:
        """The person is in these groups from now on."""
        user = self.users[username] = replace(self.users[username], groups=groups)
        return user

    def suspend(self, username: str, suspended: bool = True) -> None:
        """The account may be used no longer."""
        self.users[username] = replace(self.users[username], active=not suspended)

    def unsign(self, username: str) -> None:
        """The agreement has changed, and this person has not signed the new one."""
        self.users[username] = replace(self.users[username], signed=False)

    def refresh_tokens(self) -> set[str]:
        """All that were ever given, for tests that look where they lie."""
        return set(self.grants)

    def revoke(self, username: str) -> None:
        """Every refresh token of this user is void from now on."""
        for grant in self.grants.values():
            if grant.username == username:
                grant.revoked = True
        self.save()

    def rotate_keys(self, keep: bool = True) -> None:
        """Sign with new keys from now on. The old ones stay published if ``keep``, else what they signed is good no longer."""
        self.keys.rotate(keep)
        self.save()

    def recover(self) -> None:
        """No fault any more, nothing forged, and the right time; who there is stays as it was made."""
        self.down = False
        self.faults: dict[str, Kind] = {}
        self.told: dict[str, object] = {}
        self.forged: dict[str, object] = {}
        self.forged_algorithm: str | None = None
        self.clock = self._right_clock
        self.release()

    def release(self) -> None:
        """Answer, late, all requests that met the fault ``silent`` until now; from any thread."""
        released, self._released = self._released, asyncio.Event()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(released.set)

    def save(self) -> None:
        """Write down what must outlive a restart."""
        if self._file is not None:
            write_state(self._file, self.keys, self.grants)

    # --- what it answers

    @web.middleware
    async def _fail(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        kind = "down" if self.down else fault_of(self.faults, request)
        if kind is not None:
            return await misbehave(kind, request, handler, self._released)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
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
def in_thread(iam: DemoIAM) -> Iterator[DemoIAM]:
    """Serve it from a thread of its own, for tests that have no event loop or must not block theirs."""
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

    thread = threading.Thread(target=run, name="demo-iam", daemon=True)
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
