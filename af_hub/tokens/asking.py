"""How the keeper asks the IAMs: at most so many requests at one IAM at a time, none of what failed a short while ago, and nobody waits for long.

What was begun goes on when whoever asked has gone, since a refresh whose answer nobody hears may be a lost login.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from af_hub.errors import IAMAway, LoginRequired, Unavailable
from af_hub.iam.endpoint import IAMClient
from af_hub.tokens import metrics
from af_hub.tokens.health import Health

T = TypeVar("T")

log = logging.getLogger(__name__)

SLOW_SECONDS = 6.0
"""After so many without an answer an IAM has failed, and nobody waits for it; an answer that comes later is taken all the same."""


class Asking:
    """Requests to the IAMs, and how each of these does.

    Parameters
    ----------
    parallel
        Requests to one IAM, at one time.
    came_back
        Is told when an IAM that was down answers again.
    """

    def __init__(self, clock: Callable[[], float], parallel: int, came_back: Callable[[], None]) -> None:
        self._clock, self._came_back = clock, came_back
        self._health: defaultdict[tuple[str, str], Health] = defaultdict(Health)
        self._calls: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(parallel))
        self._under_way: set[asyncio.Task[Any]] = set()
        self._bad_news: dict[Health, asyncio.Future[None]] = {}

    def health(self, issuer: str, what: str) -> Health:
        """How this issuer does when it is asked for this."""
        return self._health[issuer, what]

    def forget(self, issuer: str, username: str) -> None:
        """Whatever failed for this user was another login."""
        for (one, _), health in self._health.items():
            if one == issuer:
                health.forget(username)

    async def ask(self, client: IAMClient, username: str, what: str, call: Callable[[IAMClient], Awaitable[T]]) -> T:
        """One request to an IAM on behalf of somebody.

        Raises
        ------
        Unavailable
            Without asking, when the same failed a short while ago.
        """
        issuer = client.discovery.issuer
        health = self._health[issuer, what]
        async with self._calls[issuer]:
            health.ask(username, self._clock())
            try:
                answer = await self._timed(asyncio.ensure_future(call(client)), health, username, issuer)
            except Unavailable as error:
                self._failed(health, username, issuer, error)
                raise
            except LoginRequired:
                self._served(health, issuer)  # whom is another matter
                raise
        self._served(health, issuer)
        health.forget(username)
        return answer

    async def _timed(self, answer: "asyncio.Future[T]", health: Health, username: str, issuer: str) -> T:
        """The answer; when it takes too long, that is a failure, whatever comes of it."""
        done, _ = await asyncio.wait({answer}, timeout=SLOW_SECONDS)
        if not done:
            late = IAMAway(f"The IAM does not answer within {SLOW_SECONDS:g} seconds.")
            self._failed(health, username, issuer, late)
        return await answer

    def _failed(self, health: Health, username: str, issuer: str, error: Unavailable) -> None:
        if health.failed(username, error, self._clock()):
            log.error("%s counts as down, and is asked by one at a time from now on: %s", issuer, error)
            metrics.IAM_UP.labels(issuer).set(0)
        if (news := self._bad_news.pop(health, None)) and not news.done():
            news.set_result(None)

    def _served(self, health: Health, issuer: str) -> None:
        if health.served(self._clock()):
            log.warning("%s is back", issuer)
            self._came_back()
        metrics.IAM_UP.labels(issuer).set(1)

    async def patiently(
        self, work: Coroutine[Any, Any, T], seconds: float, username: str, watched: Sequence[Health]
    ) -> T:
        """What ``work`` brings, if it does so soon; it goes on in any case, also when whoever asked has gone.

        While many wait, that may take its time; when one of ``watched`` fails ``username``, it does not.
        """
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        before, loop = [health.failures(username) for health in watched], asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline:
            news = [self._bad_news.setdefault(health, loop.create_future()) for health in watched]
            events: set[asyncio.Future[Any]] = {task, *news}
            await asyncio.wait(events, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            for health, failures in zip(watched, before, strict=True):
                if health.failures(username) != failures and (why := health.why(username)):
                    raise IAMAway(why)
        raise IAMAway(f"The IAM takes more than {seconds:g} seconds now.")

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even when whoever asked has gone
