"""The person's token on its last hop: from the scheduler to the nanny of each worker, over Dask's own connections.

Serves scheduler and workers; the first token may come before the first worker does, or after, and workers come and start anew all the
time. Promises: the file of a worker holds the scheduler's newest token before the worker's process begins, and each newer one soon after
it came, for as long as the worker lives; an older one never takes the place of a newer one. Dask's connections speak TLS and ask for a
certificate of this Dask cluster, so whoever can ask for the token here could run a task that reads the file. The scheduler says that
there is a newer one, and the nanny asks for it: Dask logs what it is told when it logs all, but no answers.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from distributed import Nanny, Scheduler
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin

from af_hub.backoff import backoff
from af_hub.session.tokenfile import TokenFile
from af_hub.tokens.lifetime import AccessToken

log = logging.getLogger(__name__)

CALL, NEWS = "af_token", "af_token_news"
TELL_SECONDS = 10
FETCH_SECONDS = 5
"""A worker that gets no answer begins without; its token comes as to all others."""

TELL_AT_ONCE = 50
LONGEST_PAUSE = 30


@dataclass(frozen=True)
class NumberedToken:
    """An access token as it travels; the job agent counts them."""

    number: int
    value: str = field(repr=False)
    expires_at: float


class Delivery(SchedulerPlugin):
    """The scheduler's part: it has the newest token, gives it to whoever asks, and brings it to whoever has not got it."""

    name = CALL

    def __init__(self, scheduler: Scheduler, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._scheduler = scheduler
        self._sleep = sleep
        self._token: NumberedToken | None = None
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(TELL_AT_ONCE)
        scheduler.handlers[CALL] = self.newest
        scheduler.add_plugin(self)

    async def newest(self) -> dict[str, Any]:
        """The token as a message; an empty one when there is none."""
        return asdict(self._token) if self._token else {}

    def take(self, token: NumberedToken) -> None:
        """Bring this one to all workers."""
        self._token = token
        for worker in self._scheduler.workers:
            self._begin(worker)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Called by Dask: its nanny may have asked before there was a token."""
        self._begin(worker)

    async def close(self) -> None:
        """Called by Dask."""
        for task in self._telling.values():
            task.cancel()

    def _begin(self, worker: str) -> None:
        if self._token and worker not in self._telling:
            self._telling[worker] = asyncio.create_task(self._tell(worker))

    async def _tell(self, worker: str) -> None:
        """Until it has the newest token, or is gone."""
        told = failures = 0
        try:
            while self._token and told < self._token.number and worker in self._scheduler.workers:
                number, nanny = self._token.number, self._scheduler.workers[worker].nanny
                if nanny is None:
                    return
                try:
                    async with self._at_once, asyncio.timeout(TELL_SECONDS):
                        told = (await self._scheduler.rpc(nanny).af_token_news())["number"]
                    failures = 0
                except Exception as error:  # the other end raises what it likes
                    failures += 1
                    log.warning("token %d did not get to %s (%s)", number, worker, type(error).__name__)
                    await self._sleep(backoff(failures, least=1, most=LONGEST_PAUSE))
        finally:
            del self._telling[worker]


class Holder:
    """A worker's part: has the token that it fetched last in a file."""

    def __init__(self, file: TokenFile, scheduler: Any) -> None:
        self._file = file
        self._scheduler = scheduler
        self._number = 0

    async def hear(self) -> dict[str, int]:
        """Called by the scheduler when there is a newer token: fetch it; says which is here."""
        found = await self._scheduler.af_token()
        if found and found["number"] >= self._number:
            token = NumberedToken(**found)
            self._file.replace(AccessToken(token.value, time.time(), token.expires_at))
            self._number = token.number
        return {"number": self._number}


class TokenNanny(Nanny):
    """A nanny that has the token ready before its worker begins."""

    def __init__(self, token_file: TokenFile, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tokens = Holder(token_file, self.scheduler)
        self.handlers[NEWS] = self._tokens.hear

    async def instantiate(self) -> Status:
        """Called by Nanny when the worker's process shall begin, also anew."""
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                await self._tokens.hear()
        except Exception as error:  # the other end raises what it likes
            log.warning("no token yet (%s)", type(error).__name__)
        return await super().instantiate()
