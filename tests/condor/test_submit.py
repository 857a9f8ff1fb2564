"""Submit descriptions, whole and by their real reader; ads in our words."""

import json
import subprocess
import sys
from pathlib import PurePath
from typing import Any

import pytest

from af_hub.condor.ads import SAYS_LENGTH, DaskJob, NodeSlot, SiteSlots, read_job, read_jobs, read_slots, these_jobs
from af_hub.condor.jobstatus import JobState, job_state
from af_hub.condor.submit import JobDescription, describe_job, quote_arguments, quote_string
from af_hub.condor.why import TEXT_LENGTH, Ending
from af_hub.testing.plugin import Golden

GIB = 2**30
SCHEDULER = JobDescription(
    cluster="0123456789abcdef0123456789abcdef",
    role="scheduler",
    site="T2_B",
    python=PurePath("/images/python analysis/bin/python"),
    arguments=("start.py", "af_hub.job.agent"),
    files=("job.json", "ssh.key", "tls-ca.pem"),
    cores=2,
    memory=3 * GIB + 1,
    lifetime=3600,
)
WORKERS = JobDescription(
    cluster="0123456789abcdef0123456789abcdef",
    role="worker",
    site="T2_B",
    python=PurePath("/images/python-base/bin/python"),
    arguments=("-m", "af_hub.job.worker"),
    files=("tls-ca.pem", "tls-worker.key"),
    cores=1,
    memory=GIB,
    lifetime=3600,
    workers=("01234567-1", "01234567-2"),
    worker_files=("worker.json",),
)

READER = """
import htcondor2, json, sys
description = htcondor2.Submit(sys.stdin.read())
print(json.dumps({"keys": {key: description[key] for key in description}}))
"""


@pytest.mark.parametrize("job, name", [(SCHEDULER, "scheduler.sub"), (WORKERS, "workers.sub")])
def test_description_whole(golden: Golden, job: JobDescription, name: str) -> None:
    golden(name, describe_job(job))


@pytest.mark.parametrize("job", [SCHEDULER, WORKERS])
def test_htcondor_reads_what_we_wrote(job: JobDescription) -> None:
    """In a child: ``htcondor2`` takes its configuration from the environment of the process, once."""
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=describe_job(job),
        env={"CONDOR_CONFIG": "/dev/null"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    keys = json.loads(done.stdout)["keys"]
    assert keys["executable"] == str(job.python)
    assert keys["arguments"] == f'"{" ".join(job.arguments)}"'
    assert keys["requirements"] == 'TARGET.SiteName == "T2_B"'
    assert "environment" not in keys and "log" not in keys


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["-m", "a.b"], '"-m a.b"'),
        (["two words", ""], "\"'two words' ''\""),
        (["it's", 'say "x"'], "\"'it''s' 'say \"\"x\"\"'\""),
    ],
)
def test_arguments_in_the_new_syntax(arguments: list[str], text: str) -> None:
    assert quote_arguments(arguments) == text


def test_string_literal() -> None:
    assert quote_string('a"b\\c') == '"a\\"b\\\\c"'


@pytest.mark.parametrize(
    "changed",
    [
        {"site": 'T2_B"\nuniverse = local'},
        {"python": PurePath("/a\nqueue 100")},
        {"python": PurePath("/$(HOME)/python")},
        {"files": ("a\tb",)},
        {"workers": ("a, b",)},
        {"workers": ("",)},
    ],
)
def test_what_would_change_the_description_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot"):
        describe_job(JobDescription(**{**vars(SCHEDULER), **changed}))


@pytest.mark.parametrize(
    "ad, state",
    [
        ({"JobStatus": 1}, JobState.IDLE),
        ({"JobStatus": 2}, JobState.RUNNING),
        ({"JobStatus": 3}, JobState.ENDED),
        ({"JobStatus": 4}, JobState.ENDED),
        ({"JobStatus": 5, "HoldReasonCode": 16}, JobState.SPOOLING),
        ({"JobStatus": 5, "HoldReasonCode": 3}, JobState.HELD),
        ({"JobStatus": 5}, JobState.HELD),
        ({"JobStatus": 6}, JobState.RUNNING),
        ({"JobStatus": 7}, JobState.RUNNING),
    ],
)
def test_job_states(ad: dict[str, Any], state: JobState) -> None:
    assert job_state(ad) is state


