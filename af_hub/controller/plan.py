"""What to do next for one Dask cluster: the decision, and nothing that acts.

:func:`plan` compares what the owner wants (the row), what the pool has (the jobs) and what runs (the job agent's report). It is
asked again after each look at the pool, so an action that was lost is simply planned again; nothing here counts on having been
asked before, except for what stands in the row. Workers are :mod:`af_hub.controller.workers`', sentences :mod:`af_hub.controller.why`'s.
"""

from af_hub.condor.jobstatus import JobState
from af_hub.condor.why import Ending
from af_hub.controller import why
from af_hub.controller.states import Role, State
from af_hub.controller.steps import (
    Action,
    AskToClose,
    Become,
    Circumstances,
    Forget,
    Job,
    Report,
    SubmitScheduler,
    Track,
    Wish,
)
from af_hub.controller.workers import match_workers, remove
from af_hub.job.kit import scheduler_memory, worker_name

POOL_PATIENCE = 8
"""Seconds for which a batch system may be away before a cluster that it has never seen is given up."""

SPOOLING_PATIENCE = 30
"""Seconds that a job may wait for its input files before it counts as half submitted."""

START_PATIENCE = 300
"""Seconds that a scheduler job may run before its scheduler serves."""

UNKNOWN = Circumstances()


def plan(
    wish: Wish, jobs: tuple[Job, ...], report: Report | None, now: float, around: Circumstances = UNKNOWN
) -> tuple[Action, ...]:
    """What to do for ``wish``, in this order.

    Parameters
    ----------
    wish
        The row.
    jobs
        All jobs of this cluster in the queue, looked up after the last action for it ended.
    report
        The agent's answer; None when it is not connected to the forwarder.
    now
        Unix time, seconds.
    around
        What else is known.
    """
    if wish.state.over:
        return remove(jobs) or (() if wish.forgotten else (Forget(),))
    if wish.state is State.CLOSING:
        return _close(jobs, report)
    if now >= wish.expires_at:
        return (Become(State.CLOSING, "its greatest lifetime is over"),)
    adopted = _adopt(wish, jobs)
    if adopted:
        return (Track(adopted),)
    ours = {one.job for one in wish.tracked}
    doubles = remove(tuple(job for job in jobs if job.id not in ours))
    known = tuple(job for job in jobs if job.id in ours)
    if wish.scheduler is None or not wish.scheduler.job:
        return (*doubles, SubmitScheduler())
    scheduler = next((job for job in known if job.role is Role.SCHEDULER), None)
    if scheduler is None or scheduler.state is JobState.ENDED:
        return _gone(wish, jobs, scheduler.ending if scheduler else around.ending)
    if wish.account and scheduler.account and scheduler.account != wish.account:
        return _over(wish, why.other_account(wish, scheduler.account), jobs)
    return doubles + _with_scheduler(wish, known, scheduler, report, around, now)


def without_pool(wish: Wish, trouble: str, silent_for: float) -> tuple[Become, ...]:
    """What to do for ``wish`` while the batch system cannot be looked at: say so, and give up what it has never seen."""
    if wish.state.over:
        return ()
    if wish.state is State.REQUESTED and silent_for >= POOL_PATIENCE:
        return (Become(State.FAILED, f"{trouble}, so nothing was started; try again later"),)
    return _become(wish, wish.state, f"{trouble}; trying again")


def known_unseen(wish: Wish, came: bool, now: float) -> tuple[Job, ...] | None:
    """The jobs of a cluster for which nobody need look at the pool, so that nobody who waits for it waits for a look; None for others.

    One that was asked for just now has none. One whose job agent ``came`` to the forwarder for the first time has a scheduler job, which
    runs, whatever the queue said last.
    """
    if wish.state is State.REQUESTED and not wish.tracked:
        return ()
    scheduler = wish.scheduler
    on_its_way = wish.state in (State.REQUESTED, State.QUEUED, State.STARTING) and not wish.has_run
    if came and on_its_way and scheduler and scheduler.job and wish.tracked == (scheduler,):
        return (Job(scheduler.job, Role.SCHEDULER, JobState.RUNNING, since=now, account=wish.account),)
    return None


def missing_job(wish: Wish, jobs: tuple[Job, ...]) -> str:
    """The number of the scheduler job when it should be in the queue and is not, so that its end has to be looked up."""
    if wish.state.over or wish.state is State.CLOSING or wish.scheduler is None:
        return ""
    return "" if any(job.id == wish.scheduler.job for job in jobs) else wish.scheduler.job


