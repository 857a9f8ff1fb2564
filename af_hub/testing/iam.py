"""A small IAM on loopback: the other end of the hop "IAM says who".

It speaks what the hub and HTCondor use of INDIGO IAM, and refuses what that refuses: discovery (OpenID Connect Discovery 1.0), keys
(RFC 7517), authorization code (RFC 6749) with PKCE S256 only (RFC 7636), refresh with rotation and narrower scopes or another
audience, userinfo, tokens of the WLCG profile 1.0 and of IAM's own, signed RS256 or ES256. Its login page asks for no password:
whoever reaches it may be any of its users, so it must never stand where people are.

As a library it is ``async with DemoIAM(...)`` or, beside a test without an event loop, ``with in_thread(DemoIAM(...))``. As a program::

    python -m af_hub.testing.iam --users users.yaml --clients clients.json --ready-fd 3

``clients.json`` holds secrets, so it must be of mode 0600: ``[{"client_id", "client_secret", "redirect_uris": [], "scopes": []}]``.
"""

import argparse
import asyncio
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import jwt
from aiohttp import web

from af_hub.ready import say_ready
from af_hub.testing.iam_faults import Kind, fault_of, misbehave, read_fault
from af_hub.testing.iam_oauth import (
    SCOPES,
    DemoClient,
    Fault,
    Grant,
    Request,
    challenge_of,
    client_credentials,
    read_client,
    read_clients,
    read_request,
    read_users,
)
from af_hub.testing.iam_page import login_form, page
from af_hub.testing.iam_state import read_state, write_state
from af_hub.testing.iam_tokens import DemoUser, access_claims, person_claims, profile_of

log = logging.getLogger(__name__)

ISSUER = "https://iam.af-hub.test/"
CODE_SECONDS = 60
LOGIN_SECONDS = 600
ID_TOKEN_SECONDS = 600
NARROW_SECONDS = 600


