import asyncio
import contextlib
import dataclasses
import json

import pytest

from af_hub.condor.jobstatus import JobState
from af_hub.condor.why import Ending
from af_hub.controller.keys import ClusterKeys
from af_hub.controller.plan import POOL_PATIENCE
from af_hub.controller.reconcile import BUSY_SECONDS, CALM_SECONDS, REST_SECONDS
from af_hub.controller.states import Role
from af_hub.controller.store import IDS_AT_ONCE
from af_hub.job.kit import (
    CA,
    SCHEDULER_CERTIFICATE,
    SECRET_FILES,
    SSH_CERTIFICATE,
    WORKER_CERTIFICATE,
    WORKER_KEY,
    first_worker_memory,
    read_job_kit,
    read_worker_kit,
    scheduler_memory,
)


def keys(world, cluster):
    return ClusterKeys(world.parts.state, cluster)


async def test_from_asked_for_to_closed(world):
    cluster = await world.create(workers=3)
    await world.until(cluster, "running")
    await world.turn()
    await world.site.advance()
    await world.turn()
    found = world.get(cluster)
    assert (found.workers_running, found.reason) == (3, "")
    assert [event.state for event in found.events] == ["requested", "running"]
    agent = world.site.agents[cluster]
    async with world.api(world.owner) as api:
        assert (await api.delete(f"api/clusters/{cluster}")).json()["state"] == "closing"
    await world.until(cluster, "closed")
    assert agent.closed and not world.site.queue
    assert not keys(world, cluster).exist() and cluster in world.site.forgotten
    assert world.parts.store.unfinished() == []


async def test_what_travels_with_the_jobs(world):
    cluster = await world.create(workers=2, cores=2)
    await world.until(cluster, "running")
    await world.turn()
    first, second = world.site.submitted
    assert (first.arguments, second.arguments) == (("start.py", "af_hub.job.agent"), ("-m", "af_hub.job.worker"))
    assert b"runpy" in first.files["start.py"]
    assert first.python.as_posix() == "/images/python-analysis/bin/python"
    assert (first.site, first.cores, first.lifetime > 3500) == ("T2_A", 2, True)
    assert first.memory == 3 * 2**30 and second.memory == 2**31 + 128 * 2**20
    job = json.loads(first.files["job.json"])
    assert job["forwarder"] == {"host": "127.0.0.1", "port": 2222, "host_key": "ssh-ed25519 AAAA"}
    assert (job["cluster"], job["site"], job["nthreads"], job["memory_limit"]) == (cluster, "T2_A", 2, 3 * 2**30)
    worker = json.loads(second.workers[f"{cluster[:8]}-1"]["worker.json"])
    assert (worker["name"], worker["scheduler"]) == (f"{cluster[:8]}-1", "tls://10.0.0.1:4000")
    text = b"".join((*first.files.values(), *second.files.values()))
    for stays in ("ca.key", "tls-controller.key"):
        assert keys(world, cluster).path(stays).read_bytes() not in text
    assert "PRIVATE KEY" not in repr(first) and b"PRIVATE KEY" in text


