import pytest

from af_hub.condor.ads import NodeSlot, SiteSlots
from af_hub.condor.jobstatus import JobState
from af_hub.condor.why import Ending
from af_hub.controller.plan import (
    POOL_PATIENCE,
    SPOOLING_PATIENCE,
    START_PATIENCE,
    known_unseen,
    missing_job,
    plan,
    without_pool,
)
from af_hub.controller.states import Role, State
from af_hub.controller.steps import (
    AskToClose,
    Become,
    Circumstances,
    Forget,
    Job,
    LoseWorkers,
    RemoveJobs,
    Report,
    RetireWorkers,
    SubmitScheduler,
    SubmitWorkers,
    Track,
    Tracked,
    WantFirstWorker,
    Wish,
)
from af_hub.controller.workers import RETIRE_PATIENCE, WORKERS_LOST_AT_MOST

ID = "0123456789abcdef" * 2
NOW = 1000.0
GIB = 2**30
W0, W1, W2, W3 = (f"01234567-{n}" for n in range(4))
ADDRESS = "tls://10.0.0.7:4000"
UP = Report(ADDRESS, frozenset({W0}))


def wish(state=State.RUNNING, workers=1, tracked=(), **more):
    more.setdefault("has_run", state in (State.RUNNING,))
    return Wish(ID, state, "T2_A", workers, more.pop("expires_at", NOW + 100), tracked=tuple(tracked), **more)


def scheduler(state=JobState.RUNNING, id="1.0", since=NOW - 2, **more):
    return Job(id, Role.SCHEDULER, state, since=since, **more)


def worker(name, state=JobState.RUNNING, id=None, since=NOW - 2, **more):
    return Job(id or f"{name[-1]}0.0", Role.WORKER, state, name, since=since, **more)


def tracked(*names, **more):
    return (
        Tracked(Role.SCHEDULER, "", "1.0"),
        *(Tracked(Role.WORKER, name, f"{name[-1]}0.0", **more) for name in names),
    )


QUEUED = Become(State.QUEUED, "waiting for a free slot at T2_A")
GONE = "its tasks and results are gone. Start a new one"
LOST = Become(State.LOST, f"the scheduler job ended or was removed; {GONE}")


