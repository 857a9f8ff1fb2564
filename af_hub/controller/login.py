"""Who asks: a hub token in a header, or a browser that logged in through the hub.

Serves the hop browser or session → controller. A browser's hub token stays here, in memory; the browser holds a random number only.
Whoever logs out at the hub in this browser is out here at once, and whoever loses the right to the controller within seconds, since
the token is shown to the hub again and again. OAuth with PKCE is JupyterHub's own (:class:`jupyterhub.services.auth.HubOAuth`).
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from jupyterhub.services.auth import HubOAuth
from starlette.requests import HTTPConnection
from tornado.web import HTTPError

from af_hub.controller.hub import Hub, Person
from af_hub.controller.problems import Problem
from af_hub.errors import Unavailable

SESSION_SECONDS = 12 * 3600
SESSIONS_AT_MOST = 10_000
STATE_SECONDS = 600
PATH_LENGTH = 256
HUB_SESSION = "jupyterhub-session-id"
"""JupyterHub's cookie for all its services: another at each login, and gone after a logout."""


@dataclass(frozen=True)
class BrowserSession:
    """One browser that logged in."""

    token: str = field(repr=False)
    csrf_key: bytes = field(repr=False)
    ends_at: float
    hub_session: str = field(default="", repr=False)

    def csrf_token(self) -> str:
        """What a form must send back; a page of another origin cannot read it."""
        return hmac.new(self.csrf_key, b"form", hashlib.sha256).hexdigest()


class Login:
    """Finds out who asks.

    Parameters
    ----------
    oauth
        JupyterHub's OAuth client, with this service's token and id.
    prefix
        The path below which the controller is served, with slashes at both ends.
    secure
        Whether people come by https; cookies are then for https only.
    """

    def __init__(
        self, hub: Hub, oauth: HubOAuth, prefix: str, secure: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hub = hub
        self._oauth = oauth
        self._prefix = prefix
        self._secure = secure
        self._clock = clock
        self._sessions: dict[str, BrowserSession] = {}
        self._cookie = "af-controller"
        self._state_cookie = "af-controller-login"

    async def by_header(self, request: HTTPConnection) -> Person:
        """The person whose hub token stands in the header ``Authorization``; for the API, which takes no cookie.

        Raises
        ------
        Problem
            401 without a token that the hub knows, 403 when it is not for the controller.
        """
        return _admitted(await self._hub.whoami(_token_in(request)), "The hub does not know this token.")

    async def check_scope(self, request: HTTPConnection, scope: str) -> None:
        """Whoever asks must show a hub token with this scope; a person's or a service's.

        Raises
        ------
        Problem
            401 without a token, 403 when the hub does not know it, or it has not got that scope.
        """
        if scope not in await self._hub.scopes(_token_in(request)):
            raise Problem(403, f"A hub token with the scope {scope} is wanted.")

    async def by_browser(self, request: HTTPConnection) -> tuple[Person, BrowserSession] | None:
        """The person who logged in with this browser; None when nobody has."""
        number = request.cookies.get(self._cookie, "")
        session = self._sessions.get(number)
        if session is None:
            return None
        ended = self._clock() >= session.ends_at or request.cookies.get(HUB_SESSION, "") != session.hub_session
        person = None if ended else await self._hub.whoami(session.token)
        if person is None:
            self._sessions.pop(number, None)
            return None
        return _admitted(person, ""), session

    async def by_either(self, request: HTTPConnection) -> Person | None:
        """By header where there is one, else by browser."""
        if "authorization" in request.headers:
            return await self.by_header(request)
        found = await self.by_browser(request)
        return found[0] if found else None

    def redirect(self, request: Request) -> Response:
        """Send the browser to the hub, to come back to where it wanted to go."""
        verifier, challenge, method = self._oauth.generate_pkce_code_challenge()
        # Kept for ten minutes for whoever comes, so it has to be short.
        wanted = request.url.path if len(request.url.path) <= PATH_LENGTH else self._prefix
        state = self._oauth.generate_state(next_url=wanted, code_verifier=verifier)
        asked = urlencode(
            {
                "client_id": self._oauth.oauth_client_id,
                "redirect_uri": self._oauth.oauth_redirect_uri,
                "response_type": "code",
                "code_challenge": challenge,
                "code_challenge_method": method,
                "state": state,
            }
        )
        answer = RedirectResponse(f"{self._oauth.oauth_authorization_url}?{asked}", 302)
        self._set(answer, self._state_cookie, state, STATE_SECONDS)
        return answer

    async def finish(self, request: Request) -> Response:
        """The browser comes back from the hub with a code.

        Raises
        ------
        Problem
            When it is not the browser that was sent, or the hub does not take the code.
        """
        state = request.query_params.get("state", "")
        sent = request.cookies.get(self._state_cookie, "")
        verifier = self._oauth.get_code_verifier(state) if state else None
        code = request.query_params.get("code", "")
        if not code or not verifier or not hmac.compare_digest(state.encode(), sent.encode()):
            raise Problem(403, "This login was not begun in this browser, or too long ago; begin again.")
        back = self._oauth.get_next_url(state)
        self._oauth.clear_oauth_state(state)
        try:
            token = await self._oauth.token_for_code(code, code_verifier=verifier, sync=False)
        except HTTPError as error:
            raise Unavailable(f"the hub did not finish the login ({error.status_code})") from None
        _admitted(await self._hub.whoami(token), "The hub does not know the person who logged in.")
        answer = RedirectResponse(back if urlsplit(back).path.startswith(self._prefix) else self._prefix, 302)
        number = self._begin(token, request.cookies.get(HUB_SESSION, ""))
        self._set(answer, self._cookie, number, SESSION_SECONDS)
        answer.delete_cookie(self._state_cookie, path=self._prefix)
        return answer

    def _begin(self, token: str, hub_session: str) -> str:
        now = self._clock()
        self._sessions = {number: one for number, one in self._sessions.items() if one.ends_at > now}
        if len(self._sessions) >= SESSIONS_AT_MOST:
            del self._sessions[next(iter(self._sessions))]
        number = secrets.token_urlsafe(32)
        self._sessions[number] = BrowserSession(token, secrets.token_bytes(32), now + SESSION_SECONDS, hub_session)
        return number

    def _set(self, answer: Response, name: str, value: str, seconds: int) -> None:
        answer.set_cookie(name, value, seconds, path=self._prefix, secure=self._secure, httponly=True, samesite="lax")


def _token_in(request: HTTPConnection) -> str:
    """The hub token in the header."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() not in ("token", "bearer") or not token or not token.isascii():
        raise Problem(401, "A hub token is wanted in the header `Authorization: token …`.")
    return token


def _admitted(person: Person | None, unknown: str) -> Person:
    if person is None:
        raise Problem(401, unknown)
    if not person.admitted:
        raise Problem(
            403, "This hub token is not for Dask clusters: it lacks the scope access:services for the controller."
        )
    return person