def test_job_of_an_ad() -> None:
    ad = {
        "ClusterId": 12,
        "ProcId": 1,
        "JobStatus": 5,
        "HoldReasonCode": 3,
        "HoldReason": "the job agent ended with status 2",
        "EnteredCurrentStatus": 100,
        "Owner": "u-cms-ada",
        "AFCluster": "c" * 32,
        "AFRole": "worker",
        "AFWorker": "cccccccc-1",
    }
    assert read_job(ad) == DaskJob(
        "12.1", JobState.HELD, "c" * 32, "worker", "cccccccc-1", "u-cms-ada", "the job agent ended with status 2", 100.0
    )
    assert read_job({**ad, "JobStatus": 2}).reason == ""


def test_slots_of_sites() -> None:
    left = {"SiteName": "T2_A", "PartitionableSlot": True, "State": "Unclaimed", "TotalSlotCpus": 8, "Cpus": 5}
    static = {"SiteName": "T2_A", "State": "Claimed", "TotalSlotCpus": 1, "Cpus": 1}
    memory = {"TotalSlotMemory": 1024, "Memory": 512}
    found = read_slots([left | memory, static | memory, {"State": "Unclaimed", "TotalSlotCpus": 4} | memory])
    assert found == {"T2_A": SiteSlots((NodeSlot(8, 5, GIB, GIB // 2), NodeSlot(1, 0, GIB, 0)))}
    assert (found["T2_A"].cores, found["T2_A"].cores_free) == (9, 5)


@pytest.mark.parametrize(
    "nonsense", [{"SiteName": 7}, {"TotalSlotCpus": "8"}, {"TotalSlotMemory": [1]}, {"Cpus": None}]
)
def test_a_slot_that_makes_no_sense_hides_no_other(nonsense: dict[str, object]) -> None:
    slot = {"SiteName": "T2_B", "State": "Unclaimed", "TotalSlotCpus": 1, "Cpus": 1, "TotalSlotMemory": 1, "Memory": 1}
    assert list(read_slots([{**slot, "SiteName": "T2_A", **nonsense}, {"SiteName": "T2_A"}, slot])) == ["T2_B"]


@pytest.mark.parametrize(
    "ids, constraint",
    [
        ([], "False"),
        (["1.0"], "(ClusterId == 1 && ProcId == 0)"),
        (["1.0", "12.3"], "(ClusterId == 1 && ProcId == 0) || (ClusterId == 12 && ProcId == 3)"),
    ],
)
def test_constraint_for_jobs(ids: list[str], constraint: str) -> None:
    assert these_jobs(ids) == constraint


@pytest.mark.parametrize("wrong", ["1", "1.0 || True", "a.b", ""])
def test_constraint_takes_ids_only(wrong: str) -> None:
    with pytest.raises(ValueError):
        these_jobs([wrong])


AD = {"ClusterId": 1, "ProcId": 0, "JobStatus": 1, "Owner": "u", "AFCluster": "c" * 32, "AFRole": "scheduler"}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"AFCluster": 5},
        {"AFCluster": ["c" * 32]},
        {"AFCluster": "C" * 32},
        {"AFCluster": "c" * 31 + "\n"},
        {"AFCluster": "' OR 1=1"},
        {"JobStatus": 99},
        {"JobStatus": "5"},
        {"EnteredCurrentStatus": "long ago"},
        {"EnteredCurrentStatus": [1]},
        {"NumJobStarts": float("inf")},
        {"NumJobStarts": float("nan")},
    ],
)
def test_a_job_whose_ad_makes_no_sense_hides_no_other(nonsense: dict[str, Any]) -> None:
    """Whoever submits a job can write into its ad what they like."""
    without_cluster = {name: value for name, value in AD.items() if name != "AFCluster"}
    found = list(read_jobs([AD | nonsense, without_cluster, AD | {"ProcId": 1}]))
    assert [job.id for job in found] == ["1.1"]


def test_a_jobs_words_are_short() -> None:
    held = read_job(AD | {"JobStatus": 5, "HoldReason": "x" * 100_000, "AFWorker": 7, "AFSays": "y" * 100_000})
    assert len(held.reason) == TEXT_LENGTH and held.worker == "7" and len(held.says) == SAYS_LENGTH


def test_a_job_that_ended_says_how() -> None:
    removed = AD | {"JobStatus": 3, "RemoveReason": "via condor_rm (by user u-cms-ada)", "NumJobStarts": 2}
    assert read_job(removed).ending == Ending(
        False, "it was removed from HTCondor's queue (via condor_rm (by user u-cms-ada))"
    )
    assert read_job(removed).starts == 2