class DemoIAM:
    """The IAM; ``users`` and ``clients`` are plain dicts by name, which a test may change while it runs.

    Tests read ``asked``, the requests so far, and make it fail: ``faults`` says how each endpoint fails (:mod:`af_hub.testing.iam_faults`),
    ``down`` answers 503 to everything, ``forged`` changes the claims of id tokens, ``forged_algorithm`` their signature (``none`` for no
    signature), ``told`` what userinfo tells; a claim that is None is left out.

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
    ) -> None:
        self.users = {user.username: user for user in users}
        self.clients = {client.client_id: client for client in clients}
        self.issuer, self.port, self.lifetime = issuer, port, lifetime
        self.algorithm, self.profile, self.clock = algorithm, profile, clock
        self._file = state
        self.keys, self._grants = read_state(state, self.clients)
        self._save()
        self.asked: list[str] = []
        self.down = False
        self.faults: dict[str, Kind] = {}
        self.told: dict[str, object] = {}
        self._released = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.forged: dict[str, object] = {}
        self.forged_algorithm: str | None = None
        self._logins: dict[str, Request] = {}
        self._codes: dict[str, Request] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        app = web.Application(middlewares=[answer_faults, self._fail])
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/jwk", self._jwk),
                web.get("/authorize", self._authorize),
                web.post("/login", self._login),
                web.post("/token", self._token),
                web.get("/userinfo", self._userinfo),
                web.post("/userinfo", self._userinfo),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

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
        claims = access_claims(
            self.users[username],
            issuer=self.issuer,
            client_id=client_id,
            scopes=tuple(scope.split()),
            audience=audience,
            profile=profile or profile_of(scope.split(), self.profile),
            now=self.clock(),
            lifetime=self.lifetime if lifetime is None else lifetime,
        )
        return self.sign({**claims, **changed}, algorithm)

    def sign(self, claims: Mapping[str, object], algorithm: str | None = None) -> str:
        """Any claims, signed with our key; those that are None are left out."""
        return self.keys.sign(
            {key: value for key, value in claims.items() if value is not None}, algorithm or self.algorithm
        )

    @web.middleware
    async def _fail(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        kind = "down" if self.down else fault_of(self.faults, request)
        if kind is not None:
            return await misbehave(kind, request, handler, self._released)
        answer: web.StreamResponse = await handler(request)
        return answer

    def release(self) -> None:
        """Answer, late, all requests that met the fault ``silent`` until now; from any thread."""
        released, self._released = self._released, asyncio.Event()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(released.set)

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": self.url + "authorize",
                "token_endpoint": self.url + "token",
                "userinfo_endpoint": self.url + "userinfo",
                "jwks_uri": self.jwks,
                "scopes_supported": list(SCOPES),
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }
        )

    async def _jwk(self, request: web.Request) -> web.Response:
        self.asked.append("jwk")
        return web.json_response(self.keys.published())

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        client = self.clients.get(asked.get("client_id", ""))
        if client is None or asked.get("redirect_uri", "") not in client.redirect_uris:
            # RFC 6749, section 4.1.2.1: an unknown client or address is told to the person, never redirected to.
            return page(
                "This login cannot go on", "<p>The program that sent you here is not known to this IAM.</p>", 400
            )
        try:
            login = read_request(asked, client, self.clock() + LOGIN_SECONDS)
        except Fault as fault:
            return back(
                asked["redirect_uri"],
                error=fault.error,
                error_description=fault.description,
                state=asked.get("state", ""),
            )
        ticket = secrets.token_urlsafe(24)
        self._logins = {key: kept for key, kept in self._logins.items() if kept.until > self.clock()} | {ticket: login}
        return page("Who are you?", login_form(ticket, self.users.values()), target=login.redirect_uri)

    async def _login(self, request: web.Request) -> web.Response:
        form = await request.post()
        login = self._logins.pop(str(form.get("ticket", "")), None)
        if login is not None and "refuse" in form:
            # RFC 6749, section 4.1.2.1
            return back(login.redirect_uri, error="access_denied", error_description="refused", state=login.state)
        user = self.users.get(str(form.get("user", "")))
        if login is None or login.until < self.clock() or user is None:
            return page(
                "This login is over",
                "<p>It took too long, or was used before. Go back to the hub and start again.</p>",
                400,
            )
        code = secrets.token_urlsafe(24)
        self._codes[code] = Request(**{**vars(login), "user": user, "until": self.clock() + CODE_SECONDS})
        return back(login.redirect_uri, code=code, state=login.state)

    async def _token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        client = self._client(request.headers.get("Authorization", ""), form)
        grant = form.get("grant_type", "")
        self.asked.append(grant)
        if grant == "authorization_code":
            answer = self._redeem(client, form)
        elif grant == "refresh_token":
            answer = self._refresh(client, form)
        else:
            raise Fault("unsupported_grant_type", f"{grant!r} is not offered")
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def _client(self, authorization: str, form: Mapping[str, str]) -> DemoClient:
        client_id, secret = client_credentials(authorization, form)
        client = self.clients.get(client_id)
        if client is None or not secrets.compare_digest(client.client_secret.encode(), secret.encode()):
            raise Fault("invalid_client", "client id and secret do not belong together", 401)
        return client

    def _redeem(self, client: DemoClient, form: Mapping[str, str]) -> dict[str, object]:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.user is None or code.client is not client or code.until < self.clock():
            raise Fault("invalid_grant", "the code is unknown, used or too old")
        if code.redirect_uri != form.get("redirect_uri"):
            raise Fault("invalid_grant", "redirect_uri is not that of the login")
        if not secrets.compare_digest(challenge_of(form.get("code_verifier", "")), code.challenge):
            raise Fault("invalid_grant", "code_verifier does not belong to the login's code_challenge")
        answer = self._access(code.user, client, code.scopes, None)
        claims = self._id_claims(code.user, client, code.scopes, code.nonce)
        answer["id_token"] = self.sign({**claims, **self.forged}, self.forged_algorithm)
        if "offline_access" in code.scopes:
            answer["refresh_token"] = self.grant(client, code.user.username, code.scopes)
        return answer

    def grant(self, client: DemoClient, username: str, scopes: tuple[str, ...]) -> str:
        """A refresh token, as a login gives it."""
        token = secrets.token_urlsafe(32)
        self._grants[token] = Grant(client, username, scopes, good=token)
        self._save()
        return token

    def _refresh(self, client: DemoClient, form: Mapping[str, str]) -> dict[str, object]:
        token = form.get("refresh_token", "")
        grant = self._grants.get(token)
        if grant is not None and grant.good != token:
            grant.revoked = True  # RFC 9700, section 4.14.2: an old one used again ends the family.
            self._save()
        if grant is None or grant.revoked or grant.client != client or grant.username not in self.users:
            raise Fault("invalid_grant", "the refresh token is unknown, used before or revoked")
        scopes = tuple(form["scope"].split()) if form.get("scope") else grant.scopes
        if not set(scopes) <= set(grant.scopes):
            raise Fault("invalid_scope", "a refresh cannot widen the scopes of the login")
        grant.good = secrets.token_urlsafe(32)
        self._grants[grant.good] = grant
        self._save()
        answer = self._access(self.users[grant.username], client, scopes, form.get("audience"))
        return {**answer, "refresh_token": grant.good}

    def refresh_tokens(self) -> set[str]:
        """All that were ever given, for tests that look where they lie."""
        return set(self._grants)

    def revoke(self, username: str) -> None:
        """Every refresh token of this user is void from now on."""
        for grant in self._grants.values():
            if grant.username == username:
                grant.revoked = True
        self._save()

    def _save(self) -> None:
        if self._file is not None:
            write_state(self._file, self.keys, self._grants)

    def _access(
        self, user: DemoUser, client: DemoClient, scopes: tuple[str, ...], audience: str | None
    ) -> dict[str, object]:
        lifetime = min(self.lifetime, NARROW_SECONDS) if audience else self.lifetime
        token = self.mint(user.username, " ".join(scopes), audience, lifetime, client.client_id)
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(lifetime), "scope": " ".join(scopes)}

    def _id_claims(self, user: DemoUser, client: DemoClient, scopes: tuple[str, ...], nonce: str) -> dict[str, object]:
        """What the id token says."""
        now = int(self.clock())
        claims = {
            "iss": self.issuer,
            "aud": client.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        if nonce:
            claims["nonce"] = nonce
        return {**claims, **person_claims(user, scopes, profile_of(scopes, self.profile))}

    async def _userinfo(self, request: web.Request) -> web.Response:
        self.asked.append("userinfo")
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = self.verified(token if kind == "Bearer" else "")
        except (jwt.InvalidTokenError, KeyError) as error:
            raise Fault("invalid_token", "the access token is not valid", 401) from error
        user = next((user for user in self.users.values() if user.subject == claims["sub"]), None)
        scopes = str(claims.get("scope", "")).split()
        if user is None or "openid" not in scopes:
            raise Fault("invalid_token", "the access token is not for userinfo", 401)
        claims = person_claims(user, scopes, profile_of(scopes, self.profile)) | self.told
        return web.json_response({name: value for name, value in claims.items() if value is not None})

    def verified(self, token: str) -> dict[str, Any]:
        """The claims of an access token of ours that is still good."""
        keys = jwt.PyJWKSet.from_dict(self.keys.published())
        key = keys[str(jwt.get_unverified_header(token).get("kid"))]
        options: Any = dict.fromkeys(("verify_aud", "verify_exp", "verify_iat", "verify_nbf"), False)  # our clock
        claims = jwt.decode(token, key, algorithms=["RS256", "ES256"], issuer=self.issuer, options=options)
        if claims["exp"] <= self.clock():
            raise jwt.ExpiredSignatureError("expired")
        return dict(claims)


@web.middleware
async def answer_faults(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """A :class:`Fault` becomes the JSON of RFC 6749, section 5.2."""
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except Fault as fault:
        body = {"error": fault.error, "error_description": fault.description}
        return web.json_response(body, status=fault.status, headers={"Cache-Control": "no-store"})


def back(redirect_uri: str, **answer: str) -> web.Response:
    """Send the browser back to the client."""
    join = "&" if "?" in redirect_uri else "?"
    return web.Response(
        status=303, headers={"Location": redirect_uri + join + urlencode(answer), "Cache-Control": "no-store"}
    )


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


async def serve(options: argparse.Namespace) -> None:
    """Serve until the process is told to end."""
    users, clients = read_users(options.users), read_clients(options.clients)
    iam = DemoIAM(
        users,
        clients,
        issuer=options.issuer,
        port=options.port,
        lifetime=options.lifetime,
        algorithm=options.algorithm,
        state=options.state,
    )
    iam.faults = dict(options.fault)
    async with iam:
        say_ready(options.ready_fd, **iam.facts())
        await asyncio.Event().wait()


def main() -> None:
    """``python -m af_hub.testing.iam``."""
    parser = argparse.ArgumentParser(
        prog="python -m af_hub.testing.iam", description="A small IAM for demo and tests, on loopback"
    )
    parser.add_argument("--users", type=Path, required=True, metavar="FILE", help="YAML list of users")
    parser.add_argument("--clients", type=Path, required=True, metavar="FILE", help="JSON list of clients, mode 0600")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="tell this descriptor when it serves")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; any free one by default")
    parser.add_argument("--issuer", default=ISSUER, metavar="URL", help="the `iss` of its tokens")
    parser.add_argument("--lifetime", type=float, default=3600, metavar="SECONDS", help="of access tokens")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep keys and refresh tokens there, mode 0600")
    parser.add_argument("--algorithm", choices=["RS256", "ES256"], default="RS256")
    parser.add_argument(
        "--fault", type=read_fault, action="append", default=[], metavar="ENDPOINT=KIND", help="how an endpoint fails"
    )
    try:
        asyncio.run(serve(parser.parse_args()))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
