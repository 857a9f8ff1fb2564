"""What is connected to the forwarder at this moment: a table of values, nothing on disk.

Serves the pairing of jobs and sessions. Promises: a Dask cluster has one job connection, the newest; whoever watches is told each
change in order; a dropped Dask cluster stays out as long as the process lives. Leaves closing of connections to the caller.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from af_hub.forwarder.access import Endpoint, Service

Connection = TypeVar("Connection")
Watcher = Callable[[bool, Endpoint], None]
"""Called with True when an endpoint is offered, with False when it is gone."""


@dataclass
class Job(Generic[Connection]):
    """The job connection of one Dask cluster and what it offers."""

    connection: Connection
    services: set[Service] = field(default_factory=set)


class Offers(Generic[Connection]):
    """Job connections by Dask cluster, session connections by Dask cluster, and those who watch."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job[Connection]] = {}
        self._sessions: dict[str, set[Connection]] = defaultdict(set)
        self._dropped: set[str] = set()
        self._watchers: list[Watcher] = []

    def take_over(self, dask_cluster: str, connection: Connection) -> Connection | None:
        """``connection`` is the Dask cluster's job from now on; returns the one it replaces."""
        old = self._jobs.get(dask_cluster)
        if old:
            self.leave(dask_cluster, old.connection)
        self._jobs[dask_cluster] = Job(connection)
        return old.connection if old else None

    def join(self, dask_cluster: str, connection: Connection) -> None:
        """A session of this Dask cluster is connected."""
        self._sessions[dask_cluster].add(connection)

    def sessions(self, dask_cluster: str) -> int:
        """How many sessions of this Dask cluster are connected."""
        return len(self._sessions.get(dask_cluster, ()))

    def leave(self, dask_cluster: str, connection: Connection) -> None:
        """A connection of this Dask cluster, job or session, is gone with all that it offered."""
        sessions = self._sessions.get(dask_cluster, set())
        sessions.discard(connection)
        if not sessions:
            self._sessions.pop(dask_cluster, None)
        job = self._jobs.get(dask_cluster)
        if job and job.connection is connection:
            del self._jobs[dask_cluster]
            for service in sorted(job.services):
                self._tell(False, Endpoint(dask_cluster, service))

    def offer(self, endpoint: Endpoint, connection: Connection) -> bool:
        """The job offers an endpoint; False when it offers it already or is not the Dask cluster's newest job."""
        job = self._jobs.get(endpoint.dask_cluster)
        if job is None or job.connection is not connection or endpoint.service in job.services:
            return False
        job.services.add(endpoint.service)
        self._tell(True, endpoint)
        return True

    def withdraw(self, endpoint: Endpoint, connection: Connection) -> None:
        """The job offers it no longer; nothing happens when it did not."""
        job = self._jobs.get(endpoint.dask_cluster)
        if job and job.connection is connection and endpoint.service in job.services:
            job.services.remove(endpoint.service)
            self._tell(False, endpoint)

    def job_of(self, endpoint: Endpoint) -> Connection | None:
        """The connection behind which the endpoint is, if anybody offers it."""
        job = self._jobs.get(endpoint.dask_cluster)
        return job.connection if job and endpoint.service in job.services else None

    def drop(self, dask_cluster: str) -> list[Connection]:
        """Refuse the Dask cluster from now on; returns the connections that have to be closed."""
        self._dropped.add(dask_cluster)
        job = self._jobs.get(dask_cluster)
        return [*self._sessions.get(dask_cluster, ()), *([job.connection] if job else [])]

    def is_dropped(self, dask_cluster: str) -> bool:
        """Whether it has been dropped; ids are never used again, so this never has to be undone."""
        return dask_cluster in self._dropped

    def watch(self, watcher: Watcher) -> None:
        """Tell ``watcher`` what is offered now, then each change."""
        for dask_cluster, job in self._jobs.items():
            for service in sorted(job.services):
                watcher(True, Endpoint(dask_cluster, service))
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it no longer."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def _tell(self, offered: bool, endpoint: Endpoint) -> None:
        for watcher in list(self._watchers):
            watcher(offered, endpoint)
