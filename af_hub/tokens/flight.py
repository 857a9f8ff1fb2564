"""One refresh, from "the refresh token is about to be sent" to "what came back is stored", in a thread of its own.

Promises: nothing that the hub does meanwhile comes between an answer of the IAM and the disk. A person who goes away does not end it, nor
does JupyterHub, which cancels all tasks of its event loop when it stops: threads of a pool are waited for when Python ends. It waits for the
IAM much longer than any person does, since with rotation an answer that nobody hears is a lost login.

What stays: a hub that is killed (SIGKILL, power) after the IAM made a new refresh token and before the disk has it. The old one is tried
again at the next start, at once; whether the IAM then takes it is the IAM's decision (docs/explanation/the-life-of-a-token.md).
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from af_hub.errors import AFError, Unavailable
from af_hub.iam.endpoint import IAMClient, TokenAnswer
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.purposes import Purpose
from af_hub.tokens.store import Login, Store

T = TypeVar("T")

log = logging.getLogger(__name__)

MOST_THREADS = 256
"""More than are ever begun: a few for each issuer."""

SECONDS = 30.0
"""For the IAM's answer."""


@dataclass(frozen=True)
class Landing:
    """What a refresh brought.

    Parameters
    ----------
    stored
        Whether ``login`` is on the disk; else it must be tried again.
    """

    token: AccessToken
    login: Login
    stored: bool


@dataclass(frozen=True)
class Flight:
    """A refresh for one person; the caller sees to it that they have no other one at that time."""

    store: Store
    client: IAMClient
    username: str
    login: Login
    purpose: Purpose
    for_session: bool
    now: float

    def fly(self) -> Landing:
        """Do it all, in the thread that calls.

        Raises
        ------
        LoginRequired, Unavailable
            As :meth:`af_hub.iam.endpoint.IAMClient.refresh`.
        """
        return asyncio.run(self._fly())

    async def _fly(self) -> Landing:
        self._write(partial(self.store.begin_flight, self.username, self.now))
        try:
            scope = within(self.purpose.scope, self.login.scope)
            answer = await self.client.refresh(self.login.refresh_token, scope, self.purpose.audience, SECONDS)
        except AFError:
            self._write(partial(self.store.end_flight, self.username))
            raise
        token = AccessToken(answer.access_token, answer.issued_at, answer.expires_at)
        login = next_login(self.login, answer, token if self.for_session else self.login.token)
        return Landing(token, login, self._write(partial(self.store.write_login, self.username, login)))

    def _write(self, write: Callable[[], None]) -> bool:
        """Whether it could be written; on a full disk the person's token matters more than the note about it."""
        try:
            write()
        except Unavailable as error:
            log.error("what the hub holds for %s is in memory only: %s", self.username, error)
            return False
        return True


def next_login(before: Login, answer: TokenAnswer, token: AccessToken | None) -> Login:
    """What the hub holds after this answer: without a new refresh token the old one stays, and its end."""
    if not answer.refresh_token:
        return replace(before, token=token)
    kept = before.ends_at if answer.refresh_token == before.refresh_token else None
    return Login(answer.refresh_token, token, answer.ends_at or kept, scope=before.scope)


def within(wanted: str, granted: str) -> str:
    """Of the scopes ``wanted`` those that a login with ``granted`` can have; all when that is not known."""
    have = granted.split()
    return " ".join(scope for scope in wanted.split() if scope in have or not have)


class Threads:
    """Where flights and writes happen, so that neither waits for the event loop nor the loop for a disk."""

    def __init__(self) -> None:
        # The keeper bounds what it begins; a thread is made when it is needed.
        self._flights = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="refresh")
        self._desk = ThreadPoolExecutor(2, thread_name_prefix="keeper")

    async def fly(self, flight: Flight) -> Landing:
        """Do the refresh; when the caller is cancelled it goes on all the same."""
        return await asyncio.get_running_loop().run_in_executor(self._flights, flight.fly)

    async def write(self, write: Callable[..., T], *arguments: object) -> T:
        """Call ``write`` with these arguments."""
        return await asyncio.get_running_loop().run_in_executor(self._desk, partial(write, *arguments))
