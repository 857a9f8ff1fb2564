"""Fresh tokens for the jobs of Dask clusters: the hop hub → controller → job agent, through the tunnel.

Promises: every job agent that is connected has its owner's newest token for storage soon after it came, after the tunnel was cut, after
this process began, and well ahead of the last one's end; one question at a time is asked for one person, however many clusters they have,
and few at a time for all; trouble with one person or one cluster hinders no other. When there are no more tokens, because the login at the
IAM has ended, whoever owns the cluster reads until when it has one. Tokens are in memory here, and in the body of one request to the agent.
Leaves refreshing to the hub (:mod:`af_hub.tokens.keeper`), and the workers to the agent (:mod:`af_hub.job.dask_tokens`).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from af_hub.backoff import backoff
from af_hub.controller import metrics, why
from af_hub.controller.hub import LOGIN_OVER, Hub, StorageToken
from af_hub.controller.jobagent import JobAgents
from af_hub.controller.store import Store
from af_hub.errors import LoginRequired, Refused, Unavailable
from af_hub.tokens.lifetime import AccessToken, refresh_at

log = logging.getLogger(__name__)

QUESTIONS_AT_ONCE = 8
PUSHES_AT_ONCE = 32
SOONEST = 5.0
"""Seconds between two questions for one person, whatever is left of their token."""

LONGEST_PAUSE = 60.0
ENDED_PAUSE = 120.0
"""Before it is asked whether somebody has logged in again."""

FIRST_SECONDS = 2.0
"""For which a cluster that is just up waits for its first token before its owner is told."""

LOOK_SECONDS = 5.0
REST_SECONDS = 0.2
WORTH_SAYING = 900.0
"""Seconds before the end of a token from which trouble with the next one is told."""


@dataclass
class Purse:
    """What is known of one person."""

    token: StorageToken | None = None
    ask_at: float = 0.0
    failures: int = 0
    trouble: str = ""
    for_good: bool = False
    task: asyncio.Task[None] | None = None


@dataclass
class Held:
    """What one cluster has."""

    token: StorageToken | None = None
    failures: int = 0
    not_before: float = 0.0


@dataclass
class Tokens:
    """Keeps them fresh; forgetting everything does no harm.

    Parameters
    ----------
    clock
        Unix time.
    """

    store: Store
    hub: Hub
    agents: JobAgents
    clock: Callable[[], float] = time.time
    uniform: Callable[[float, float], float] = random.uniform
    _purses: dict[str, Purse] = field(default_factory=dict)
    _held: dict[str, Held] = field(default_factory=dict)
    _living: dict[str, set[str]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _questions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUESTIONS_AT_ONCE))
    _pushes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PUSHES_AT_ONCE))

    async def keep_fresh(self) -> None:
        """Go on for ever."""
        while True:
            self._wake.clear()
            try:
                self.round()
            except Exception:
                log.exception("tokens of clusters: a round failed; the next one comes")
            await asyncio.sleep(REST_SECONDS)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def changed(self, cluster: str) -> None:
        """The cluster is new, or an endpoint of it came or went: whoever is there now may be another than before."""
        self._held.pop(cluster, None)
        self._wake.set()

    def round(self) -> None:
        """Begin what is due for each person with a living cluster."""
        self._living = {}
        for cluster, owner in self.store.living():
            self._living.setdefault(owner, set()).add(cluster)
        there = {cluster for clusters in self._living.values() for cluster in clusters if self.agents.came(cluster)}
        self._held = {cluster: held for cluster, held in self._held.items() if cluster in there}
        self._purses = {owner: purse for owner, purse in self._purses.items() if owner in self._living or purse.task}
        for owner in self._living:
            self._attend(owner)

    async def before_use(self, cluster: str, owner: str) -> None:
        """Wait for the token of a cluster that is just up; what does not come in time comes later."""
        self._living.setdefault(owner, set()).add(cluster)
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                while task := self._attend(owner):
                    await asyncio.shield(task)
        except TimeoutError:
            log.info("cluster %s has to begin without a token", cluster)

    def trouble(self, cluster: str, owner: str) -> str:
        """What a cluster's owner should know; empty while all is well."""
        purse = self._purses.get(owner, Purse())
        token = self._held.get(cluster, Held()).token
        if not purse.trouble or not (purse.for_good or token is None or token.expires_at - self.clock() < WORTH_SAYING):
            return ""
        return why.no_more_tokens(purse.trouble, token.expires_at if token else None)

    def seconds_left(self) -> list[float]:
        """How long the tokens of clusters that are connected are still good."""
        now = self.clock()
        return [max(0.0, held.token.expires_at - now) for held in self._held.values() if held.token]

    async def settle(self) -> None:
        """Wait for what has begun."""
        await asyncio.gather(*(purse.task for purse in self._purses.values() if purse.task))

    async def close(self) -> None:
        """End what has begun."""
        tasks = [purse.task for purse in self._purses.values() if purse.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _attend(self, owner: str) -> asyncio.Task[None] | None:
        """What is done for this person now, begun if need be; None when nothing is due."""
        purse = self._purses.setdefault(owner, Purse())
        if purse.task is None and (self.clock() >= purse.ask_at or self._lacking(owner, purse)):
            purse.task = asyncio.create_task(self._serve(owner, purse))
        return purse.task

    def _lacking(self, owner: str, purse: Purse) -> list[str]:
        """Clusters that are connected and should get the person's token now."""
        now = self.clock()
        if purse.token is None or purse.token.expires_at <= now:
            return []
        held = [(cluster, self._held.get(cluster, Held())) for cluster in self._living.get(owner, ())]
        return [
            cluster
            for cluster, has in held
            if has.token != purse.token and has.not_before <= now and self.agents.came(cluster)
        ]

    async def _serve(self, owner: str, purse: Purse) -> None:
        try:
            if self.clock() >= purse.ask_at:
                async with self._questions:
                    await self._ask(owner, purse)
            if purse.token:
                await asyncio.gather(*(self._push(one, purse.token) for one in self._lacking(owner, purse)))
        except Exception:
            log.exception("tokens of %s: a fault of ours", owner)
            purse.ask_at = self.clock() + LONGEST_PAUSE
        finally:
            purse.task = None

    async def _ask(self, owner: str, purse: Purse) -> None:
        try:
            token = await self.hub.storage_token(owner)
        except (LoginRequired, Refused) as error:
            if isinstance(error, Refused):  # what is out stays good until its end, but no other cluster gets it
                purse.token = None
            self._note_trouble(owner, purse, str(error), for_good=True)
            return
        except Unavailable as error:
            self._note_trouble(owner, purse, str(error), for_good=False)
            return
        metrics.TOKENS_ASKED.labels("ok" if token != purse.token else "same").inc()
        now = self.clock()
        again = refresh_at(AccessToken(token.value, now, token.expires_at), owner) - now
        purse.token, purse.failures, purse.trouble, purse.for_good = token, 0, "", not token.logged_in
        if not token.logged_in:
            purse.trouble, again = LOGIN_OVER.format(owner), min(again, ENDED_PAUSE)
        purse.ask_at = now + max(SOONEST, again * self.uniform(0.9, 1.0))

    def _note_trouble(self, owner: str, purse: Purse, trouble: str, for_good: bool) -> None:
        metrics.TOKENS_ASKED.labels("refused" if for_good else "unavailable").inc()
        if trouble != purse.trouble:
            log.warning("no fresh token for the clusters of %s: %s", owner, trouble)
        purse.failures, purse.trouble, purse.for_good = purse.failures + 1, trouble, for_good
        pause = ENDED_PAUSE if for_good else backoff(purse.failures, least=1, most=LONGEST_PAUSE)
        purse.ask_at = self.clock() + self.uniform(pause / 2, pause)

    async def _push(self, cluster: str, token: StorageToken) -> None:
        held = self._held.setdefault(cluster, Held())
        try:
            async with self._pushes:
                await self.agents.give_token(cluster, token)
        except Unavailable as error:
            metrics.TOKENS_PUSHED.labels("unavailable").inc()
            held.failures += 1
            held.not_before = self.clock() + backoff(held.failures, least=1, most=LONGEST_PAUSE)
            log.warning("cluster %s did not take its token: %s", cluster, error)
        else:
            metrics.TOKENS_PUSHED.labels("ok").inc()
            held.token, held.failures, held.not_before = token, 0, 0.0
