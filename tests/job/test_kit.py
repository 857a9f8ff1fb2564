import json

import pytest

from af_hub.errors import JobKitError
from af_hub.forwarder.login import ForwarderAddress
from af_hub.job.kit import (
    GIB,
    JobKit,
    WorkerKit,
    first_worker_memory,
    read_job_kit,
    read_worker_kit,
    worker_name,
)
from af_hub.job.sandbox import read_file

CLUSTER = "0123456789abcdef0123456789abcdef"
JOB = {
    "cluster": CLUSTER,
    "site": "T2_A",
    "forwarder": {"host": "f", "port": 31022, "host_key": "ssh-ed25519 AAAA"},
    "nthreads": 2,
    "memory_limit": 4 * GIB,
    "expires_at": 1800000000,
}


def test_a_job_kit():
    forwarder = ForwarderAddress("f", 31022, "ssh-ed25519 AAAA")
    assert read_job_kit(json.dumps(JOB)) == JobKit(CLUSTER, "T2_A", forwarder, 2, 4 * GIB, 1800000000.0)


def test_a_worker_kit_reads_what_it_writes():
    kit = WorkerKit(CLUSTER, "tls://10.0.0.1:8786", "01234567-1", 1, GIB, 1.5, "10.0.0.1")
    assert read_worker_kit(kit.as_json()) == kit
    assert "\n" not in kit.as_json()


@pytest.mark.parametrize(
    "change, complaint",
    [
        pytest.param({"cluster": CLUSTER.upper()}, "'cluster' should be 32", id="upper case id"),
        pytest.param({"site": None}, "'site' should be str, found None", id="nothing"),
        pytest.param({"nthreads": True}, "'nthreads' should be int above 0, found True", id="true is no number"),
        pytest.param({"memory_limit": "4 GiB"}, "'memory_limit' should be int", id="text"),
        pytest.param({"forwarder": []}, "'forwarder' should be dict", id="a list"),
        pytest.param({"bind": 1}, "'bind' should be str", id="a number"),
    ],
)
def test_what_cannot_be_is_named(change, complaint):
    with pytest.raises(JobKitError, match=complaint):
        read_job_kit(json.dumps(JOB | change))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_no_json_object(text):
    with pytest.raises(JobKitError, match=r"worker\.json"):
        read_worker_kit(text)


def test_a_file_that_did_not_come(tmp_path):
    with pytest.raises(JobKitError, match=r"ssh\.key should have come with the job"):
        read_file("ssh.key", str, tmp_path)


@pytest.mark.parametrize(
    "job, worker",
    [
        pytest.param(100 * GIB, 80 * GIB, id="a fifth of a large job is kept"),
        pytest.param(4 * GIB, 3 * GIB, id="a GiB of a middling one"),
        pytest.param(2 * GIB, GIB, id="still a GiB"),
        pytest.param(GIB, GIB // 2, id="half of a small one"),
    ],
)
def test_what_the_first_worker_may_use(job, worker):
    assert first_worker_memory(job) == worker


def test_names_of_workers():
    assert worker_name(CLUSTER, 12) == "01234567-12"
