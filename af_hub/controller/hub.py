"""What the controller asks the hub: who a token belongs to, what is known of a person, and their tokens for HTCondor and for storage.

Serves the hop controller → hub. Promises: every call has a time limit; an answer that is not in the hub's protocol is
:class:`~af_hub.errors.Unavailable`; no token stands in an error or a log. Leaves refresh and audit of tokens to the hub.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from af_hub.errors import LoginRequired, Refused, Unavailable
from af_hub.iam.claims import Claims, normalise_groups

SECONDS = 10
"""For one answer of the hub."""

REMEMBERED_SECONDS = 10
"""How long a token that was taken back still works here."""

REMEMBERED_TOKENS = 2000

LOGIN_OVER = "the login of {} has expired; log in at the hub again"
ILL = (
    "The hub cannot serve now: its disk may be full, its log says more. Try again in a minute; if it stays so, write to the facility's "
    "administrators."
)


@dataclass(frozen=True)
class Person:
    """Whom a hub token belongs to, and whether it may be used for the controller."""

    name: str
    admitted: bool


@dataclass(frozen=True)
class CondorToken:
    """A person's access token for the pool, at most ten minutes long."""

    value: str = field(repr=False)
    expires_at: float


@dataclass(frozen=True)
class StorageToken:
    """A person's access token for storage, which goes to the jobs of their Dask clusters; the last one unless they are ``logged_in``."""

    value: str = field(repr=False)
    expires_at: float
    logged_in: bool = field(default=True, compare=False)


class Hub:
    """The hub's API, asked with the controller's own service token.

    Parameters
    ----------
    api_url
        ``…/hub/api``.
    token
        The service token of ``service``.
    client
        The HTTP client; its base address is not used.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        client: httpx.AsyncClient,
        service: str = "af-controller",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = token
        self._client = client
        self._scopes = {"access:services", f"access:services!service={service}"}
        self._clock = clock
        self._remembered: dict[str, tuple[float, Person]] = {}

    async def whoami(self, token: str) -> Person | None:
        """Whose token that is; None when the hub does not know it, or it is not a person's."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        until, known = self._remembered.get(digest, (0.0, None))
        if known and self._clock() < until:
            return known
        self._remembered.pop(digest, None)
        answer = await self._ask("GET", "user", token)
        if answer.status_code in (401, 403):
            return None
        model = _object(answer)
        if model.get("kind") != "user" or not isinstance(model.get("name"), str):
            return None
        person = Person(str(model["name"]), admitted=bool(self._scopes & set(model.get("scopes") or ())))
        if len(self._remembered) >= REMEMBERED_TOKENS:
            self._remembered.clear()
        self._remembered[digest] = (self._clock() + REMEMBERED_SECONDS, person)
        return person

    async def scopes(self, token: str) -> frozenset[str]:
        """What that token may do; nothing when the hub does not know it."""
        answer = await self._ask("GET", "user", token)
        found = () if answer.status_code in (401, 403) else _object(answer).get("scopes")
        return frozenset(map(str, found or ()))

    async def claims(self, username: str) -> Claims:
        """What the IAM last said about a person.

        Raises
        ------
        Refused
            When the hub knows nothing about them.
        """
        answer = await self._ask("GET", f"af/people/{username}")
        if answer.status_code == 404:
            raise Refused(f"the hub knows no claims of {username}; log in at the hub once")
        found = _object(answer)
        try:
            return Claims(
                issuer=str(found["issuer"]),
                subject=str(found["subject"]),
                username=str(found["username"]),
                groups=normalise_groups(found["groups"]),
                name=str(found.get("name") or ""),
                email=str(found.get("email") or ""),
            )
        except KeyError as error:
            raise Unavailable(f"the hub's answer about {username} lacks {error}") from error

    async def condor_token(self, username: str) -> CondorToken:
        """A token with which ``username`` may change their own jobs.

        Raises
        ------
        LoginRequired
            When the person must log in at the hub again.
        Refused
            When the hub gives none for this person.
        """
        token, expires_at, _ = await self._token_of(username, "condor", "HTCondor token")
        return CondorToken(token, expires_at)

    async def storage_token(self, username: str) -> StorageToken:
        """A token with which jobs of ``username`` read data; it may be the one that was given before.

        Raises
        ------
        LoginRequired
            When the person must log in at the hub again.
        Refused
            When the hub gives none for this person.
        """
        token, expires_at, more = await self._token_of(username, "storage", "storage token")
        return StorageToken(token, expires_at, more.get("logged_in") is not False)

    async def _token_of(self, username: str, purpose: str, name: str) -> tuple[str, float, Mapping[str, Any]]:
        answer = await self._ask("POST", f"af/token/{purpose}", json={"username": username})
        if answer.status_code == 401:
            raise LoginRequired(LOGIN_OVER.format(username))
        if answer.status_code in (403, 404):
            raise Refused(f"the hub gives no {name} for {username}")
        found = _object(answer)
        token, expires_at = found.get("access_token"), found.get("expires_at")
        if not isinstance(token, str) or not isinstance(expires_at, int | float):
            raise Unavailable("the hub's answer holds no token")
        return token, float(expires_at), found

    async def _ask(
        self, method: str, path: str, token: str | None = None, json: Mapping[str, str] | None = None
    ) -> httpx.Response:
        try:
            answer = await self._client.request(
                method,
                f"{self._api_url}/{path}",
                headers={"Authorization": f"token {token or self._token}"},
                json=json,
                timeout=SECONDS,
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # The error's text is left out: httpx puts a header that it cannot send into it.
            raise Unavailable(f"the hub does not answer ({type(error).__name__})") from None
        if _is_ill(answer):
            raise Unavailable(_told(answer) or ILL)
        return answer


def _told(answer: httpx.Response) -> str:
    """The hub's own sentence about what it lacks, such as the IAM; empty when it has none."""
    if answer.status_code != 503:
        return ""
    try:
        found = answer.json()
    except ValueError:
        return ""
    told = found.get("message") if isinstance(found, dict) else None
    return told if isinstance(told, str) else ""


def _is_ill(answer: httpx.Response) -> bool:
    """Whether this is no answer but a fault of the hub's.

    JupyterHub 6.1 writes down each use of a token. Where it cannot, it answers 403 without a message; a refusal has one.
    """
    if answer.status_code != 403:
        return answer.status_code >= 500
    try:
        found = answer.json()
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("message", "") is None


def _object(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code != 200:
        raise Unavailable(f"the hub answered {answer.status_code}")
    try:
        found = answer.json()
    except ValueError:
        raise Unavailable("the hub's answer is no JSON") from None
    if not isinstance(found, dict):
        raise Unavailable("the hub's answer is no JSON object")
    return found