async def test_scale_up_and_down(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    async with world.api(world.owner) as api:
        await api.patch(f"api/clusters/{cluster}", json={"workers": 4})
        for _ in range(3):
            await world.turn()
            await world.site.advance()
        await world.turn()
        assert world.get(cluster).workers_running == 4
        await api.patch(f"api/clusters/{cluster}", json={"workers": 2})
        for _ in range(3):
            await world.turn()
        assert world.get(cluster).workers_running == 2
        assert world.site.agents[cluster].retired == [f"{cluster[:8]}-3", f"{cluster[:8]}-2"]
        await api.patch(f"api/clusters/{cluster}", json={"workers": 0})
        for _ in range(3):
            await world.turn()
    assert world.get(cluster).workers_running == 0 and len(world.site.queue) == 1
    assert world.get(cluster).workers_lost == 0


@pytest.mark.parametrize("after", range(6))
async def test_a_restart_after_any_round_changes_nothing(world, after):
    cluster = await world.create(workers=2)
    for turn in range(7):
        if turn == after:
            await world.restart()
        await world.turn()
        await world.site.advance()
    await world.turn()
    assert world.get(cluster).state == "running" and len(world.site.queue) == 2
    assert world.get(cluster).workers_running == 2


async def test_a_submit_whose_answer_is_lost_is_not_done_twice(world):
    cluster = await world.create(workers=2)
    world.site.loses_answers = True
    await world.turn()
    assert world.get(cluster).state == "requested" and "did not answer" in world.get(cluster).reason
    await world.restart()
    await world.turn()
    world.site.loses_answers = False
    await world.until(cluster, "running")
    world.site.loses_answers = True
    await world.turn()
    world.site.loses_answers = False
    await world.restart()
    for _ in range(3):
        await world.turn()
        await world.site.advance()
    assert len(world.site.submitted) == len(world.site.queue) == 2


async def test_a_held_job_fails_with_htcondors_reason(world):
    world.site.holds = "cannot open the image"
    cluster = await world.create()
    await world.until(cluster, "failed")
    assert "cannot open the image" in world.get(cluster).reason
    await world.turn()
    assert not world.site.queue
    await world.turn()
    assert not keys(world, cluster).exist()


async def test_a_refused_submit_fails_with_the_sentence(world):
    world.site.refuses = "the access point refuses your account"
    cluster = await world.create()
    await world.turn()
    assert (world.get(cluster).state, world.get(cluster).reason) == ("failed", "the access point refuses your account")


async def test_a_batch_system_that_is_away_fails_what_it_has_never_seen(world):
    world.site.unreachable = True
    cluster = await world.create()
    await world.turn()
    assert world.get(cluster).state == "requested"
    world.clock.offset = POOL_PATIENCE
    await world.turn()
    found = world.get(cluster)
    assert found.state == "failed" and found.reason.startswith(
        "the access point does not answer, so nothing was started"
    )
    second = await world.create()
    await world.turn()
    assert world.get(second).state == "failed", "it has been away long enough"
    world.site.unreachable = False
    await world.turn()
    await world.turn()
    assert world.get(cluster).forgotten and not world.site.submitted


async def test_a_batch_system_that_is_away_fails_nothing_that_it_has_seen(world):
    cluster = await world.create()
    await world.turn()
    await world.turn()
    world.site.unreachable = True
    for offset in (0, 100):
        world.clock.offset = offset
        await world.turn()
    assert (world.get(cluster).state, world.get(cluster).reason) == (
        "queued",
        "the access point does not answer; trying again",
    )
    world.site.unreachable = False
    await world.until(cluster, "running")


async def test_a_submit_that_swallows_time_is_given_up_and_what_arrives_all_the_same_is_removed(world):
    def swallow():
        world.clock.offset += POOL_PATIENCE

    world.site.loses_answers, world.site.slow = True, swallow
    cluster = await world.create()
    await world.turn()
    found = world.get(cluster)
    assert found.state == "failed" and "if its job arrives all the same, it is removed" in found.reason
    assert world.site.numbers(cluster)
    await world.turn()
    assert not world.site.queue
    await world.turn()
    assert world.get(cluster).forgotten and not keys(world, cluster).exist()


async def test_a_job_that_runs_as_another_account_is_not_left_behind(world):
    """The access point's mapping is not the policy's; the answer to our submit says that the job is ours all the same."""
    cluster = await world.create()
    await world.turn()
    (number,) = world.site.numbers(cluster)
    queued = world.site.queue[number]
    queued.job = dataclasses.replace(queued.job, account="somebody")
    await world.turn()
    await world.turn()
    assert world.get(cluster).state == "failed" and "runs your jobs as somebody" in world.get(cluster).reason
    assert not world.site.queue


async def test_an_account_that_changes_while_the_cluster_lives_is_told(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    (number,) = world.site.numbers(cluster)
    world.site.queue[number].owner = "somebody"
    world.site.tunnel_down = True
    async with world.api(world.owner) as api:
        await api.delete(f"api/clusters/{cluster}")
    await world.turn()
    found = world.get(cluster)
    assert found.state == "closing" and "which another account than yours owns; what stays ends with" in found.reason


async def test_a_scheduler_job_that_was_removed_by_hand(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    (number,) = world.site.numbers(cluster)
    world.site.endings[number] = Ending(False, "it was removed from HTCondor's queue (via condor_rm (by user root))")
    await world.site.end(number)
    await world.turn()
    found = world.get(cluster)
    assert (
        found.state == "lost"
        and "removed from HTCondor's queue (via condor_rm (by user root)); its tasks" in found.reason
    )


async def test_what_it_waits_for(world):
    world.site.room["T2_A"] = ()
    cluster = await world.create()
    for _ in range(3):
        await world.turn()
    assert "T2_A has no worker node in the pool at the moment" in world.get(cluster).reason
    asked = len(world.get(cluster).events)
    await world.turn()
    assert len(world.get(cluster).events) == asked


async def test_an_agent_that_is_connected_and_silent_is_told(world):
    cluster = await world.create()
    await world.turn()
    await world.site.advance()
    await world.site.agents[cluster].stop()
    await world.turn()
    found = world.get(cluster)
    assert found.state == "starting" and "is connected, but its job agent does not answer" in found.reason


async def test_an_expired_login_fails_with_what_to_do(world):
    world.hub.expired.add("cms-analyst")
    cluster = await world.create()
    await world.turn()
    assert world.get(cluster).state == "failed" and "log in" in world.get(cluster).reason


async def test_the_scheduler_job_vanishes(world):
    cluster = await world.create(workers=2)
    await world.until(cluster, "running")
    await world.turn()
    await world.site.end(world.site.numbers(cluster)[0])
    await world.until(cluster, "lost")
    await world.turn()
    assert not world.site.queue and "ended or was removed" in world.get(cluster).reason


async def test_closing_waits_for_the_pool_and_needs_no_tunnel(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    world.site.tunnel_down = True
    await world.turn()
    assert "does not answer" in world.get(cluster).reason
    world.site.unreachable = True
    async with world.api(world.owner) as api:
        await api.delete(f"api/clusters/{cluster}")
    for _ in range(3):
        await world.turn()
    found = world.get(cluster)
    assert found.state == "closing" and "access point does not answer; trying again" in found.reason
    assert [event.sentence for event in found.events].count(found.reason) == 1
    world.site.unreachable = False
    await world.until(cluster, "closed")


async def test_closing_before_the_submit_submits_nothing(world):
    cluster = await world.create()
    async with world.api(world.owner) as api:
        await api.delete(f"api/clusters/{cluster}")
    await world.until(cluster, "closed")
    assert world.site.submitted == []


async def test_the_lifetime_ends(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    world.clock.offset = 3601
    await world.until(cluster, "closed")
    assert any("lifetime" in event.sentence for event in world.get(cluster).events)


async def test_trouble_with_one_person_stops_nobody_else(world):
    mine = await world.create()
    world.hub.expired.add("cms-colleague")
    world.owner = world.hub.token_of("cms-colleague")
    theirs = await world.create()
    await world.until(mine, "running")
    assert world.get(theirs).state == "failed"


async def test_a_fault_of_ours_in_one_cluster_stops_no_other(world):
    broken, sound = await world.create(), await world.create()
    folder = keys(world, broken).folder
    folder.parent.mkdir(exist_ok=True)
    folder.mkdir()  # with nothing in it
    await world.until(sound, "running")
    assert world.get(broken).state in ("requested", "failed")


async def test_a_job_that_arrives_after_all_is_over_is_removed(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    order = world.site.submitted[0]
    async with world.api(world.owner) as api:
        await api.delete(f"api/clusters/{cluster}")
    await world.until(cluster, "closed")
    world.site.take(order, "cms-analyst")
    world.clock.offset = 120
    await world.turn()
    assert not world.site.queue


@pytest.fixture
def forge(world):
    """Puts a job of somebody else into the queue that says it is of this cluster."""

    def put(cluster, account="cms-colleague", **lies):
        order = dataclasses.replace(world.site.submitted[0], cluster=cluster)
        (job,) = world.site.take(order, "cms-colleague")
        forged = world.site.queue[job.id]
        forged.job = dataclasses.replace(job, account=account, **lies)
        return job.id

    return put


async def test_a_job_of_another_account_is_never_the_scheduler(world, forge, caplog):
    """The id of a cluster can be read in the queue before its own job is there."""
    first = await world.create()
    await world.until(first, "running")
    cluster = await world.create()
    lie = forge(cluster, state=JobState.RUNNING)
    await world.until(cluster, "running")
    await world.turn()
    tracked = {job.job for job in world.get(cluster).jobs}
    assert lie not in tracked and lie in world.site.queue
    assert caplog.text.count(f"job {lie} of cms-colleague claims to be of cluster {cluster}") == 1


@pytest.mark.parametrize("state", list(JobState))
async def test_jobs_of_another_account_change_nothing(world, forge, state):
    cluster = await world.create(workers=2)
    await world.until(cluster, "running")
    await world.turn()
    await world.site.advance()
    before = world.get(cluster)
    lies = [forge(cluster, state=state), forge(cluster, state=state, role=Role.WORKER, worker=f"{cluster[:8]}-1")]
    for _ in range(3):
        await world.turn()
    now = world.get(cluster)
    assert (now.state, now.reason, now.workers_lost) == ("running", "", 0)
    assert [(job.worker, job.job) for job in now.jobs] == [(job.worker, job.job) for job in before.jobs]
    async with world.api(world.owner) as api:
        await api.delete(f"api/clusters/{cluster}")
    await world.until(cluster, "closed")
    assert list(world.site.queue) == lies, "nobody removes the jobs of others, nor waits for them"


async def test_thousands_of_jobs_with_ids_of_no_cluster(world, forge):
    cluster = await world.create()
    await world.until(cluster, "running")
    for number in range(3 * IDS_AT_ONCE):
        forge(f"{number:032x}", state=JobState.RUNNING)
    async with world.api(world.owner) as api:
        await api.delete(f"api/clusters/{cluster}")
    await world.turn()
    await world.until(cluster, "closed")


async def test_jobs_of_another_facility_are_left_alone(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    strange = world.site.queue["1.0"]
    strange.order = dataclasses.replace(strange.order, cluster="f" * 32)
    await world.turn()
    assert "1.0" in world.site.queue


async def test_workers_that_die_are_replaced(world):
    cluster = await world.create(workers=2)
    await world.until(cluster, "running")
    await world.turn()
    await world.site.end(world.site.numbers(cluster)[1])
    for _ in range(3):
        await world.turn()
        await world.site.advance()
    names = {queued.job.worker for queued in world.site.queue.values()}
    assert names == {"", f"{cluster[:8]}-2"} and world.get(cluster).workers_lost == 1


async def test_a_cluster_in_trouble_is_not_tried_at_each_round(world):
    cluster = await world.create()
    world.site.loses_answers = True
    await world.turn()
    tried = len(world.site.submitted)
    await world.turn()
    assert len(world.site.submitted) == tried
    world.parts.reconciler.wake(cluster)
    world.site.loses_answers = False
    await world.until(cluster, "running")


async def test_the_pace(world):
    cluster = await world.create()
    assert await world.parts.reconciler.round() == BUSY_SECONDS
    await world.parts.reconciler.settle()
    await world.until(cluster, "running")
    assert await world.parts.reconciler.round() == CALM_SECONDS


async def test_one_token_serves_several_actions(world):
    cluster = await world.create(workers=2)
    await world.until(cluster, "running")
    await world.turn()
    assert world.hub.condor_tokens_given == ["cms-analyst"]


async def test_a_held_worker_is_told(world):
    cluster = await world.create(workers=2)
    await world.until(cluster, "running")
    async with world.api(world.owner) as api:
        await api.patch(f"api/clusters/{cluster}", json={"workers": 3})
    await world.turn()
    world.site.holds = "no disk"
    await world.site.advance()
    await world.turn()
    states = {queued.job.state for queued in world.site.queue.values()}
    assert states == {JobState.RUNNING, JobState.HELD} and "no disk" in world.get(cluster).reason


@pytest.mark.parametrize("memory", [2**28, 2**30, 2**31, 4 * 2**30, 5 * 2**30 + 7, 2**40])
def test_the_first_worker_gets_what_was_asked_for(memory):
    assert first_worker_memory(scheduler_memory(memory)) >= memory


async def test_the_job_agent_can_read_its_files(world):
    cluster = await world.create(workers=2)
    await world.until(cluster, "running")
    await world.turn()
    first, second = world.site.submitted
    job = read_job_kit(first.files["job.json"].decode())
    assert (job.dask_cluster, job.forwarder.port, job.nthreads) == (cluster, 2222, 1)
    worker = read_worker_kit(second.workers[f"{cluster[:8]}-1"]["worker.json"].decode())
    assert (worker.name, worker.memory_limit) == (f"{cluster[:8]}-1", 2**31)
    needed = {CA, SCHEDULER_CERTIFICATE, WORKER_CERTIFICATE, SSH_CERTIFICATE, *SECRET_FILES}
    assert needed <= set(first.files) and {CA, WORKER_CERTIFICATE, WORKER_KEY} <= set(second.files)


async def test_the_forwarder_is_away_when_all_is_over(world):
    world.site.holds = "no image"
    cluster = await world.create()
    world.site.tunnel_down = world.site.cannot_forget = True
    await world.until(cluster, "failed")
    await world.turn()
    await world.turn()
    assert "no image" in world.get(cluster).reason and not world.get(cluster).forgotten
    assert not keys(world, cluster).exist()
    world.site.cannot_forget = False
    world.clock.offset = 60
    await world.turn()
    assert world.get(cluster).forgotten


async def test_a_pool_that_answers_again(world):
    world.site.unreachable = True
    cluster = await world.create()
    assert await world.parts.reconciler.round() == BUSY_SECONDS
    assert world.get(cluster).reason == "the access point does not answer; trying again"
    world.site.unreachable = False
    await world.until(cluster, "running")
    assert world.get(cluster).reason == ""


async def test_whoever_wakes_the_loop_again_and_again_does_not_make_it_run(world, monkeypatch):
    looks = 0
    look = world.site.jobs

    async def jobs(pool):
        nonlocal looks
        looks += 1
        loop.call_soon(world.parts.reconciler.wake)
        return await look(pool)

    monkeypatch.setattr(world.site, "jobs", jobs)
    loop = asyncio.get_running_loop()
    await world.create()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5 * REST_SECONDS):
            await world.parts.reconciler.keep_matching()
    assert 2 <= looks <= 6


@pytest.fixture
async def hastening(world):
    """The loop that needs no look at the pool."""
    loop = asyncio.create_task(world.parts.reconciler.keep_hastening())
    yield
    loop.cancel()


async def becomes(world, cluster, state):
    async with asyncio.timeout(10):
        async with world.api(world.owner) as api:
            found = (await api.get(f"api/clusters/{cluster}")).json()
            while found["state"] != state:
                found = (await api.get(f"api/clusters/{cluster}", params={"after": found["events"][-1]["at"]})).json()


async def test_from_asked_for_to_running_without_a_look_at_the_pool(world, hastening):
    world.site.jobs = None
    cluster = await world.create()
    async with asyncio.timeout(10):
        while not world.site.queue:
            await asyncio.sleep(0)
    await world.parts.reconciler.settle()
    await world.site.advance()
    world.clock.offset += REST_SECONDS
    world.parts.reconciler.hasten(cluster)
    await becomes(world, cluster, "running")
    assert world.get(cluster).workers_running == 1


async def test_hurry_without_reason_begins_nothing(world, hastening):
    cluster = await world.create()
    await world.until(cluster, "running")
    before = len(world.get(cluster).events)
    for name in (cluster, "f" * 32):
        world.parts.reconciler.hasten(name)
    async with asyncio.timeout(10):
        while not world.parts.reconciler._hasty.empty():
            await asyncio.sleep(0)
    await world.parts.reconciler.settle()
    assert len(world.get(cluster).events) == before
