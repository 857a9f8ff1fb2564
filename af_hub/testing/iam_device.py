"""The demo IAM's device flow (RFC 8628): a program without a browser shows a code, a person types it here.

As INDIGO IAM has it: ``/devicecode`` for programs, ``/device`` for people. Two things are the RFC's, not that IAM's: a program
that asks too often is told ``slow_down``, and a refusal ends the wait (``access_denied``).
"""

import html
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from af_hub.testing.iam_oauth import DEVICE_GRANT, DemoClient, Fault, check_scopes
from af_hub.testing.iam_page import code_form, login_form, page
from af_hub.testing.iam_tokens import DemoUser

if TYPE_CHECKING:
    from af_hub.testing.iam import DemoIAM

DEVICE_SECONDS = 600
SLOWER_SECONDS = 5
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no code is a word, and nothing that looks like a digit (RFC 8628, section 6.1)."""
CODE_LETTERS = 8


@dataclass
class DeviceLogin:
    """One wait of one program; ``user`` is who said yes."""

    client: DemoClient
    scopes: tuple[str, ...]
    user_code: str
    until: float
    interval: float
    device_code: str = field(repr=False)
    user: DemoUser | None = None
    refused: bool = False
    asked_at: float | None = None


def new_user_code() -> str:
    """As in ``BCDF-GHJK``."""
    letters = "".join(secrets.choice(LETTERS) for _ in range(CODE_LETTERS))
    return f"{letters[:4]}-{letters[4:]}"


def read_user_code(typed: str) -> str:
    """What somebody typed, as :func:`new_user_code` writes it; empty when it can be no code (RFC 8628, section 6.1)."""
    letters = [letter for letter in typed.upper() if letter.isalnum()]
    if len(letters) != CODE_LETTERS or set(letters) - set(LETTERS):
        return ""
    return f"{''.join(letters[:4])}-{''.join(letters[4:])}"


def poll(login: DeviceLogin | None, client: DemoClient, now: float) -> DemoUser:
    """Who said yes to this wait (RFC 8628, section 3.5); remembers that it was asked for."""
    if login is None or login.client is not client:
        raise Fault("invalid_grant", "the device code is unknown or was used")
    if login.until <= now:
        raise Fault("expired_token", "nobody typed the code in time")
    too_soon = login.asked_at is not None and now - login.asked_at < login.interval
    login.asked_at = now
    if too_soon:
        login.interval += SLOWER_SECONDS
        raise Fault("slow_down", f"ask at most every {login.interval:g} seconds")
    if login.refused:
        raise Fault("access_denied", "the person said no")
    if login.user is None:
        raise Fault("authorization_pending", "nobody typed the code yet")
    return login.user


class DevicePages:
    """Waits that are under way, and the pages where people end them."""

    def __init__(self, iam: "DemoIAM") -> None:
        self.iam = iam
        self._logins: dict[str, DeviceLogin] = {}

    def routes(self) -> list[web.RouteDef]:
        """Where programs and people come."""
        return [
            web.post("/devicecode", self._begin),
            web.get("/device", self._type),
            web.post("/device/verify", self._verify),
            web.post("/device/approve", self._approve),
        ]

    def redeem(self, client: DemoClient, form: Mapping[str, str]) -> tuple[DemoUser, tuple[str, ...]]:
        """Who said yes, and to which scopes; the device code counts once."""
        code = form.get("device_code", "")
        login = self._logins.get(code)
        user = poll(login, client, self.iam.clock())
        del self._logins[code]
        assert login is not None
        return user, login.scopes

    def answer(self, user_code: str, username: str | None) -> None:
        """Say yes as this user, or no when None; for tests, in place of the page."""
        login = self._waiting(user_code)
        if login is None:
            raise LookupError(f"no program waits for the code {user_code}")
        login.user, login.refused = (self.iam.users[username], False) if username else (None, True)

    async def _begin(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        client, now = self.iam.client_of(request.headers.get("Authorization", ""), form), self.iam.clock()
        self.iam.asked.append("devicecode")
        if DEVICE_GRANT not in client.grants:
            raise Fault("unauthorized_client", "this client may not use the device flow")
        scopes = tuple(form.get("scope", "").split()) or client.scopes
        check_scopes(scopes, client.scopes, "this client")
        login = DeviceLogin(
            client, scopes, new_user_code(), now + DEVICE_SECONDS, self.iam.interval, secrets.token_urlsafe(32)
        )
        living = {code: kept for code, kept in self._logins.items() if kept.until > now}
        self._logins = living | {login.device_code: login}
        address = self.iam.url + "device"
        answer = {
            "device_code": login.device_code,
            "user_code": login.user_code,
            "verification_uri": address,
            "verification_uri_complete": f"{address}?{urlencode({'user_code': login.user_code})}",
            "expires_in": DEVICE_SECONDS,
            "interval": self.iam.interval,
        }
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    async def _type(self, request: web.Request) -> web.Response:
        return page("Sign in a program", code_form(request.query.get("user_code", "")))

    async def _verify(self, request: web.Request) -> web.Response:
        login = self._waiting(str((await request.post()).get("user_code", "")))
        if login is None:
            return page("Sign in a program", code_form("", "No program waits for that code. Type it again."), 400)
        form = login_form({"user_code": login.user_code}, self.iam.users.values(), "/device/approve")
        asks = (
            f"<p><strong>{html.escape(login.client.client_id)}</strong> wants to sign in as you. Its code is "
            f"<code>{login.user_code}</code>; go on only if that is what you see on your own screen.</p>"
        )
        return page("Who are you?", asks + form)

    async def _approve(self, request: web.Request) -> web.Response:
        form = await request.post()
        login, user = self._waiting(str(form.get("user_code", ""))), self.iam.users.get(str(form.get("user", "")))
        if login is not None and "refuse" in form:
            login.refused = True
            return page(
                "Nothing was signed in", "<p>The program is told that you said no. You can close this page.</p>"
            )
        if login is None or user is None:
            return page("Sign in a program", code_form("", "That took too long, or was done before."), 400)
        hidden = {"user_code": login.user_code}
        if stop := self.iam.stop_at_login(user, hidden, "/device/approve", "sign" in form):
            return stop
        login.user = user
        return page("You are signed in", "<p>Go back to the program; you can close this page.</p>")

    def _waiting(self, typed: str) -> DeviceLogin | None:
        """The wait with this user code that nobody has ended."""
        code, now = read_user_code(typed), self.iam.clock()
        for login in self._logins.values():
            if login.user_code == code and login.until > now and login.user is None and not login.refused:
                return login
        return None
