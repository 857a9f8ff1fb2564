"""The token arrives: the hop from the hub's endpoint to the session's token file.

Promises: the file holds a token with most of its life left, whether or not anybody looks; while the hub does not answer, the last
token stays. The hub refreshes, we only ask it: an answer may be the token that we have already.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import aiohttp

from af_hub.backoff import backoff
from af_hub.errors import AFError, Unavailable
from af_hub.session.tokenfile import TokenFile
from af_hub.tokens.lifetime import AccessToken

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10
SOONEST, LATEST = 5.0, 600.0


class NoToken(AFError):
    """The hub has no token for us, and asking again at once would not help; the message says what does."""


class TokenSource(Protocol):
    """Where fresh tokens come from."""

    async def access_token(self) -> AccessToken:
        """A token with some life left.

        Raises
        ------
        NoToken
            When there is none until the person does something.
        Unavailable
            When it could not be had this time.
        """


def seconds_until_ask(token: AccessToken, now: float) -> float:
    """When to ask for the next token: after a third of what is left of this one, at least 5 s, at most 10 min."""
    return max(SOONEST, min(LATEST, token.seconds_left(now) / 3))


def seconds_until_retry(failures: int, uniform: Callable[[float, float], float]) -> float:
    """How long to leave the hub alone after so many failures in a row, with half of it by chance."""
    pause = backoff(failures, least=1, most=60)
    return uniform(pause / 2, pause)


class HubTokens:
    """``GET /hub/api/af/token`` with the server's own hub token; ``POST /hub/api/af/pool`` when a pool is named.

    Parameters
    ----------
    pool
        A name of ``facility.yaml``: the token is one for this pool.
    """

    def __init__(self, http: aiohttp.ClientSession, hub_api_url: str, hub_token: str, pool: str = "") -> None:
        self._http, self._method = http, "POST" if pool else "GET"
        self._body = {"pool": pool} if pool else None
        self._url = f"{hub_api_url.rstrip('/')}/af/{'pool' if pool else 'token'}"
        self._scope = f"custom:af-token:{'pool' if pool else 'read'}"
        self._headers = {"Authorization": f"token {hub_token}"}

    async def access_token(self) -> AccessToken:
        """See :class:`TokenSource`."""
        try:
            async with self._http.request(
                self._method,
                self._url,
                json=self._body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(ANSWER_SECONDS),
                allow_redirects=False,
            ) as response:
                return _read(response.status, await response.json(), self._scope)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the hub gave no token ({type(error).__name__})") from error


def _read(status: int, answer: object, scope: str) -> AccessToken:
    if status == HTTPStatus.UNAUTHORIZED:
        raise NoToken(
            "Your login at the IAM has ended, or this session's hub token has: log out of the hub and in again."
        )
    if status == HTTPStatus.FORBIDDEN:
        raise NoToken(f"This session may not have a token, or its hub token lacks the scope {scope}.")
    if status != HTTPStatus.OK or not isinstance(answer, dict):
        raise Unavailable(f"the hub gave no token (status {status})")
    value, expires_at = answer.get("access_token"), answer.get("expires_at")
    if not isinstance(value, str) or not value or not isinstance(expires_at, int | float):
        raise Unavailable("the hub's answer holds no token")
    return AccessToken(value, time.time(), float(expires_at))


@dataclass
class Freshness:
    """What became of the token so far; ``reason`` is empty while all is well."""

    expires_at: float = 0.0
    reason: str = ""

    def describe(self) -> dict[str, object]:
        """For ``GET /health``."""
        return {"expires_at": self.expires_at, "reason": self.reason}


async def keep_fresh(
    source: TokenSource,
    tokenfile: TokenFile,
    freshness: Freshness,
    first: asyncio.Event,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> None:
    """Put fresh tokens into ``tokenfile`` for ever; ``first`` is set with the first token or a clear reason for none."""
    failures = 0
    while True:
        try:
            token = await source.access_token()
            tokenfile.replace(token)
        except (NoToken, Unavailable, OSError) as error:
            failures += 1
            freshness.reason = str(error)
            log.warning("no fresh token (%d times in a row): %s", failures, error)
            if isinstance(error, NoToken):
                first.set()
            await sleep(seconds_until_retry(failures, uniform))
        else:
            failures, freshness.reason, freshness.expires_at = 0, "", token.expires_at
            first.set()
            await sleep(seconds_until_ask(token, now()))
