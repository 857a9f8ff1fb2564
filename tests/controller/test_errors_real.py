"""What goes wrong on the way to a Dask cluster, on a real pool: the row says what and what to do, and nothing is left in the queue."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from real_facility import COLLEAGUE, open_facility

from af_hub.client.remote import RemoteHTCondor
from af_hub.condor.jobstatus import JobState
from af_hub.errors import ClusterFailed, PoolAway

pytestmark = [pytest.mark.real, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

GIB = 2**30
SECONDS = 15
"""Ten are promised for an error that can be known; the rest is for a machine that does other things, too."""

IMAGES = """
  gone: {{title: Nowhere, environment: /nowhere}}
  bare: {{title: No af_hub, environment: {bare}}}
  daskless: {{title: No Dask, environment: {daskless}}}
"""


def fake_image(folder, program):
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(program)
    python.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def hole():
    """An address whose connections are never taken: the queue of the listening socket is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"localhost:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def mute():
    """An address where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"localhost:{listener.getsockname()[1]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def facility(tmp_path_factory, iam, condor_pool, hole, mute):
    """One for all these tests: images that lack something, a site without machines, pools that swallow what they are sent."""
    folder = tmp_path_factory.mktemp("errors")
    bare = fake_image(folder / "bare", f'#!/bin/sh\nexec {Path(sys.executable).resolve()} -I -S "$@"\n')
    missing = folder / "modules" / "distributed.py"
    missing.parent.mkdir()
    missing.write_text("raise ModuleNotFoundError(\"No module named 'distributed'\")\n")
    daskless = fake_image(folder / "daskless", f'#!/bin/sh\nPYTHONPATH={missing.parent} exec {sys.executable} "$@"\n')

    def change(text):
        images = IMAGES.format(bare=bare, daskless=daskless)
        text = text.replace("images: [python-analysis]", "images: [python-analysis, gone, bare, daskless]")
        text = text.replace("\nsizes: {small", f"{images}sizes: {{small")
        text = text.replace("sites: [T2_A]", "sites: [T2_A, T2_B, T2_C, T2_HOLE, T2_MUTE]")
        text = text.replace("clusters: 3", "clusters: 99")
        pools = "".join(
            f', {name}: {{collector: "{address}", schedd: s, audience: a, ca_file: {condor_pool.ca_file}}}'
            for name, address in (("hole", hole), ("mute", mute))
        )
        sites = {"T2_C": "main", "T2_HOLE": "hole", "T2_MUTE": "mute"}
        lines = "".join(f"  {name}: {{title: {name}, pool: {pool}}}\n" for name, pool in sites.items())
        return text.replace("}}\nsites:\n", f"}}{pools}}}\nsites:\n{lines}")

    async with open_facility(folder, iam, condor_pool, change) as running:
        yield running


@pytest.mark.parametrize(
    "image, words",
    [
        ("gone", ("could not start the image's Python; choose another image", "/nowhere/bin/python")),
        ("bare", ("the image bare lacks the Python module af_hub", "Choose another image")),
        ("daskless", ("the image daskless lacks the Python module distributed", "Choose another image")),
    ],
)
async def test_an_image_that_lacks_something(facility, image, words):
    cluster = await facility.create(image=image)
    await facility.until(cluster, lambda row: row["state"] not in ("requested", "queued"), 30)
    reason = await facility.ends(cluster, "failed", SECONDS)
    assert all(word in reason for word in words), reason


async def test_in_a_notebook(facility, monkeypatch):
    for name, value in facility.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ClusterFailed, match=r"is failed: the image bare lacks the Python module af_hub.*Choose another"
    ):
        await RemoteHTCondor("T2_A", image="bare", user_memory="512 MiB", asynchronous=True, quiet=True)


async def test_an_account_that_is_not_the_policys(facility):
    """The access point's mapping is older than the policy."""
    path = facility.folder / "facility.yaml"
    before = path.read_text()
    path.write_text(before.replace("u-cms-{username}", "other-{username}").replace("Tier-2 A", "Tier-2 with an edit"))
    try:
        async with asyncio.timeout(SECONDS):
            while "Tier-2 with an edit" not in str(await facility.controller().sites()):
                await asyncio.sleep(0.1)
        cluster = await facility.create()
        reason = await facility.ends(cluster, "failed", SECONDS)
        assert (
            "runs your jobs as u-cms-cms-analyst, but facility.yaml gives you the account other-cms-analyst" in reason
        )
    finally:
        path.write_text(before)