@pytest.mark.parametrize(
    "wish, jobs, report, wanted",
    [
        # The way up.
        pytest.param(wish(State.REQUESTED), [], None, [SubmitScheduler()], id="new"),
        pytest.param(
            wish(State.REQUESTED, tracked=[Tracked(Role.SCHEDULER)]),
            [],
            None,
            [SubmitScheduler()],
            id="died before or in the submit, and nothing arrived",
        ),
        pytest.param(
            wish(State.REQUESTED, tracked=[Tracked(Role.SCHEDULER)]),
            [scheduler(JobState.IDLE)],
            None,
            [Track((scheduler(JobState.IDLE),))],
            id="died after the submit: adopted, not submitted again",
        ),
        pytest.param(
            wish(State.REQUESTED, tracked=[Tracked(Role.SCHEDULER)]),
            [scheduler(JobState.SPOOLING, since=NOW - 1)],
            None,
            [RemoveJobs(("1.0",)), SubmitScheduler()],
            id="died in the middle of the submit: its files will never come, so away with it",
        ),
        pytest.param(
            wish(State.REQUESTED),
            [scheduler(JobState.IDLE)],
            None,
            [Track((scheduler(JobState.IDLE),))],
            id="row from an old backup: adopted",
        ),
        pytest.param(
            wish(State.REQUESTED, tracked=[Tracked(Role.SCHEDULER)]),
            [scheduler(JobState.ENDED)],
            None,
            [Track((scheduler(JobState.ENDED),))],
            id="adopted even when it is over, lest it be submitted for ever",
        ),
        pytest.param(
            wish(State.QUEUED, tracked=tracked(), reason=QUEUED.reason),
            [scheduler(), scheduler(JobState.IDLE, id="2.0")],
            None,
            [RemoveJobs(("2.0",)), Become(State.STARTING, "the job runs at T2_A; its scheduler starts")],
            id="two scheduler jobs: the unknown one goes",
        ),
        pytest.param(wish(State.REQUESTED, tracked=tracked()), [scheduler(JobState.IDLE)], None, [QUEUED], id="idle"),
        pytest.param(
            wish(State.REQUESTED, tracked=tracked()),
            [scheduler(JobState.SPOOLING, since=NOW - 1)],
            None,
            [Become(State.QUEUED, "the input files of the scheduler job are on their way")],
            id="spooling just now",
        ),
        pytest.param(
            wish(State.QUEUED, tracked=tracked()),
            [scheduler(JobState.SPOOLING, since=NOW - SPOOLING_PATIENCE - 1)],
            None,
            [
                Become(State.FAILED, "the access point never got the input files of the scheduler job"),
                RemoveJobs(("1.0",)),
            ],
            id="half submitted",
        ),
        pytest.param(
            wish(State.QUEUED, tracked=tracked()),
            [scheduler(JobState.HELD, reason="no such image")],
            None,
            [Become(State.FAILED, "HTCondor holds the scheduler job: no such image"), RemoveJobs(("1.0",))],
            id="held",
        ),
        pytest.param(
            wish(State.STARTING, tracked=tracked()),
            [scheduler(JobState.ENDED)],
            None,
            [
                Become(State.FAILED, "the scheduler job ended or was removed"),
                RemoveJobs(("1.0",)),
            ],
            id="ended before it was up",
        ),
        pytest.param(
            wish(State.QUEUED, tracked=tracked()),
            [scheduler()],
            Report("", frozenset()),
            [Become(State.STARTING, "the job runs at T2_A; its scheduler starts")],
            id="agent up, scheduler not yet",
        ),
        pytest.param(
            wish(State.STARTING, tracked=tracked()), [scheduler()], UP, [Become(State.RUNNING, "")], id="scheduler up"
        ),
        pytest.param(
            wish(State.STARTING, workers=3, tracked=tracked()),
            [scheduler()],
            UP,
            [Become(State.RUNNING, ""), SubmitWorkers((W1, W2), ADDRESS)],
            id="workers are submitted when the scheduler has an address; that it runs is told first",
        ),
        # Living.
        pytest.param(wish(tracked=tracked()), [scheduler()], UP, [], id="as wanted: nothing to do"),
        pytest.param(
            wish(tracked=tracked()),
            [scheduler()],
            None,
            [Become(State.RUNNING, "the cluster does not answer through the forwarder at the moment")],
            id="tunnel down: still running",
        ),
        pytest.param(
            wish(workers=2, tracked=(*tracked(), Tracked(Role.WORKER, W1)), next_worker=2),
            [scheduler()],
            UP,
            [SubmitWorkers((W1,), ADDRESS)],
            id="a worker whose submit was never answered is submitted under its own name",
        ),
        pytest.param(
            wish(workers=2, tracked=(*tracked(), Tracked(Role.WORKER, W1)), next_worker=2),
            [scheduler(), worker(W1, JobState.IDLE)],
            UP,
            [Track((worker(W1, JobState.IDLE),))],
            id="a worker that arrived unheard is adopted",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1), next_worker=2),
            [scheduler(), worker(W1), worker(W1, id="77.0")],
            UP,
            [RemoveJobs(("77.0",))],
            id="the same worker twice: the unknown one goes",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1), next_worker=2),
            [scheduler(), worker(W1, JobState.ENDED)],
            UP,
            [LoseWorkers((W1,)), RemoveJobs(("10.0",)), SubmitWorkers((W2,), ADDRESS)],
            id="a worker job that ended is replaced under a new name",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1), next_worker=2),
            [scheduler()],
            UP,
            [LoseWorkers((W1,)), SubmitWorkers((W2,), ADDRESS)],
            id="a worker job that somebody removed is replaced",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1), next_worker=2, workers_lost=WORKERS_LOST_AT_MOST - 1),
            [scheduler(), worker(W1, JobState.ENDED)],
            UP,
            [
                Become(
                    State.RUNNING,
                    "10 worker jobs have ended by themselves, so no new ones are started; look at the logs, then scale anew",
                ),
                LoseWorkers((W1,)),
                RemoveJobs(("10.0",)),
            ],
            id="workers that die at once are not replaced for ever",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1), next_worker=2),
            [scheduler(), worker(W1, JobState.HELD, reason="disk full")],
            UP,
            [Become(State.RUNNING, "HTCondor holds 1 worker job: disk full")],
            id="a held worker is told, not replaced",
        ),
        # Scaling down.
        pytest.param(
            wish(workers=2, tracked=tracked(W1, W2, W3), next_worker=4),
            [scheduler(), worker(W1), worker(W2, JobState.IDLE), worker(W3)],
            Report(ADDRESS, frozenset({W0, W1, W3})),
            [RemoveJobs(("20.0",)), RetireWorkers((W3,), ("30.0",))],
            id="first the one that waits, then the youngest, which is retired",
        ),
        pytest.param(
            wish(workers=1, tracked=tracked(W1, retiring_since=NOW - 5)),
            [scheduler(), worker(W1)],
            Report(ADDRESS, frozenset({W0, W1})),
            [RetireWorkers((W1,), ("10.0",))],
            id="retiring is repeated",
        ),
        pytest.param(
            wish(workers=1, tracked=tracked(W1, retiring_since=NOW - RETIRE_PATIENCE - 1)),
            [scheduler(), worker(W1)],
            Report(ADDRESS, frozenset({W0, W1})),
            [RemoveJobs(("10.0",))],
            id="one that will not retire is removed in the end",
        ),
        pytest.param(
            wish(workers=1, tracked=tracked(W1, retiring_since=NOW - 5)),
            [scheduler()],
            UP,
            [LoseWorkers((W1,))],
            id="retired and gone: struck, not replaced",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1, retiring_since=NOW - 5), next_worker=2),
            [scheduler(), worker(W1)],
            Report(ADDRESS, frozenset({W0, W1})),
            [RetireWorkers((W1,), ("10.0",)), SubmitWorkers((W2,), ADDRESS)],
            id="scaled up again while one retires",
        ),
        pytest.param(
            wish(workers=0, tracked=tracked()), [scheduler()], UP, [WantFirstWorker(False)], id="no worker at all"
        ),
        pytest.param(
            wish(workers=1, tracked=tracked()),
            [scheduler()],
            Report(ADDRESS, frozenset()),
            [WantFirstWorker(True)],
            id="the first worker is missing",
        ),
        # The end.
        pytest.param(
            wish(expires_at=NOW, tracked=tracked()),
            [scheduler()],
            UP,
            [Become(State.CLOSING, "its greatest lifetime is over")],
            id="lifetime over",
        ),
        pytest.param(
            wish(State.CLOSING, tracked=tracked(W1)),
            [scheduler(), worker(W1)],
            UP,
            [AskToClose(), RemoveJobs(("1.0", "10.0"))],
            id="close",
        ),
        pytest.param(
            wish(State.CLOSING, tracked=tracked()),
            [scheduler(JobState.HELD), worker(W1, id="99.0")],
            None,
            [RemoveJobs(("1.0", "99.0"))],
            id="close without the tunnel takes all jobs, the unknown too",
        ),
        pytest.param(wish(State.CLOSING), [], None, [Become(State.CLOSED), Forget()], id="closed before it was submitted"),
        pytest.param(wish(tracked=tracked()), [], UP, [LOST], id="scheduler job vanished"),
        pytest.param(
            wish(tracked=tracked(W1)),
            [scheduler(JobState.ENDED), worker(W1)],
            None,
            [LOST, RemoveJobs(("1.0", "10.0"))],
            id="scheduler job ended: its workers go too",
        ),
        pytest.param(
            wish(tracked=tracked()),
            [scheduler(JobState.IDLE)],
            None,
            [
                Become(State.LOST, f"the worker node at T2_A gave the scheduler job back to HTCondor; {GONE}"),
                RemoveJobs(("1.0",)),
            ],
            id="evicted",
        ),
        pytest.param(wish(State.FAILED), [scheduler()], None, [RemoveJobs(("1.0",))], id="failed, a job left"),
        pytest.param(wish(State.FAILED), [], None, [Forget()], id="failed, keys left"),
        pytest.param(wish(State.CLOSED, forgotten=True), [], None, [], id="all over"),
    ],
)  # fmt: skip
def test_plan(wish, jobs, report, wanted):
    assert list(plan(wish, tuple(jobs), report, NOW)) == wanted


