"""What is seen of the batch systems: the jobs of each, why one cannot be looked at and since when, and what its sites have.

Serves the loop (:mod:`af_hub.controller.reconcile`). Promises: a pool that does not answer hides and delays no other; a job of another account is
nobody's, whatever stands in its ad; nobody waits for the slots, which only make a sentence better.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from af_hub.condor.ads import SiteSlots
from af_hub.controller.model import Cluster
from af_hub.controller.pool import JobPool
from af_hub.controller.steps import Job
from af_hub.errors import AFError, Refused

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""For which everybody waits for a pool that has answered so far."""

GLANCE_SECONDS = 0.1
"""... and for one that has not."""

SLOTS_SECONDS = 5.0
"""Between two questions about slots."""

SLOTS_FORGOTTEN_SECONDS = 60.0


@dataclass(frozen=True)
class Look:
    """One look at a pool, begun at ``at``: its jobs by cluster, or why there are none and how long that has been so (seconds)."""

    at: float
    jobs: Mapping[str, Sequence[Job]] | None
    trouble: str = ""
    silent_for: float = 0.0


@dataclass
class Sight:
    """All looks.

    Parameters
    ----------
    clock
        Unix time.
    changed
        Called when a look has ended for which nobody waited.
    """

    pool: JobPool
    clock: Callable[[], float] = time.time
    changed: Callable[[], None] = lambda: None
    _silent_since: dict[str, float] = field(default_factory=dict)
    _foreign: set[tuple[str, str]] = field(default_factory=set)
    _slots: dict[str, tuple[float, Mapping[str, SiteSlots]]] = field(default_factory=dict)
    _looking: dict[str, asyncio.Task[Look]] = field(default_factory=dict)
    _asked_at: dict[str, float] = field(default_factory=dict)
    _asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def look(self, pools: Sequence[str]) -> dict[str, Look]:
        """Look at these pools, all at once; without one that takes its time, whose look is given by a later call."""
        fresh = [pool for pool in pools if pool not in self._looking]
        self._looking |= {pool: asyncio.create_task(self._look(pool)) for pool in fresh}
        trusted = [self._looking[pool] for pool in fresh if pool not in self._silent_since]
        if trusted:
            await asyncio.wait(trusted, timeout=LOOK_SECONDS)
        if fresh:
            await asyncio.wait([self._looking[pool] for pool in fresh], timeout=GLANCE_SECONDS)
        for pool in fresh:
            if not self._looking[pool].done():
                self._looking[pool].add_done_callback(lambda _: self.changed())
        done = [pool for pool, task in self._looking.items() if task.done()]
        return {pool: self._looking.pop(pool).result() for pool in done}

    async def _look(self, pool: str) -> Look:
        began = self.clock()
        try:
            found = await self.pool.jobs(pool)
        except AFError as error:
            trouble = f"the batch system's queue cannot be read: {error}" if isinstance(error, Refused) else str(error)
            if pool not in self._silent_since:
                log.warning("pool %s cannot be looked at: %s", pool, error)
            since = self._silent_since.setdefault(pool, began)
            return Look(began, None, trouble, self.clock() - since)
        if self._silent_since.pop(pool, None):
            log.info("pool %s answers again", pool)
        there = {job.id for jobs in found.values() for job in jobs}
        self._foreign = {(where, job) for where, job in self._foreign if where != pool or job in there}
        return Look(began, found)

    def owned(self, cluster: Cluster, jobs: Sequence[Job]) -> tuple[Job, ...]:
        """The cluster's own jobs: those of its account, and those whose numbers we got when we submitted them.

        Anybody can read the id in the queue and submit a job that carries it.
        """
        submitted = {one.job for one in cluster.jobs if one.job}
        ours = tuple(job for job in jobs if job.account == cluster.account or job.id in submitted)
        for job in jobs:
            if job not in ours and (cluster.pool, job.id) not in self._foreign:
                log.warning("job %s of %s claims to be of cluster %s; ignored", job.id, job.account, cluster.id)
                self._foreign.add((cluster.pool, job.id))
        return ours

    def slots(self, pool: str, site: str) -> SiteSlots | None:
        """What the site had when it was asked for last; None when nobody knows. Asks again, behind the back of whoever calls."""
        now = self.clock()
        if now - self._asked_at.get(pool, 0.0) >= SLOTS_SECONDS and pool not in self._asking:
            self._asked_at[pool] = now
            self._asking[pool] = asyncio.create_task(self._ask_slots(pool))
        answered_at, known = self._slots.get(pool, (0.0, {}))
        return known.get(site, SiteSlots()) if now - answered_at < SLOTS_FORGOTTEN_SECONDS else None

    async def _ask_slots(self, pool: str) -> None:
        try:
            self._slots[pool] = (self.clock(), await self.pool.slots(pool))
        except AFError as error:
            log.warning("slots of pool %s: %s", pool, error)
        finally:
            del self._asking[pool]

    async def settle(self) -> None:
        """Wait for the questions about slots that are on their way."""
        await asyncio.gather(*self._asking.values())

    async def close(self) -> None:
        """Ask no more."""
        tasks = [*self._asking.values(), *self._looking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
