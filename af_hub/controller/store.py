"""Reading and writing rows, each call one short transaction.

Promises that a change which was planned from an old look at a row never undoes a newer one: whoever closes a cluster wins.
Answers are detached rows: values, to be read only. Calls take well under a millisecond on SQLite and are made on the event loop.
"""

from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path

import alembic.command
import alembic.config
from sqlalchemy import Engine, create_engine, event, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from af_hub.controller.model import Cluster, ClusterJob, Event
from af_hub.controller.news import News
from af_hub.controller.states import Role, State
from af_hub.controller.steps import Job
from af_hub.database import tell_disk_trouble

EVENTS_KEPT = 200
"""Events of one cluster; more come only from something that goes to and fro, and the oldest of those tell nothing."""

IDS_AT_ONCE = 500
"""In one question; a database takes a limited number of values, and everybody can put ids into the queue."""

OVER = [state for state in State if state.over]


def open_store(url: str) -> "Store":
    """Open the database at ``url`` (as SQLAlchemy writes it), with its tables brought up to date."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).touch(mode=0o600)
    engine = create_engine(parsed, hide_parameters=True)
    tell_disk_trouble(engine, "The controller")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_manners)
    migrate(engine)
    return Store(engine)


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest revision."""
    config = alembic.config.Config()
    config.set_main_option("script_location", "af_hub.controller:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def _sqlite_manners(connection: object, _: object) -> None:
    """Foreign keys are off in SQLite unless asked for; WAL lets an administrator read while we write."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("foreign_keys=ON", "journal_mode=WAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Store:
    """All rows.

    Attributes
    ----------
    news
        Told of each event; whoever waits goes on when the call that wrote it is through.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.news = News()

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def add(self, cluster: Cluster) -> None:
        """Write a new cluster, with its first event."""
        cluster.state = State.REQUESTED
        cluster.events = [_event(cluster.created_at, State.REQUESTED, "asked for")]
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.add(cluster)

    def get(self, cluster_id: str, owner: str | None = None) -> Cluster | None:
        """The cluster, if there is one; with ``owner`` only if it is theirs."""
        with Session(self.engine) as session:
            found = session.get(Cluster, cluster_id)
            return found if found and owner in (None, found.owner) else None

    def living(self) -> list[tuple[str, str]]:
        """Id and owner of each cluster that is up, or shall come up."""
        asked = select(Cluster.id, Cluster.owner).where(Cluster.state.not_in([*OVER, State.CLOSING]))
        with Session(self.engine) as session:
            return [(cluster, owner) for cluster, owner in session.execute(asked)]

    def is_over(self, cluster_id: str) -> bool:
        """Whether nothing of it should be left any more; so, too, of one that we do not know."""
        found = self.get(cluster_id)
        return found is None or found.forgotten

    def of_owner(self, owner: str) -> list[Cluster]:
        """All clusters of one person, the newest first."""
        asked = select(Cluster).where(Cluster.owner == owner).order_by(Cluster.created_at.desc(), Cluster.id)
        with Session(self.engine) as session:
            return list(session.scalars(asked))

    def unfinished(self, also: Iterable[str] = ()) -> list[Cluster]:
        """Clusters that need a plan: those not over, those not forgotten, and those in ``also``."""
        living = Cluster.state.not_in(OVER) | Cluster.forgotten.is_(False)
        with Session(self.engine) as session:
            found = set(session.scalars(select(Cluster).where(living)))
            ids = list(also)
            for first in range(0, len(ids), IDS_AT_ONCE):
                some = ids[first : first + IDS_AT_ONCE]
                found.update(session.scalars(select(Cluster).where(Cluster.id.in_(some))))
            return sorted(found, key=attrgetter("created_at"))

    def scale(self, cluster_id: str, workers: int, now: float) -> None:
        """Want that many workers; a wish anew also forgives workers lost before."""
        with Session(self.engine) as session, session.begin():
            cluster = session.get_one(Cluster, cluster_id)
            if cluster.workers_wanted != workers:
                cluster.workers_wanted = workers
                cluster.workers_lost = 0
                _tell(cluster, now, f"{workers} worker{'s' if workers != 1 else ''} wanted")
                self.news.tell(cluster_id)

    def ask_to_close(self, cluster_id: str, now: float, reason: str) -> None:
        """Close it, unless it is over already; may be repeated."""
        with Session(self.engine) as session, session.begin():
            cluster = session.get_one(Cluster, cluster_id)
            if not State(cluster.state).over and cluster.state != State.CLOSING:
                _change(cluster, State.CLOSING, reason, now)
                self.news.tell(cluster_id)

    def become(self, cluster_id: str, planned_from: State, state: State, reason: str, now: float) -> bool:
        """Write state and reason, if the state is still the one that this was planned from; says whether it was."""
        with Session(self.engine) as session, session.begin():
            cluster = session.get_one(Cluster, cluster_id)
            if cluster.state != planned_from:
                return False
            if (cluster.state, cluster.reason) != (state, reason):
                _change(cluster, state, reason, now)
                self.news.tell(cluster_id)
            return True

    def intend(self, cluster_id: str, role: Role, workers: Iterable[str] = ("",)) -> None:
        """Write jobs down before they are submitted; those written down already stay as they are."""
        with Session(self.engine) as session, session.begin():
            cluster = session.get_one(Cluster, cluster_id)
            known = {(one.role, one.worker) for one in cluster.jobs}
            for worker in workers:
                if (role, worker) not in known:
                    cluster.jobs.append(ClusterJob(role=role, worker=worker))
                if role is Role.WORKER:
                    cluster.next_worker = max(cluster.next_worker, int(worker.rpartition("-")[2]) + 1)

    def track(self, cluster_id: str, jobs: Iterable[Job]) -> None:
        """Write the number of each job at the access point."""
        jobs = tuple(jobs)
        self._intend_all(cluster_id, jobs)
        with Session(self.engine) as session, session.begin():
            for job in jobs:
                session.execute(
                    update(ClusterJob)
                    .where(ClusterJob.cluster_id == cluster_id)
                    .where(ClusterJob.role == job.role, ClusterJob.worker == job.worker)
                    .values(job=job.id)
                )

    def _intend_all(self, cluster_id: str, jobs: tuple[Job, ...]) -> None:
        for role in Role:
            self.intend(cluster_id, role, [job.worker for job in jobs if job.role is role])

    def retire(self, cluster_id: str, jobs: Iterable[str], now: float) -> None:
        """Write down that these worker jobs are on their way out; the first time counts."""
        with Session(self.engine) as session, session.begin():
            session.execute(
                update(ClusterJob)
                .where(ClusterJob.cluster_id == cluster_id, ClusterJob.role == Role.WORKER)
                .where(ClusterJob.job.in_(list(jobs)), ClusterJob.retiring_since.is_(None))
                .values(retiring_since=now)
            )

    def lose(self, cluster_id: str, workers: Iterable[str]) -> None:
        """Strike worker jobs that are gone, and count those that nobody had sent away."""
        names = set(workers)
        with Session(self.engine) as session, session.begin():
            cluster = session.get_one(Cluster, cluster_id)
            gone = [one for one in cluster.jobs if one.role == Role.WORKER and one.worker in names]
            cluster.workers_lost += sum(one.retiring_since is None for one in gone)
            cluster.jobs = [one for one in cluster.jobs if one not in gone]

    def report(self, cluster_id: str, workers_running: int) -> None:
        """Write how many workers the scheduler has."""
        self._set(cluster_id, workers_running=workers_running)

    def forget(self, cluster_id: str) -> None:
        """Write down that nothing of it is left."""
        self._set(cluster_id, forgotten=True, workers_running=0)

    def _set(self, cluster_id: str, **values: object) -> None:
        with Session(self.engine) as session, session.begin():
            session.execute(update(Cluster).where(Cluster.id == cluster_id).values(**values))


def _change(cluster: Cluster, state: State, reason: str, now: float) -> None:
    cluster.state = state
    cluster.reason = reason
    cluster.has_run = cluster.has_run or state is State.RUNNING
    if state.over:
        cluster.workers_running = 0
    _tell(cluster, now, reason)


def _tell(cluster: Cluster, now: float, sentence: str) -> None:
    cluster.events.append(_event(now, State(cluster.state), sentence))
    del cluster.events[:-EVENTS_KEPT]


def _event(now: float, state: State, sentence: str) -> Event:
    return Event(at=now, state=state, sentence=sentence)