def _with_scheduler(
    wish: Wish, jobs: tuple[Job, ...], scheduler: Job, report: Report | None, around: Circumstances, now: float
) -> tuple[Action, ...]:
    if scheduler.state is JobState.HELD:
        return _over(wish, why.held(wish, scheduler), jobs)
    if _began_anew(wish, scheduler):
        return _over(wish, f"the worker node at {wish.site} gave the scheduler job back to HTCondor", jobs)
    if scheduler.state is JobState.SPOOLING:
        if now - scheduler.since > SPOOLING_PATIENCE:
            return _over(wish, "the access point never got the input files of the scheduler job", jobs)
        return _become(wish, State.QUEUED, "the input files of the scheduler job are on their way")
    if scheduler.state is JobState.IDLE:
        waits = why.waiting(wish, scheduler, scheduler_memory(wish.memory), around.slots, now)
        return _become(wish, State.QUEUED, waits)
    if wish.has_run and (report is None or report.trouble):
        return _become(wish, State.RUNNING, why.silent(report, scheduler, around))
    if report is None or not report.scheduler:
        return _start(wish, jobs, why.starting(wish, scheduler, report, around, now), now - scheduler.since)
    actions, trouble = match_workers(wish, jobs, report, around, now)
    # First of all: somebody waits for it.
    return (*_become(wish, State.RUNNING, trouble or around.tokens), *actions)


def _began_anew(wish: Wish, scheduler: Job) -> bool:
    """Whether the scheduler that was up is gone, since its job waits again, or began again after that."""
    if scheduler.state is JobState.RUNNING:
        return wish.ran_at is not None and scheduler.starts > 1 and scheduler.since > wish.ran_at
    return wish.has_run


def _start(wish: Wish, jobs: tuple[Job, ...], sentence: str, seconds: float) -> tuple[Action, ...]:
    if seconds > START_PATIENCE:
        return _over(wish, f"{sentence}. It was given up after {START_PATIENCE // 60} minutes", jobs)
    return _become(wish, State.STARTING, sentence)


def _adopt(wish: Wish, jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Jobs that we submitted without hearing the answer, or before a crash.

    A second job of one name is none of these, nor is one with a name that we do not give. One that still waits for its input
    files will never get them, since the call that brought them has ended with whoever made it: it is removed like a double, and
    submitted anew.
    """
    numbered = {(one.role, one.worker) for one in wish.tracked if one.job}
    found: dict[tuple[Role, str], Job] = {}
    for job in jobs:
        over = job.state is JobState.ENDED and job.role is Role.WORKER
        useless = over or job.state is JobState.SPOOLING
        if (job.role, job.worker) not in numbered and not useless and _is_name(wish.id, job):
            found.setdefault((job.role, job.worker), job)
    return tuple(found.values())


def _is_name(cluster: str, job: Job) -> bool:
    """Whether the job is called as we call jobs of that role."""
    if job.role is Role.SCHEDULER:
        return job.worker == ""
    number = job.worker.removeprefix(f"{cluster[:8]}-")
    return number.isascii() and number.isdecimal() and worker_name(cluster, int(number[:9])) == job.worker


def _gone(wish: Wish, jobs: tuple[Job, ...], ending: Ending | None) -> tuple[Action, ...]:
    if wish.has_run and ending and ending.well:
        return (Become(State.CLOSED, "its scheduler was shut down by a client (client.shutdown())"), *remove(jobs))
    return _over(wish, why.ended(ending), jobs)


def _close(jobs: tuple[Job, ...], report: Report | None) -> tuple[Action, ...]:
    if not jobs:
        return (Become(State.CLOSED), Forget())
    return ((AskToClose(),) if report is not None else ()) + remove(jobs)


def _over(wish: Wish, because: str, jobs: tuple[Job, ...]) -> tuple[Action, ...]:
    """For good: lost when it had been up, failed when not."""
    if wish.has_run:
        return (Become(State.LOST, f"{because}; {why.GONE}"), *remove(jobs))
    return (Become(State.FAILED, because), *remove(jobs))


def _become(wish: Wish, state: State, reason: str) -> tuple[Become, ...]:
    return () if (wish.state, wish.reason) == (state, reason) else (Become(state, reason),)
