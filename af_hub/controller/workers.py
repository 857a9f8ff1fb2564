"""What to do about the workers of a Dask cluster whose scheduler serves; the part of :mod:`af_hub.controller.plan` for that.

Worker 0 runs beside the scheduler; each other worker is a job of its own, with a name that is given once.
"""

from af_hub.condor.jobstatus import JobState
from af_hub.controller import why
from af_hub.controller.states import Role
from af_hub.controller.steps import (
    Action,
    Circumstances,
    Job,
    LoseWorkers,
    RemoveJobs,
    Report,
    RetireWorkers,
    SubmitWorkers,
    Tracked,
    WantFirstWorker,
    Wish,
)
from af_hub.job.kit import worker_job_memory, worker_name

RETIRE_PATIENCE = 300
"""Seconds after which a worker that will not retire is removed all the same."""

WORKERS_LOST_AT_MOST = 10
"""Worker jobs that may end by themselves before they are not replaced any more."""

WAITING_SECONDS = 10
"""After which a worker job that waits is worth a sentence."""


def match_workers(
    wish: Wish, jobs: tuple[Job, ...], report: Report, around: Circumstances, now: float
) -> tuple[tuple[Action, ...], str]:
    """What makes first worker and worker jobs as wanted, and a sentence about what is in the way."""
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
        actions += remove(tuple(queue[name] for name in ended if name in queue))
    actions += _retire(tuple(leaving) + surplus, tracked, living, report, now)
    gave_up = wish.workers_lost + len(lost) >= WORKERS_LOST_AT_MOST
    missing = wanted - len(staying)
    if missing > 0 and not gave_up:
        unheard = tuple(name for name, one in tracked.items() if name not in queue and not one.job)[:missing]
        fresh = tuple(worker_name(wish.id, wish.next_worker + step) for step in range(missing - len(unheard)))
        actions.append(SubmitWorkers(unheard + fresh, report.scheduler))
    return tuple(actions), _trouble(wish, staying, gave_up and missing > 0, around, now)


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
    return remove(tuple(living[name] for name in rest)) + actions


def _trouble(wish: Wish, staying: dict[str, Job], gave_up: bool, around: Circumstances, now: float) -> str:
    if gave_up:
        return (
            f"{WORKERS_LOST_AT_MOST} worker jobs have ended by themselves, so no new ones are started; look at the logs, then scale "
            "anew"
        )
    held = [job for job in staying.values() if job.state is JobState.HELD]
    if held:
        return f"HTCondor holds {_counted(held)}: {held[0].reason or 'no reason given'}"
    idle = [job for job in staying.values() if job.state is JobState.IDLE and now - job.since >= WAITING_SECONDS]
    if idle:
        return f"{_counted(idle)}: {why.waiting(wish, idle[0], worker_job_memory(wish.memory), around.slots, now)}"
    return ""


def _counted(jobs: list[Job]) -> str:
    return f"{len(jobs)} worker job{'s' if len(jobs) > 1 else ''}"


def remove(jobs: tuple[Job, ...]) -> tuple[Action, ...]:
    """Take jobs out of the queue, if there are any."""
    return (RemoveJobs(tuple(job.id for job in jobs)),) if jobs else ()
