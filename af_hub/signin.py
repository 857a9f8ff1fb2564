"""Signing in: where the hub sends a browser to an IAM, and takes it back.

Promises: an answer counts only in the browser that began the login, for the IAM that it was sent to, and once; an error of the IAM
becomes a sentence on a page. Leaves who gets in to :class:`af_hub.authenticator.IAMAuthenticator`.
"""

import base64
import hashlib
import json
import re
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

from jupyterhub.utils import url_path_join
from oauthenticator.oauth2 import OAuthCallbackHandler, OAuthLoginHandler
from tornado import web

from af_hub.errors import Refused, Unavailable
from af_hub.iam.discovery import Metadata
from af_hub.iam.endpoint import IAMClient

# The headings of the error pages, above the sentence.
NO_LOGIN, NO_IAM, STOPPED = "Login refused", "No login now", "This login cannot go on"

FRESH_SECONDS = 10.0
"""How old the IAM's word about where it is may be when a browser is sent there."""

OTHER_HOST = "af_host"
"""Marks a login that was sent on to the hub's own address: once is enough, should a proxy in front change the name back."""

ERROR_CODE = re.compile(r"[a-z_]{1,40}\Z")


def nonce_of(code_verifier: str) -> str:
    """The nonce of a login: bound to the verifier that only this browser's signed cookie holds (OpenID Connect Core 1.0, 15.5.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"nonce {code_verifier}".encode()).digest()).rstrip(b"=").decode()


class IAMLoginHandler(OAuthLoginHandler):  # type: ignore[misc]
    """Sends the browser to the page of one of the IAMs, with a nonce."""

    _client: IAMClient
    _metadata: Metadata
    _verifier: str

    @property
    def _OAUTH_AUTHORIZE_URL(self) -> str:
        return self._metadata.authorization_endpoint

    def _generate_pkce_params(self) -> tuple[str, str]:
        self._verifier, challenge = super()._generate_pkce_params()
        return self._verifier, challenge

    def authorize_redirect(self, *, extra_params: dict[str, str], **others: Any) -> None:
        """Add the nonce to what oauthenticator asks for, and ask as the client of this IAM."""
        others |= {"client_id": self._client.client_id, "scope": self.authenticator.scopes_for(self._metadata.issuer)}
        super().authorize_redirect(extra_params={**extra_params, "nonce": nonce_of(self._verifier)}, **others)

    def set_state_cookie(self, state_cookie_value: str) -> None:
        """Keep in the signed cookie, too, which IAM the browser is sent to: its answer counts for no other."""
        state = {**_state(state_cookie_value), "issuer": self._metadata.issuer}
        super().set_state_cookie(base64.urlsafe_b64encode(json.dumps(state).encode()).decode())

    async def get(self) -> None:
        """Begin a login; at the address that the IAM sends the browser back to, since cookies are good for one address only."""
        own = urlsplit(self.authenticator.oauth_callback_url)
        if own.netloc and self.request.host.lower() != own.netloc.lower() and not self.get_argument(OTHER_HOST, ""):
            given = {name: self.get_argument(name, "") for name in ("next", "issuer")}
            query = urlencode({**given, OTHER_HOST: "1"})
            self.redirect(f"{own.scheme}://{own.netloc}{self.request.path}?{query}")
            return
        try:
            asked = self.get_argument("issuer", "") or self.authenticator.issuer_of(self.current_user)
            self._client = self.authenticator.clients.named(asked)
            self._metadata = await self._client.discovery.metadata(FRESH_SECONDS)
        except Refused:  # none, or another than there are: the login page has the choice
            query = urlencode({"next": self.get_argument("next", "")})
            self.redirect(f"{url_path_join(self.hub.base_url, 'login')}?{query}")
            return
        except Unavailable as error:
            raise self.authenticator.no_iam(error) from error
        super().get()


class IAMCallbackHandler(OAuthCallbackHandler):  # type: ignore[misc]
    """Takes the browser back from the IAM."""

    async def get(self) -> None:
        """End a login. An old tab of somebody who has logged in meanwhile leads home."""
        if self.current_user and not self._is_ours():
            self.redirect(url_path_join(self.hub.base_url, "home"))
            return
        await super().get()

    def check_arguments(self) -> None:
        """Whether this is the answer to a login that this browser began, and a good one.

        Raises
        ------
        web.HTTPError
            With a sentence for the person.
        """
        if not self._is_ours():
            raise web.HTTPError(
                400,
                "It was begun in another browser or tab, under another address of this hub, or too long ago. "
                "Nothing has changed; sign in again.",
                reason=STOPPED,
            )
        if (says := self.get_argument("iss", "")) and says != self.issuer:
            self.log.error("an answer of %.200r came to a login at %.200r", says, self.issuer)
            raise web.HTTPError(
                400, "The answer came from another IAM than the one that you chose. Sign in again.", reason=STOPPED
            )
        if error := self.get_argument("error", ""):
            self._refuse(error)
        if not self.get_argument("code", ""):
            raise web.HTTPError(400, "The IAM sent you back without an answer. Sign in again.", reason=STOPPED)

    @property
    def issuer(self) -> str:
        """Which IAM this browser was sent to, as its signed cookie says."""
        return str(_state(self.get_state_cookie()).get("issuer") or "")

    def _is_ours(self) -> bool:
        """Whether the state in the address is the one in this browser's signed cookie (RFC 6749, section 10.12)."""
        packed = self.get_state_cookie(), self.get_argument("state", "")
        states = [str(_state(state).get("state_id") or "") for state in packed]
        return bool(states[0]) and states[0] == states[1]

    def _refuse(self, error: str) -> NoReturn:
        """Say what the IAM's ``error`` means (RFC 6749, section 4.1.2.1); its own words go to the log only."""
        self.log.warning(
            "the IAM refused a login: %.60r (%.200r)", error, self.get_argument("error_description", "no description")
        )
        if error == "access_denied":
            raise web.HTTPError(
                403,
                "You, or the IAM, did not allow the hub to know who you are, so it cannot let you in. Nothing has changed; "
                "sign in again and agree.",
                reason=NO_LOGIN,
            )
        code = error if ERROR_CODE.match(error) else "an error without a name"
        raise self.authenticator.no_iam(Unavailable(f"The IAM refuses to log you in ({code})."))

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Without the address: Tornado would write it with the code that stands in it."""
        if isinstance(error, web.HTTPError):
            self.log.warning("login failed at %s: %s", self.request.path, error.log_message)
        else:
            self.log.error("login failed at %s", self.request.path, exc_info=(kind, error, trace))


def _state(packed: str) -> dict[str, Any]:
    """What is in oauthenticator's packed state; nothing when it is none."""
    try:
        found = json.loads(base64.urlsafe_b64decode(packed))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