RUNS = Job("1.0", Role.SCHEDULER, JobState.RUNNING, since=NOW, account="cms-ada")


@pytest.mark.parametrize(
    "wish, came, jobs",
    [
        pytest.param(wish(State.REQUESTED), False, (), id="asked for just now: none"),
        pytest.param(wish(State.REQUESTED, tracked=[Tracked(Role.SCHEDULER)]), False, None, id="perhaps submitted"),
        pytest.param(wish(State.REQUESTED, tracked=tracked(), account="cms-ada"), True, (RUNS,), id="here before a look"),
        pytest.param(wish(State.QUEUED, tracked=tracked(), account="cms-ada"), True, (RUNS,), id="the job agent is here"),
        pytest.param(wish(State.STARTING, tracked=tracked(), account="cms-ada"), True, (RUNS,), id="here while it starts"),
        pytest.param(wish(State.QUEUED, tracked=tracked()), False, None, id="the job agent is not here"),
        pytest.param(wish(State.QUEUED, tracked=[Tracked(Role.SCHEDULER)]), True, None, id="here, but which job is it"),
        pytest.param(wish(State.STARTING, tracked=tracked(), has_run=True), True, None, id="has run before"),
        pytest.param(wish(State.STARTING, tracked=tracked(W1)), True, None, id="has workers"),
        pytest.param(wish(State.RUNNING, tracked=tracked()), True, None, id="runs"),
        pytest.param(wish(State.CLOSING, tracked=tracked()), True, None, id="is being closed"),
        pytest.param(wish(State.FAILED, tracked=tracked()), True, None, id="has failed"),
    ],
)  # fmt: skip
def test_whose_jobs_are_known_without_a_look(wish, came, jobs):
    assert known_unseen(wish, came, NOW) == jobs