@pytest.mark.parametrize("site", ["T2_HOLE", "T2_MUTE"])
async def test_a_pool_that_swallows_everything(facility, site):
    began = time.monotonic()
    cluster = await facility.create(site=site)
    found = await facility.until(cluster, lambda row: row["state"] == "failed", SECONDS)
    print(f"{site}: failed after {time.monotonic() - began:.1f} s: {found['reason']}")
    assert "does not answer" in found["reason"] or "did not answer" in found["reason"]
    # Which of the two depends on whether the login or the submission was the last to wait.
    assert re.search(r"so nothing was started; try again later|so it was given up; .* Try again later", found["reason"])


async def test_what_it_waits_for(facility):
    nowhere, large = await asyncio.gather(
        facility.create(site="T2_C"), facility.create(site="T2_B", cores=8, memory=16 * GIB)
    )
    for cluster, words in (
        (nowhere, "T2_C has no worker node in the pool at the moment"),
        (large, "no worker node at T2_B is large enough: 8 cores and 20 GiB"),
    ):
        found = await facility.until(cluster, lambda row, words=words: words in row["reason"], SECONDS)
        assert found["state"] == "queued"
        await facility.controller().close(cluster["id"])
        await facility.leaves_nothing(cluster)


async def waiting_job(facility):
    """A cluster that waits for good, and its job's number: HTCondor itself holds the job while its files are spooled."""
    cluster = await facility.create(site="T2_C")
    async with asyncio.timeout(30):
        while True:
            for job in await facility.jobs():
                if job.cluster == cluster["id"] and job.state is JobState.IDLE:
                    return cluster, job.id


@pytest.mark.parametrize(
    "tool, words",
    [
        ("condor_hold", "somebody put it on hold (condor_hold) (HTCondor says: via condor_hold (by user root))"),
        ("condor_rm", "it was removed from HTCondor's queue (via condor_rm (by user root))"),
    ],
)
async def test_by_hand(facility, condor_pool, tool, words):
    cluster, number = await waiting_job(facility)
    await asyncio.to_thread(condor_pool.tool, tool, number)
    assert words in await facility.ends(cluster, "failed", SECONDS)


@contextlib.contextmanager
def configured(condor_pool, text):
    """The access point with other rules."""
    path = condor_pool.folder / "access-point/etc/condor_config"
    before = path.read_text()
    path.write_text(f"{before}\n{text}\n")
    condor_pool.reconfig()
    try:
        yield
    finally:
        path.write_text(before)
        condor_pool.reconfig()


FRIDAY = """
SUBMIT_REQUIREMENT_NAMES = $(SUBMIT_REQUIREMENT_NAMES) Friday
SUBMIT_REQUIREMENT_Friday = False
SUBMIT_REQUIREMENT_Friday_REASON = "No jobs on Fridays."
"""


@pytest.mark.parametrize(
    "rule, words",
    [
        ("DENY_WRITE = u-cms-*@af-hub.test", "knows you as u-cms-cms-analyst and does not let you do that"),
        (FRIDAY, "the access point refused: No jobs on Fridays"),
    ],
    ids=["ALLOW rules", "submit requirements"],
)
async def test_an_access_point_that_refuses(facility, condor_pool, rule, words):
    with configured(condor_pool, rule):
        cluster = await facility.create()
        assert words in await facility.ends(cluster, "failed", SECONDS)


