"""What ``af`` asks of the hub: a login by code, who somebody is, their access token, the end of a token.

Serves the hop laptop → hub. Promises: every call has a time limit, an error is a sentence, tokens stand in headers and bodies only, and nothing is
sent on to wherever a redirect points.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from af_hub.client.logins import HubLogin
from af_hub.errors import AFError, LoginRequired, Refused, Unavailable

SECONDS = 20.0
LONGEST_PAUSE = 60.0
POOL_KEYS = ("pool", "collector", "schedd", "authority", "access_token")


@dataclass(frozen=True)
class Code:
    """What a person types, and where; and what the hub is asked with whether they did."""

    key: str
    secret: str = field(repr=False)
    user_code: str
    address: str
    whole_address: str
    seconds: float
    interval: float


@dataclass(frozen=True)
class Hub:
    """One hub, to somebody with a token of it or, when that is empty, to nobody."""

    url: str
    token: str = field(default="", repr=False)
    controller: str = ""

    def begin(self, machine: str, issuer: str = "") -> Code:
        """Begin a login by code."""
        asked = {"name": machine, **({"issuer": issuer} if issuer else {})}
        found = self._object("POST", "af/device", asked)
        try:
            return Code(
                key=str(found["id"]),
                secret=str(found["secret"]),
                user_code=str(found["user_code"]),
                address=str(found["verification_uri"]),
                whole_address=str(found["verification_uri_complete"]),
                seconds=float(found["expires_in"]),
                interval=float(found["interval"]),
            )
        except (KeyError, ValueError, TypeError):
            raise self._odd() from None

    def wait(
        self, code: Code, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> HubLogin:
        """Ask until somebody said yes; goes on while hub or IAM are away.

        Raises
        ------
        Refused
            When the policy says no.
        LoginRequired
            When they said no, or nobody said anything in time.
        """
        deadline, pause = clock() + code.seconds, code.interval
        while clock() + pause <= deadline:
            sleep(pause)
            try:
                answer = self._ask("POST", f"{self.url}hub/api/af/device/{code.key}", {"secret": code.secret})
            except (Refused, LoginRequired):
                raise
            except AFError:
                continue
            found = self._read(answer)
            if answer.status_code == 200:
                return HubLogin(self.url, str(found["token"]), str(found["username"]), float(found["expires_at"]))
            pause = min(LONGEST_PAUSE, max(code.interval, float(found.get("interval", pause))))
        raise LoginRequired("Nobody typed the code in time; run `af login` again.")

    def me(self) -> dict[str, Any]:
        """Whom the hub takes the token's owner for, and what that person may do."""
        found = self._object("GET", "user")
        try:
            return {**found, **self._object("GET", "af/me")}
        except (Unavailable, Refused):
            return found  # a hub that says no more, or a token that may not ask

    def access_token(self, purpose: str = "") -> dict[str, Any]:
        """The owner's access token: ``access_token``, ``expires_at``, ``issuer``."""
        found = self._object("GET", "af/token" + (f"?purpose={purpose}" if purpose else ""))
        if not isinstance(found.get("access_token"), str):
            raise self._odd()
        return found

    def pool(self, name: str = "") -> dict[str, Any]:
        """Where a pool is, and the owner's token for it: ``pool``, ``collector``, ``schedd``, ``authority``, ``access_token``."""
        found = self._object("POST", "af/pool", {"pool": name} if name else {})
        if not all(isinstance(found.get(key), str) for key in POOL_KEYS):
            raise self._odd()
        return found

    def bring_job_tokens(self, pool: str) -> None:
        """Have the token with which the owner's jobs in this pool read data brought there; a controller's refusal is ours."""
        self._ask("POST", f"{self.controller or f'{self.url}services/af-controller/'}api/job-tokens", {"pool": pool})

    def end(self) -> None:
        """Take the token back."""
        model = self._object("GET", "user")
        if token_id := model.get("token_id"):
            self._ask("DELETE", f"{self.url}hub/api/users/{model['name']}/tokens/{token_id}")

    def _object(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._read(self._ask(method, f"{self.url}hub/api/{path}", body))

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._odd()
        return found

    def _odd(self) -> Unavailable:
        return Unavailable(f"{self.url} does not answer as a hub of AF Hub does; is that its address?")

    def _ask(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"} if self.token else {}
        try:
            # Without TLS nothing is verified, and to prepare for it takes longer than the rest.
            with httpx.Client(verify=self.url.startswith("https:"), timeout=SECONDS) as client:
                answer = client.request(method, url, headers=headers, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{self.url} does not answer ({type(error).__name__}).") from None
        if answer.is_success:
            return answer
        raise error_of(answer, self.token != "")


def error_of(answer: httpx.Response, with_token: bool) -> AFError:
    """What the hub's refusal means for whoever typed a command."""
    sentence = sentence_of(answer)
    if answer.status_code in (401, 410):
        return LoginRequired(sentence)
    if answer.status_code == 403 and with_token and "credentials" in sentence.lower():
        # JupyterHub 6.1 says "Missing or invalid credentials." of a token that it does not know, or knows no longer.
        return LoginRequired("The hub takes your token no longer; run `af login` again.")
    if answer.status_code in (400, 403):
        return Refused(sentence)
    return Unavailable(sentence)


def guess(answer: httpx.Response) -> str:
    """What a refusal without a sentence is, most likely."""
    host = answer.request.url.host
    if answer.status_code == 404:
        return f"There is no such thing at {host} (HTTP 404); is that the address of a hub of AF Hub, and is it new enough?"
    if answer.is_redirect:
        return f"{host} sends us elsewhere (HTTP {answer.status_code}); give the address that your browser shows in the end."
    return f"{host} refuses it (HTTP {answer.status_code})."


def sentence_of(answer: httpx.Response) -> str:
    """The hub's own sentence; the status when there is none. Nothing in it can move a terminal's cursor."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    # JupyterHub says "message", the controller's problem details (RFC 9457) say "detail".
    message = found.get("message") or found.get("detail") if isinstance(found, dict) else None
    text = message if isinstance(message, str) and message else guess(answer)
    return "".join(one if one.isprintable() else " " for one in text)
