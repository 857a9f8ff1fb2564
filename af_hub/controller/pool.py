"""What the controller needs of a batch system, in its own words.

:class:`~af_hub.controller.condor.CondorPools` is the real one. Promises that every implementation keeps: each call has a time limit;
:class:`~af_hub.errors.PoolAway` means that it may be tried again, :class:`~af_hub.errors.Refused` that it need not; a job
that was accepted although the answer got lost is found by :meth:`JobPool.jobs`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from af_hub.condor.ads import SiteSlots
from af_hub.condor.why import Ending
from af_hub.controller.states import Role
from af_hub.controller.steps import Job


@dataclass(frozen=True)
class Order:
    """The scheduler job of a Dask cluster, or several of its worker jobs, submitted at once.

    Parameters
    ----------
    python
        The image's Python.
    arguments
        What it is called with.
    files
        What every job gets, by name; some hold keys.
    memory
        Bytes, with the room that the processes beside the Dask worker need.
    lifetime
        Seconds after which the jobs have no purpose any more.
    workers
        Files that each worker job has of its own, by the worker's name; empty for a scheduler.
    """

    cluster: str
    role: Role
    site: str
    python: Path
    arguments: tuple[str, ...]
    files: Mapping[str, bytes] = field(repr=False)
    cores: int
    memory: int
    lifetime: int
    workers: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Credential:
    """A person's token for the batch system."""

    owner: str
    token: str = field(repr=False)


class JobPool(Protocol):
    """The batch systems of the facility, by the names that ``facility.yaml`` gives them."""

    async def jobs(self, pool: str) -> Mapping[str, Sequence[Job]]:
        """All jobs of Dask clusters in the queue, by cluster."""
        ...

    async def submit(self, pool: str, order: Order, credential: Credential) -> Sequence[Job]:
        """Submit; the scheduler job, or the worker jobs in the order of their names in ``order``."""
        ...

    async def remove(self, pool: str, jobs: Sequence[str], credential: Credential) -> None:
        """Remove jobs; those that are gone already do not matter, those of another account are refused."""
        ...

    async def ending(self, pool: str, job: str) -> Ending | None:
        """How a job ended that is gone from the queue; None when that is not known."""
        ...

    async def slots(self, pool: str) -> Mapping[str, SiteSlots]:
        """What each site has, by ``SiteName``."""
        ...