def process_of(condor_pool, name):
    """The one daemon of the access point that is called so."""
    folder = str(condor_pool.folder / "access-point")
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.name() == name and folder in process.environ().get("CONDOR_CONFIG", ""):
                return process
    raise LookupError(name)


@contextlib.contextmanager
def stopped(pid):
    """A process that is there and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_an_access_point_that_hangs(facility, condor_pool):
    """It takes connections and says nothing; when it wakes up, nothing that it was told meanwhile is left."""
    with stopped(process_of(condor_pool, "condor_schedd").pid):
        cluster = await facility.create()
        found = await facility.until(cluster, lambda row: row["state"] == "failed", SECONDS)
    assert "the HTCondor pool did not answer within 8 s" in found["reason"]
    await facility.leaves_nothing(cluster)


async def test_an_access_point_that_is_down(facility, condor_pool):
    try:
        with stopped(process_of(condor_pool, "condor_master").pid):
            process_of(condor_pool, "condor_schedd").kill()
            cluster = await facility.create()
            found = await facility.until(cluster, lambda row: row["state"] == "failed", SECONDS)
        assert "HTCondor's access point does not answer, so nothing was started" in found["reason"]
    finally:
        async with asyncio.timeout(60):
            while not await answers(facility):
                await asyncio.sleep(0.5)


async def answers(facility):
    try:
        await facility.jobs()
    except PoolAway:
        return False
    return True


def agent_of(cluster):
    """The job agent of a cluster, by what lies in its sandbox."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if "af_hub.job.agent" in process.cmdline() and cluster["id"] in Path(process.cwd(), "job.json").read_text():
                return process
    raise LookupError(cluster["id"])


async def running(facility):
    cluster = await facility.create()
    await facility.until(cluster, lambda row: row["state"] == "running", 60)
    return cluster


async def test_an_agent_that_is_silent_then_dies(facility):
    cluster = await running(facility)
    agent = agent_of(cluster)
    with stopped(agent.pid):
        words = "the cluster is connected, but its job agent does not answer at the moment"
        await facility.until(cluster, lambda row: words in row["reason"], 2 * SECONDS)
    await facility.until(cluster, lambda row: row["state"] == "running" and not row["reason"], 2 * SECONDS)
    next(child for child in agent.children() if "af_hub.job.scheduler" in child.cmdline()).kill()
    reason = await facility.ends(cluster, "lost", 2 * SECONDS)
    assert "the job agent ended with status 3. It says: " in reason and "Start a new one" in reason


async def test_a_cluster_that_is_evicted(facility, condor_pool):
    cluster = await running(facility)
    (number,) = [job.id for job in await facility.jobs() if job.cluster == cluster["id"]]
    await asyncio.to_thread(condor_pool.tool, "condor_vacate_job", number)
    reason = await facility.ends(cluster, "lost", 2 * SECONDS)
    assert "gave the scheduler job back to HTCondor; its tasks and results are gone" in reason


async def test_a_token_that_is_not_accepted(facility):
    facility.audience, before = "htcondor.elsewhere", facility.audience
    try:
        cluster = await facility.create(COLLEAGUE)
        assert "did not accept the token" in await facility.ends(cluster, "failed", SECONDS)
    finally:
        facility.audience = before


async def test_a_forwarder_that_the_job_cannot_reach(tmp_path_factory, iam, condor_pool):
    folder = tmp_path_factory.mktemp("away")
    async with open_facility(folder, iam, condor_pool) as facility:
        facility.forwarder.stop()
        cluster = await facility.create()
        await facility.until(cluster, lambda row: row["state"] == "starting", 60)
        words = "the job runs at T2_A, but says: the job has no way to its users: the forwarder at 127.0.0.1 port"
        await facility.until(cluster, lambda row: words in row["reason"], 2 * SECONDS)
        await facility.controller().close(cluster["id"])
        await facility.leaves_nothing(cluster)