REMOVED = Ending(False, "it was removed from HTCondor's queue (via condor_rm (by user u-cms-ada))")
SILENT = Report(trouble="the cluster's job does not answer (TimeoutError)")


@pytest.mark.parametrize(
    "wish, jobs, report, around, wanted",
    [
        pytest.param(
            wish(State.QUEUED, tracked=tracked()),
            [],
            None,
            Circumstances(ending=REMOVED),
            [Become(State.FAILED, f"the scheduler job is gone: {REMOVED.sentence}")],
            id="removed by hand before it was up",
        ),
        pytest.param(
            wish(tracked=tracked(W1)),
            [worker(W1)],
            None,
            Circumstances(ending=REMOVED),
            [Become(State.LOST, f"the scheduler job is gone: {REMOVED.sentence}; {GONE}"), RemoveJobs(("10.0",))],
            id="removed by hand",
        ),
        pytest.param(
            wish(tracked=tracked(W1)),
            [worker(W1)],
            None,
            Circumstances(ending=Ending(True, "it ended by itself")),
            [
                Become(State.CLOSED, "its scheduler was shut down by a client (client.shutdown())"),
                RemoveJobs(("10.0",)),
            ],
            id="shut down by a client",
        ),
        pytest.param(
            wish(State.QUEUED, tracked=tracked(), account="u-cms-ada"),
            [scheduler(account="u-other-ada")],
            None,
            Circumstances(),
            [
                Become(
                    State.FAILED,
                    "the access point runs your jobs as u-other-ada, but facility.yaml gives you the account u-cms-ada; tell the "
                    "facility's administrators that the access point's mapping is not the policy's",
                ),
                RemoveJobs(("1.0",)),
            ],
            id="another account at the pool than in the policy",
        ),
        pytest.param(
            wish(tracked=tracked(), account="u-cms-ada"),
            [scheduler(account="u-cms-ada")],
            UP,
            Circumstances(),
            [],
            id="the account of the policy",
        ),
        pytest.param(
            wish(tracked=tracked(), ran_at=NOW - 50),
            [scheduler(starts=2, since=NOW - 10)],
            UP,
            Circumstances(),
            [
                Become(State.LOST, f"the worker node at T2_A gave the scheduler job back to HTCondor; {GONE}"),
                RemoveJobs(("1.0",)),
            ],
            id="evicted, and started anew between two looks",
        ),
        pytest.param(
            wish(tracked=tracked(), ran_at=NOW - 5),
            [scheduler(starts=2, since=NOW - 10)],
            UP,
            Circumstances(),
            [],
            id="evicted before it was up, and up the second time",
        ),
        pytest.param(
            wish(tracked=tracked(W1), workers=2),
            [scheduler(JobState.HELD, reason="the job agent ended with status 3", says="boom"), worker(W1)],
            None,
            Circumstances(),
            [
                Become(
                    State.LOST, f"the scheduler job failed: the job agent ended with status 3. It says: boom; {GONE}"
                ),
                RemoveJobs(("1.0", "10.0")),
            ],
            id="the scheduler of a cluster that ran died",
        ),
        pytest.param(
            wish(State.STARTING, tracked=tracked()),
            [scheduler(since=NOW - START_PATIENCE - 1)],
            SILENT,
            Circumstances(),
            [
                Become(
                    State.FAILED,
                    "the job runs at T2_A and is connected, but its job agent does not answer: the cluster's job does not answer "
                    "(TimeoutError). It was given up after 5 minutes",
                ),
                RemoveJobs(("1.0",)),
            ],
            id="connected and silent, for too long",
        ),
        pytest.param(
            wish(tracked=tracked()),
            [scheduler()],
            SILENT,
            Circumstances(),
            [
                Become(
                    State.RUNNING,
                    "the cluster is connected, but its job agent does not answer at the moment: the cluster's job does not answer "
                    "(TimeoutError)",
                )
            ],
            id="connected and silent after it ran",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1), memory=2 * GIB),
            [scheduler(), worker(W1, JobState.IDLE, since=NOW - 20)],
            UP,
            Circumstances(slots=SiteSlots((NodeSlot(8, 0, 16 * GIB, 0),))),
            [
                Become(
                    State.RUNNING,
                    "1 worker job: waiting for a free slot at T2_A: no worker node there has 1 core and 2.12 GiB of memory free at "
                    "the moment",
                )
            ],
            id="a worker waits",
        ),
        pytest.param(
            wish(workers=2, tracked=tracked(W1)),
            [scheduler(), worker(W1, JobState.IDLE, since=NOW - 1)],
            UP,
            Circumstances(),
            [],
            id="a worker waits, but not long",
        ),
    ],
)  # fmt: skip
def test_plan_by_circumstances(wish, jobs, report, around, wanted):
    assert list(plan(wish, tuple(jobs), report, NOW, around)) == wanted


