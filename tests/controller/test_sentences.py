import pytest

from af_hub.condor.ads import NodeSlot, SiteSlots
from af_hub.condor.jobstatus import JobState
from af_hub.condor.why import Ending
from af_hub.controller import why
from af_hub.controller.states import Role, State
from af_hub.controller.steps import Circumstances, Job, Report, Wish

GIB = 2**30
NOW = 1000.0
WISH = Wish("0" * 32, State.QUEUED, "T2_A", 1, NOW + 100, image="python-base", cores=4, memory=2 * GIB, account="u")


def job(state=JobState.RUNNING, seconds=2, **more):
    return Job("1.0", Role.SCHEDULER, state, since=NOW - seconds, **more)


def site(*slots):
    return SiteSlots(tuple(NodeSlot(*slot) for slot in slots))


@pytest.mark.parametrize(
    "slots, seconds, starts, sentence",
    [
        pytest.param(None, 900, 0, "waiting for a free slot at T2_A", id="nothing known"),
        pytest.param(
            site(),
            1,
            0,
            "T2_A has no worker node in the pool at the moment; waiting for one, but another site may be quicker",
            id="no machine",
        ),
        pytest.param(
            site((8, 8, 2 * GIB, 2 * GIB), (2, 2, 16 * GIB, 16 * GIB)),
            1,
            0,
            "no worker node at T2_A is large enough: 4 cores and 3 GiB of memory were asked for with all that belongs to it, the "
            "largest has 2 cores and 16 GiB of memory. Close it and ask for less, or try another site",
            id="none is large enough",
        ),
        pytest.param(
            site((8, 3, 16 * GIB, 16 * GIB), (8, 8, 16 * GIB, GIB)),
            900,
            0,
            "waiting for a free slot at T2_A: no worker node there has 4 cores and 3 GiB of memory free at the moment",
            id="all are busy",
        ),
        pytest.param(site((8, 4, 16 * GIB, 3 * GIB)), 5, 0, "waiting for a free slot at T2_A", id="there is one"),
        pytest.param(
            site((8, 4, 16 * GIB, 3 * GIB)),
            60,
            0,
            "waiting for a free slot at T2_A: there is one, but HTCondor serves others first (quota or priority)",
            id="there is one, for long",
        ),
        pytest.param(
            None,
            1,
            1,
            "the worker node at T2_A gave the job back; waiting for a free slot at T2_A",
            id="evicted before it was up",
        ),
    ],
)
def test_waiting(slots, seconds, starts, sentence):
    assert why.waiting(WISH, job(JobState.IDLE, seconds, starts=starts), 3 * GIB, slots, NOW) == sentence


@pytest.mark.parametrize(
    "seconds, says, report, cut_off, sentence",
    [
        pytest.param(1, "", None, "", "the job runs at T2_A; its scheduler starts", id="just now"),
        pytest.param(
            60, "", Report(), "", "the job runs at T2_A; its scheduler starts", id="agent there, scheduler not yet"
        ),
        pytest.param(
            10,
            "",
            None,
            "",
            "the job runs at T2_A, but has not come to f:22 yet: its image is slow to load, or the site's nodes do not reach that "
            "address",
            id="not heard of for long",
        ),
        pytest.param(1, "no route", None, "", "the job runs at T2_A, but says: no route", id="it says why"),
        pytest.param(
            1,
            "",
            None,
            "the forwarder is down",
            "the job runs at T2_A; the controller cannot see how far it is: the forwarder is down",
            id="we are cut off ourselves",
        ),
        pytest.param(
            1,
            "",
            Report(trouble="it sleeps"),
            "",
            "the job runs at T2_A and is connected, but its job agent does not answer: it sleeps",
            id="connected and silent",
        ),
    ],
)
def test_starting(seconds, says, report, cut_off, sentence):
    around = Circumstances(forwarder="f:22", cut_off=cut_off)
    assert why.starting(WISH, job(seconds=seconds, says=says), report, around, NOW) == sentence


@pytest.mark.parametrize(
    "report, says, cut_off, sentence",
    [
        (None, "", "", "the cluster does not answer through the forwarder at the moment"),
        (None, "no route", "", "the cluster does not answer through the forwarder at the moment: no route"),
        (None, "", "it is down", "the controller cannot see the cluster at the moment: it is down"),
        (
            Report(trouble="it sleeps"),
            "",
            "",
            "the cluster is connected, but its job agent does not answer at the moment: it sleeps",
        ),
    ],
)
def test_silent(report, says, cut_off, sentence):
    assert why.silent(report, job(says=says), Circumstances(cut_off=cut_off)) == sentence


LACKS = "the image python-base lacks the Python module {}, which a Dask cluster needs. Choose another image, or have it added to this one"


@pytest.mark.parametrize(
    "reason, says, sentence",
    [
        ("disk full", "", "HTCondor holds the scheduler job: disk full"),
        ("", "", "HTCondor holds the scheduler job: no reason given"),
        ("status 1", "x | ModuleNotFoundError: No module named 'distributed'", LACKS.format("distributed")),
        ("status 1", "/usr/bin/python3: No module named af_hub.job", LACKS.format("af_hub.job")),
        ("status 3", "boom", "the scheduler job failed: status 3. It says: boom"),
    ],
)
def test_held(reason, says, sentence):
    assert why.held(WISH, job(JobState.HELD, reason=reason, says=says)) == sentence


def test_ended():
    assert why.ended(None) == "the scheduler job ended or was removed"
    assert why.ended(Ending(False, "it was removed")) == "the scheduler job is gone: it was removed"
