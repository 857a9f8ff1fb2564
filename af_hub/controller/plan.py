"""What to do next for one Dask cluster: the decision, and nothing that acts.

:func:`plan` compares what the owner wants (the row), what the pool has (the jobs) and what runs (the job agent's report). It is
asked again after each look at the pool, so an action that was lost is simply planned again; nothing here counts on having been
asked before, except for what stands in the row.
"""

from dataclasses import dataclass

from af_hub.condor.jobstatus import JobState
from af_hub.controller.states import Role, State
from af_hub.job.kit import worker_name

SPOOLING_PATIENCE = 120
"""Seconds that a job may wait for its input files before it counts as half submitted."""

RETIRE_PATIENCE = 300
"""Seconds after which a worker that will not retire is removed all the same."""

WORKERS_LOST_AT_MOST = 10
"""Worker jobs that may end by themselves before they are not replaced any more."""


@dataclass(frozen=True)
class Job:
    """One job in the pool's queue that carries our cluster's id; ``account`` is whose it is in the pool."""

    id: str
    role: Role
    state: JobState
    worker: str = ""
    reason: str = ""
    since: float = 0.0
    account: str = ""


@dataclass(frozen=True)
class Tracked:
    """One job that we submitted, as the row remembers it; ``job`` is empty when the answer to the submit got lost."""

    role: Role
    worker: str = ""
    job: str = ""
    retiring_since: float | None = None


@dataclass(frozen=True)
class Wish:
    """One cluster as its row says."""

    id: str
    state: State
    site: str
    workers: int
    expires_at: float
    reason: str = ""
    tracked: tuple[Tracked, ...] = ()
    next_worker: int = 1
    workers_lost: int = 0
    has_run: bool = False
    forgotten: bool = False

    @property
    def scheduler(self) -> Tracked | None:
        """The scheduler job, once it was submitted."""
        return next((one for one in self.tracked if one.role is Role.SCHEDULER), None)

    @property
    def first_worker(self) -> str:
        """The name of the worker that runs beside the scheduler."""
        return worker_name(self.id, 0)


@dataclass(frozen=True)
class Report:
    """What the job agent answered: the scheduler's address for workers (empty until it serves), and the workers' names."""

    scheduler: str = ""
    workers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SubmitScheduler:
    """Submit the scheduler job."""


@dataclass(frozen=True)
class SubmitWorkers:
    """Submit one worker job for each name."""

    names: tuple[str, ...]
    scheduler: str


@dataclass(frozen=True)
class WantFirstWorker:
    """Tell the agent whether the worker beside the scheduler should run."""

    wanted: bool


@dataclass(frozen=True)
class RetireWorkers:
    """Let these workers hand over what they hold, then remove their jobs."""

    names: tuple[str, ...]
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class RemoveJobs:
    """Take these jobs out of the queue."""

    jobs: tuple[str, ...]


@dataclass(frozen=True)
class AskToClose:
    """Tell the agent that the cluster ends."""


@dataclass(frozen=True)
class Become:
    """Write state and reason into the row."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Track:
    """Write jobs into the row that the pool has and the row has not: their submit's answer got lost."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class LoseWorkers:
    """Strike worker jobs from the row that ended by themselves, and count them."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Forget:
    """Remove the cluster's keys and whatever the forwarder still holds of it."""


Action = (
    SubmitScheduler
    | SubmitWorkers
    | WantFirstWorker
    | RetireWorkers
    | RemoveJobs
    | AskToClose
    | Become
    | Track
    | LoseWorkers
    | Forget
)