@pytest.mark.parametrize(
    "state, seconds, wanted",
    [
        (State.REQUESTED, POOL_PATIENCE - 1, Become(State.REQUESTED, "it is down; trying again")),
        (State.REQUESTED, POOL_PATIENCE, Become(State.FAILED, "it is down, so nothing was started; try again later")),
        (State.QUEUED, 1000, Become(State.QUEUED, "it is down; trying again")),
        (State.RUNNING, 1000, Become(State.RUNNING, "it is down; trying again")),
        (State.CLOSING, 1000, Become(State.CLOSING, "it is down; trying again")),
        (State.FAILED, 1000, None),
    ],
)
def test_a_pool_that_is_away(state, seconds, wanted):
    assert without_pool(wish(state), "it is down", seconds) == ((wanted,) if wanted else ())
    assert without_pool(wish(state, reason="it is down; trying again"), "it is down", 0) == ()


@pytest.mark.parametrize(
    "wish, jobs, job",
    [
        (wish(tracked=tracked()), [], "1.0"),
        (wish(tracked=tracked()), [scheduler()], ""),
        (wish(tracked=[Tracked(Role.SCHEDULER)]), [], ""),
        (wish(State.REQUESTED), [], ""),
        (wish(State.CLOSING, tracked=tracked()), [], ""),
        (wish(State.FAILED, tracked=tracked()), [], ""),
    ],
)
def test_whose_end_has_to_be_looked_up(wish, jobs, job):
    assert missing_job(wish, tuple(jobs)) == job


@pytest.mark.parametrize(
    "name", ["", "x", "01234567-", "01234567-x", "01234567-01", "01234567-٣", "01234567-99999999999999999999", "7654-1"]
)
def test_a_worker_with_a_name_that_is_not_ours_is_removed(name):
    strange = worker(name, id="9.0")
    assert plan(wish(tracked=tracked()), (scheduler(), strange), UP, NOW) == (RemoveJobs(("9.0",)),)


def test_a_scheduler_with_a_workers_name_is_not_adopted():
    strange = scheduler(id="9.0", worker=W1)
    assert plan(wish(State.REQUESTED), (strange,), None, NOW) == (RemoveJobs(("9.0",)), SubmitScheduler())


def test_the_same_question_has_the_same_answer():
    asked = wish(State.STARTING, workers=3, tracked=tracked())
    assert plan(asked, (scheduler(),), UP, NOW) == plan(asked, (scheduler(),), UP, NOW)
