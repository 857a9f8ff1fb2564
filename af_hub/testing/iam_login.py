"""The demo IAM's login pages: authorization code with PKCE, the agreement that must be signed, and the end of a login (RP-initiated logout 1.0).

There is no password and no session: each login asks anew who somebody is. A code is good for one minute and for one use.
"""

import html
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import jwt
from aiohttp import web

from af_hub.testing.iam_oauth import DemoClient, Fault, Request, challenge_of, read_request
from af_hub.testing.iam_page import agreement_form, login_form, page
from af_hub.testing.iam_tokens import DemoUser

if TYPE_CHECKING:
    from af_hub.testing.iam import DemoIAM

CODE_SECONDS = 60
LOGIN_SECONDS = 600
SIGNED_OUT = "<p>Of this IAM; programs that you use may have logins of their own.</p>"


class LoginPages:
    """Logins that are under way, and the codes that they gave."""

    def __init__(self, iam: "DemoIAM") -> None:
        self.iam = iam
        self._logins: dict[str, Request] = {}
        self._codes: dict[str, Request] = {}

    def routes(self) -> list[web.RouteDef]:
        """Where the pages are."""
        return [
            web.get("/authorize", self._authorize),
            web.post("/login", self._login),
            web.get("/endsession", self._end),
            web.post("/endsession", self._end),
        ]

    def redeem(self, client: DemoClient, form: Mapping[str, str]) -> tuple[Request, DemoUser]:
        """The login that the code in ``form`` stands for, and whose it is; it counts once."""
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.user is None or code.client is not client or code.until < self.iam.clock():
            raise Fault("invalid_grant", "the code is unknown, used or too old")
        if code.redirect_uri != form.get("redirect_uri"):
            raise Fault("invalid_grant", "redirect_uri is not that of the login")
        if not secrets.compare_digest(challenge_of(form.get("code_verifier", "")), code.challenge):
            raise Fault("invalid_grant", "code_verifier does not belong to the login's code_challenge")
        return code, code.user

    async def _authorize(self, request: web.Request) -> web.Response:
        asked, now = request.query, self.iam.clock()
        client = self.iam.clients.get(asked.get("client_id", ""))
        if client is None or asked.get("redirect_uri", "") not in client.redirect_uris:
            # RFC 6749, section 4.1.2.1: an unknown client or address is told to the person, never redirected to.
            return page(
                "This login cannot go on", "<p>The program that sent you here is not known to this IAM.</p>", 400
            )
        try:
            login = read_request(asked, client, now + LOGIN_SECONDS)
        except Fault as fault:
            answer = {"error": fault.error, "error_description": fault.description, "state": asked.get("state", "")}
            return back(asked["redirect_uri"], **answer, **self._who())
        ticket = secrets.token_urlsafe(24)
        self._logins = {key: kept for key, kept in self._logins.items() if kept.until > now} | {ticket: login}
        form = login_form({"ticket": ticket}, self.iam.users.values(), "/login")
        return page("Who are you?", form, target=login.redirect_uri)

    async def _login(self, request: web.Request) -> web.Response:
        form = await request.post()
        ticket = str(form.get("ticket", ""))
        login = self._logins.pop(ticket, None)
        if login is not None and "refuse" in form:
            # RFC 6749, section 4.1.2.1
            refused = {"error": "access_denied", "error_description": "refused", "state": login.state}
            return back(login.redirect_uri, **refused, **self._who())
        user = self.iam.users.get(str(form.get("user", "")))
        if login is None or login.until < self.iam.clock() or user is None:
            return page(
                "This login is over",
                "<p>It took too long, or was used before. Go back to the hub and start again.</p>",
                400,
            )
        if stop := self.iam.stop_at_login(user, {"ticket": ticket}, "/login", "sign" in form, login.redirect_uri):
            self._logins[ticket] = login
            return stop
        code = secrets.token_urlsafe(24)
        self._codes[code] = Request(**{**vars(login), "user": user, "until": self.iam.clock() + CODE_SECONDS})
        return back(login.redirect_uri, code=code, state=login.state, **self._who())

    def _who(self) -> dict[str, str]:
        """Who answers (RFC 9207)."""
        return {"iss": self.iam.iss_parameter} if self.iam.iss_parameter else {}

    async def _end(self, request: web.Request) -> web.Response:
        """End a login (OpenID Connect RP-Initiated Logout 1.0, sections 2 and 3)."""
        self.iam.asked.append("logout")
        asked = {key: str(value) for key, value in {**request.query, **await request.post()}.items()}
        client, subject = self._who_ends(asked)
        if subject:
            self.iam.logged_out.append(subject)
        wanted = asked.get("post_logout_redirect_uri", "")
        if client is None or wanted not in client.post_logout_redirect_uris:
            return page("You are signed out", SIGNED_OUT)
        if subject:
            return back(wanted, **({"state": asked["state"]} if asked.get("state") else {}))
        # Nobody showed an id token, so anybody may have sent the browser here: no redirect, but the person may go on (section 3).
        return page("You are signed out", f'{SIGNED_OUT}<p><a href="{html.escape(wanted)}">Go back</a></p>')

    def _who_ends(self, asked: Mapping[str, str]) -> tuple[DemoClient | None, str]:
        """Client and subject of the id token that is shown, which may be expired; neither when it is not ours or names another client.

        Without one it is the client that is named, and nobody's login in particular.
        """
        if "id_token_hint" not in asked:
            return self.iam.clients.get(asked.get("client_id", "")), ""
        try:
            claims = self.iam.read_token(asked.get("id_token_hint", ""))
        except (jwt.InvalidTokenError, KeyError):
            return None, ""
        client_id = str(claims.get("aud", ""))
        if asked.get("client_id", client_id) != client_id:
            return None, ""
        return self.iam.clients.get(client_id), str(claims.get("sub", ""))


def stop_page(user: DemoUser, hidden: Mapping[str, str], action: str, target: str = "") -> web.Response | None:
    """The page at which this user's login stops: a suspended account, or an agreement to sign first."""
    if not user.active:
        return page("Your account is suspended", "<p>An administrator of this IAM did that; ask them.</p>", 403)
    if not user.signed:
        form = agreement_form({**hidden, "user": user.username}, action)
        return page("There is an agreement to sign", form, target=target)
    return None


def back(redirect_uri: str, **answer: str) -> web.Response:
    """Send the browser back to the client."""
    join = "&" if "?" in redirect_uri else "?"
    location = redirect_uri + join + urlencode(answer) if answer else redirect_uri
    return web.Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})