def plan(wish: Wish, jobs: tuple[Job, ...], report: Report | None, now: float) -> tuple[Action, ...]:
    """What to do for ``wish``, in this order.

    Parameters
    ----------
    wish
        The row.
    jobs
        All jobs of this cluster in the queue, looked up after the last action for it ended.
    report
        The agent's answer; None when it could not be asked.
    now
        Unix time, seconds.
    """
    if wish.state.over:
        return _remove(jobs) or (() if wish.forgotten else (Forget(),))
    if wish.state is State.CLOSING:
        return _close(jobs, report)
    if now >= wish.expires_at:
        return (Become(State.CLOSING, "its greatest lifetime is over"),)
    adopted = _adopt(wish, jobs)
    if adopted:
        return (Track(adopted),)
    ours = {one.job for one in wish.tracked}
    doubles = _remove(tuple(job for job in jobs if job.id not in ours))
    known = tuple(job for job in jobs if job.id in ours)
    if wish.scheduler is None or not wish.scheduler.job:
        return (*doubles, SubmitScheduler())
    scheduler = next((job for job in known if job.role is Role.SCHEDULER), None)
    if scheduler is None:
        return _gone(wish, jobs)
    return doubles + _with_scheduler(wish, known, scheduler, report, now)


def _with_scheduler(
    wish: Wish, jobs: tuple[Job, ...], scheduler: Job, report: Report | None, now: float
) -> tuple[Action, ...]:
    if scheduler.state is JobState.SPOOLING and now - scheduler.since > SPOOLING_PATIENCE:
        return _fail("the access point never got the input files of the scheduler job", jobs)
    if scheduler.state in (JobState.SPOOLING, JobState.IDLE):
        if wish.has_run:
            return _lose("the scheduler's node gave the job back to the queue, so all results are gone", jobs)
        return _become(wish, State.QUEUED, f"waiting for a free slot at {wish.site}")
    if scheduler.state is JobState.HELD:
        return _fail(f"HTCondor holds the scheduler job: {scheduler.reason or 'no reason given'}", jobs)
    if scheduler.state is JobState.ENDED:
        return _gone(wish, jobs)
    if report is None and wish.has_run:
        return _become(wish, State.RUNNING, "the cluster does not answer through the forwarder at the moment")
    if report is None or not report.scheduler:
        return _become(wish, State.STARTING, f"the job runs at {wish.site}; its scheduler starts")
    return _run(wish, jobs, report, now)


def _run(wish: Wish, jobs: tuple[Job, ...], report: Report, now: float) -> tuple[Action, ...]:
    """The scheduler serves: make first worker and worker jobs as wanted."""
    queue = {job.worker: job for job in jobs if job.role is Role.WORKER}
    tracked = {one.worker: one for one in wish.tracked if one.role is Role.WORKER}
    ended = tuple(
        name
        for name, one in tracked.items()
        if (name in queue and queue[name].state is JobState.ENDED) or (name not in queue and one.job)
    )
    lost = tuple(name for name in ended if tracked[name].retiring_since is None)
    living = {name: queue[name] for name in tracked if name in queue and name not in ended}
    leaving = tuple(name for name in living if tracked[name].retiring_since is not None)
    staying = {name: job for name, job in living.items() if name not in leaving}
    wanted = max(0, wish.workers - 1)
    surplus = _surplus(staying, report, len(staying) - wanted)
    actions: list[Action] = [*_first_worker(wish, report)]
    if ended:
        actions.append(LoseWorkers(ended))
        actions += _remove(tuple(queue[name] for name in ended if name in queue))
    actions += _retire(tuple(leaving) + surplus, tracked, living, report, now)
    gave_up = wish.workers_lost + len(lost) >= WORKERS_LOST_AT_MOST
    missing = wanted - len(staying)
    if missing > 0 and not gave_up:
        unheard = tuple(name for name, one in tracked.items() if name not in queue and not one.job)[:missing]
        fresh = tuple(worker_name(wish.id, wish.next_worker + step) for step in range(missing - len(unheard)))
        actions.append(SubmitWorkers(unheard + fresh, report.scheduler))
    return (*actions, *_become(wish, State.RUNNING, _worker_trouble(staying, gave_up and missing > 0)))


def _first_worker(wish: Wish, report: Report) -> tuple[Action, ...]:
    wanted = wish.workers > 0
    return () if wanted == (wish.first_worker in report.workers) else (WantFirstWorker(wanted),)


def _surplus(staying: dict[str, Job], report: Report, count: int) -> tuple[str, ...]:
    """Whom to let go: first those that do no work yet, then the youngest."""

    def worth(name: str) -> tuple[bool, bool, int]:
        job = staying[name]
        return (name in report.workers, job.state is JobState.RUNNING, -int(name.rpartition("-")[2]))

    return tuple(sorted(staying, key=worth)[: max(0, count)])


def _retire(
    names: tuple[str, ...], tracked: dict[str, Tracked], living: dict[str, Job], report: Report, now: float
) -> tuple[Action, ...]:
    def patient(name: str) -> bool:
        since = tracked[name].retiring_since
        return name in report.workers and (since is None or now - since <= RETIRE_PATIENCE)

    asked = tuple(name for name in names if patient(name))
    rest = tuple(name for name in names if name not in asked)
    actions: tuple[Action, ...] = (RetireWorkers(asked, tuple(living[name].id for name in asked)),) if asked else ()
    return _remove(tuple(living[name] for name in rest)) + actions


def _worker_trouble(staying: dict[str, Job], gave_up: bool) -> str:
    if gave_up:
        return (
            f"{WORKERS_LOST_AT_MOST} worker jobs have ended by themselves, so no new ones are started; look at the logs"
        )
    held = [job for job in staying.values() if job.state is JobState.HELD]
    if held:
        return f"HTCondor holds {len(held)} worker job{'s' if len(held) > 1 else ''}: {held[0].reason or 'no reason given'}"
    return ""


def _adopt(wish: Wish, jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Jobs that we submitted without hearing the answer, or before a crash.

    A second job of one name is none of these, nor is one with a name that we do not give.
    """
    numbered = {(one.role, one.worker) for one in wish.tracked if one.job}
    found: dict[tuple[Role, str], Job] = {}
    for job in jobs:
        over = job.state is JobState.ENDED and job.role is Role.WORKER
        if (job.role, job.worker) not in numbered and not over and _is_name(wish.id, job):
            found.setdefault((job.role, job.worker), job)
    return tuple(found.values())


def _is_name(cluster: str, job: Job) -> bool:
    """Whether the job is called as we call jobs of that role."""
    if job.role is Role.SCHEDULER:
        return job.worker == ""
    number = job.worker.removeprefix(f"{cluster[:8]}-")
    return number.isascii() and number.isdecimal() and worker_name(cluster, int(number[:9])) == job.worker


def _gone(wish: Wish, jobs: tuple[Job, ...]) -> tuple[Action, ...]:
    if wish.has_run:
        return _lose("the scheduler job ended or was removed from the pool", jobs)
    return _fail("the scheduler job ended, or was removed, before the cluster was up; look at the logs", jobs)


def _close(jobs: tuple[Job, ...], report: Report | None) -> tuple[Action, ...]:
    if not jobs:
        return (Become(State.CLOSED), Forget())
    return ((AskToClose(),) if report is not None else ()) + _remove(jobs)


def _fail(reason: str, jobs: tuple[Job, ...]) -> tuple[Action, ...]:
    return (Become(State.FAILED, reason), *_remove(jobs))


def _lose(reason: str, jobs: tuple[Job, ...]) -> tuple[Action, ...]:
    return (Become(State.LOST, reason), *_remove(jobs))


def _remove(jobs: tuple[Job, ...]) -> tuple[Action, ...]:
    return (RemoveJobs(tuple(job.id for job in jobs)),) if jobs else ()


def _become(wish: Wish, state: State, reason: str) -> tuple[Action, ...]:
    return () if (wish.state, wish.reason) == (state, reason) else (Become(state, reason),)
