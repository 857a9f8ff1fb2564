"""On real daemons: who gets in and as whom, and that jobs run where they should."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest

from af_hub.condor.ads import DASK_JOBS, DaskJob, these_jobs
from af_hub.condor.jobstatus import JobState
from af_hub.condor.pool import CondorPool
from af_hub.condor.submit import JobDescription, describe_job
from af_hub.condor.why import Ending
from af_hub.errors import PoolAway, Refused
from af_hub.job import start
from af_hub.testing.condor import CONFIGURATION, RealPool, map_demo_people
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import Daemon, comes_true

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("clean")]

GIB = 2**30


def description(argument: str = "60", **changed: Any) -> str:
    """A job that sleeps, instead of a job agent."""
    values: dict[str, Any] = {
        "cluster": "c" * 32,
        "role": "scheduler",
        "site": "T2_B",
        "python": PurePath("/bin/sleep"),
        "arguments": ("none",),
        "files": (),
        "cores": 1,
        "memory": GIB,
        "lifetime": 600,
    }
    return describe_job(JobDescription(**{**values, **changed})).replace('"none"', argument)


async def until(
    condor_pool: RealPool, pool: CondorPool, ids: tuple[str, ...], done: Callable[[list[DaskJob]], bool]
) -> list[DaskJob]:
    """Ask for these jobs until ``done``; at most 30 s."""
    deadline = time.monotonic() + 30
    while True:
        jobs = [job for job in await pool.jobs(condor_pool.reader_token) if job.id in ids]
        if done(jobs):
            return jobs
        assert time.monotonic() < deadline, jobs


async def until_free(condor_pool: RealPool, pool: CondorPool, **wanted: int) -> None:
    """Ask what is free until it is this; the sites tell the collector some seconds later."""
    deadline = time.monotonic() + 30
    while not wanted.items() <= (found := await free_cores(condor_pool, pool)).items():
        assert time.monotonic() < deadline, found


async def free_cores(condor_pool: RealPool, pool: CondorPool) -> dict[str, int]:
    return {name: site.cores_free for name, site in (await pool.slots(condor_pool.reader_token)).items()}


async def until_gone(condor_pool: RealPool, seconds: float = 10) -> None:
    """Wait until no spooled file and no sandbox is left; ten seconds, as promised to the owner of the keys in them."""
    deadline = time.monotonic() + seconds
    while left := folders_of_jobs(condor_pool.folder):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.05)


def folders_of_jobs(folder: Path) -> list[Path]:
    return [*folder.glob("access-point/spool/*/*/cluster*"), *folder.glob("*/execute/dir_*")]


async def test_job_runs_at_the_site_that_was_asked_for(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    """Through CCB: the startd at T2_B gives no other address than its broker's."""
    ids = await pool.submit(token("cms-analyst"), description("60"), {})
    jobs = await until(condor_pool, pool, ids, lambda jobs: jobs[0].state is JobState.RUNNING)
    assert (jobs[0].account, jobs[0].cluster, jobs[0].role) == ("u-cms-cms-analyst", "c" * 32, "scheduler")
    (ad,) = await pool.query(
        condor_pool.reader_token, these_jobs(ids), ["RemoteHost", "StartdIpAddr", "StartdPrincipal"]
    )
    assert ad["RemoteHost"].endswith("@t2-b.af-hub.test") and "CCBID=" in ad["StartdIpAddr"]
    assert "PrivNet=T2_B.af-hub.test" in ad["StartdIpAddr"]
    await until_free(condor_pool, pool, T2_B=condor_pool.cpus - 1)
    assert await pool.remove(token("cms-analyst"), these_jobs(ids)) == 1
    await until(condor_pool, pool, ids, lambda jobs: not jobs)


@pytest.mark.parametrize(
    "username, account, charged",
    [
        ("cms-analyst", "u-cms-cms-analyst", "cms.itcms"),
        ("cms-colleague", "u-cms-cms-colleague", "cms.itcms"),
        ("icsc-analyst", "u-icsc-icsc-analyst", "icsc"),
        ("facility-admin", "u-af-facility-admin", "af"),
    ],
)
async def test_account_and_accounting_group_are_the_policys(
    condor_pool: RealPool,
    pool: CondorPool,
    token: Callable[..., str],
    iam: DemoIAM,
    username: str,
    account: str,
    charged: str,
) -> None:
    """Whatever the submitter writes; and the ad says whose token it was."""
    wish = "accounting_group = atlas\naccounting_group_user = u-cms-cms-colleague\nqueue\n"
    ids = await pool.submit(token(username), description().replace("queue\n", wish), {})
    names = ["Owner", "User", "AcctGroup", "AcctGroupUser", "AccountingGroup", "AuthTokenSubject", "AuthTokenIssuer"]
    (ad,) = await pool.query(condor_pool.reader_token, these_jobs(ids), names)
    assert {name: ad[name] for name in names} == {
        "Owner": account,
        "User": f"{account}@af-hub.test",
        "AcctGroup": charged,
        "AcctGroupUser": account,
        "AccountingGroup": f"{charged}.{account}",
        "AuthTokenSubject": iam.users[username].subject,
        "AuthTokenIssuer": iam.issuer,
    }


async def test_workers_are_one_cluster_with_their_own_files(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    names = tuple(f"cccccccc-{number}" for number in range(1, 5))
    text = description(
        "60", role="worker", workers=names, files=("tls-ca.pem",), worker_files=("worker.json",), site="T2_A"
    )
    files = {"tls-ca.pem": b"ca", **{f"{name}/worker.json": name.encode() for name in names}}
    ids = await pool.submit(token("cms-analyst"), text, files)
    jobs = await until(condor_pool, pool, ids, lambda jobs: all(job.state is JobState.RUNNING for job in jobs))
    assert {job.id: job.worker for job in jobs} == dict(zip(ids, names, strict=True))

    def told() -> list[str]:
        """A job counts as running before its files are there."""
        return sorted(path.read_text() for path in (condor_pool.folder / "T2_A/execute").glob("dir_*/worker.json"))

    await asyncio.to_thread(comes_true, lambda: told() == list(names), 10)
    assert told() == list(names)
    sandboxes = [path.parent for path in (condor_pool.folder / "T2_A/execute").glob("dir_*/worker.json")]
    assert {folder.stat().st_mode & 0o777 for folder in sandboxes} == {0o700}
    assert {(folder / "worker.json").stat().st_mode & 0o777 for folder in sandboxes} == {0o600}
    await pool.remove(token("cms-analyst"), these_jobs(ids))
    await until(condor_pool, pool, ids, lambda jobs: not jobs)
    await until_gone(condor_pool)


async def test_scheduler_that_fails_is_held_with_its_reason(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    text = description("3", python=PurePath("/bin/sh"))
    ids = await pool.submit(token("cms-analyst"), text.replace("arguments = 3", "arguments = \"-c 'exit 3'\""), {})
    jobs = await until(condor_pool, pool, ids, lambda jobs: jobs[0].state is JobState.HELD)
    assert "the job agent ended with status 3" in jobs[0].reason


WORDS = """
import start
for attribute, value in (("AFSays", "told"), ("Requirements", "True"), ("TransferInput", "/etc/passwd"), ("AFCluster", "x"),
                         ("AccountingGroup", "icsc.x"), ("AcctGroup", "icsc")):
    start.ATTRIBUTE = attribute
    print(attribute, start.say(value))
raise ValueError("no more")
"""


async def test_job_says_why_it_dies_and_changes_nothing_else(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    """Root at a site can do what the job can: it must not move the job to another site."""
    text = description("start.py words", python=PurePath(sys.executable), files=("start.py", "words.py"))
    files = {"start.py": Path(start.__file__).read_bytes(), "words.py": WORDS.encode()}
    ids = await pool.submit(token("cms-analyst"), text, files)
    jobs = await until(condor_pool, pool, ids, lambda jobs: jobs[0].state is JobState.HELD)
    assert jobs[0].reason == "the job agent ended with status 1" and jobs[0].starts == 1
    assert jobs[0].says.endswith("ValueError: no more")
    (ad,) = await pool.query(
        condor_pool.reader_token,
        these_jobs(ids),
        ["Requirements", "TransferInput", "AFCluster", "AcctGroup", "AccountingGroup"],
    )
    assert 'TARGET.SiteName == "T2_B"' in ad["Requirements"]
    assert ad["TransferInput"] == "start.py,words.py" and ad["AFCluster"] == "c" * 32
    assert (ad["AcctGroup"], ad["AccountingGroup"]) == ("cms.itcms", "cms.itcms.u-cms-cms-analyst")


async def test_how_a_job_ended_is_remembered(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    removed, ended = [await pool.submit(token("cms-analyst"), description(argument), {}) for argument in ("60", "0")]
    await asyncio.to_thread(condor_pool.tool, "condor_rm", removed[0])
    await until(condor_pool, pool, (*removed, *ended), lambda jobs: not jobs)
    assert await pool.ending(condor_pool.reader_token, ended[0]) == Ending(True, "it ended by itself")
    found = await pool.ending(condor_pool.reader_token, removed[0])
    assert found == Ending(False, "it was removed from HTCondor's queue (via condor_rm (by user root))")
    assert await pool.ending(condor_pool.reader_token, "999999.0") is None


async def test_job_that_will_not_end_is_killed(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    text = description("none", python=PurePath("/bin/sh"), files=("ssh.key",))
    stubborn = "\"-c 'trap : TERM; while :; do read -t 60 line < /dev/zero; done'\""
    ids = await pool.submit(
        token("cms-analyst"), text.replace("arguments = none", f"arguments = {stubborn}"), {"ssh.key": b"k"}
    )
    await until(condor_pool, pool, ids, lambda jobs: jobs[0].state is JobState.RUNNING)
    await pool.remove(token("cms-analyst"), these_jobs(ids))
    await until_gone(condor_pool, 20)


async def test_job_that_ends_well_leaves_nothing(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    ids = await pool.submit(token("cms-analyst"), description("0", files=("ssh.key",)), {"ssh.key": b"k"})
    await until(condor_pool, pool, ids, lambda jobs: not jobs)
    await until_gone(condor_pool)


async def test_sites_set_the_environment_of_jobs(iam: DemoIAM, condor_pool: RealPool, tmp_path: Path) -> None:
    """Also proves that a second pool starts beside the first, in a folder with a blank."""
    with RealPool(
        tmp_path / "a pool",
        condor_pool.prefix,
        {"T2_X": "127.0.1.1"},
        worker_environment={"A": "two 'words'", "B": '"'},
    ) as second:
        map_demo_people(second, iam)
        mine = CondorPool(second.collector, second.schedd, str(second.ca_file))
        mint = iam.mint(
            "cms-analyst", "compute.read compute.create compute.modify compute.cancel wlcg.groups", second.audience
        )
        ids = await mine.submit(mint, description("60", site="T2_X"), {})
        await until(second, mine, ids, lambda jobs: jobs[0].state is JobState.RUNNING)
        # HTCondor says "running" about a second before the program runs.
        deadline = time.monotonic() + 20
        while not any(
            b"A=two 'words'" in found and b'B="' in found for found in environments_of(b"/bin/sleep\x0060\x00")
        ):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def environments_of(command: bytes) -> list[bytes]:
    """The environment of each process with this command line."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if read(path) == command]
    return [read(process / "environ") for process in found]


def read(path: Path) -> bytes:
    """A file of a process that may have ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    "username, changed",
    [
        pytest.param("cms-analyst", {"audience": "htcondor.elsewhere"}, id="another pool's token"),
        pytest.param("cms-analyst", {"lifetime": -600}, id="over"),
        pytest.param("cms-analyst", {"scope": "openid wlcg.groups"}, id="no compute scopes"),
        pytest.param("cms-analyst", {"scope": "compute.read wlcg.groups"}, id="may only read"),
        pytest.param("cms-analyst", {"iss": "https://iam.elsewhere/"}, id="another issuer"),
        pytest.param("cms-analyst", {"sub": "somebody"}, id="never logged in"),
        pytest.param("cms-analyst", {"wlcg.groups": ["/cms"]}, id="in no group with an account"),
        pytest.param("outsider", {}, id="outsider"),
    ],
)
async def test_tokens_that_are_refused(
    pool: CondorPool, token: Callable[..., str], username: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(Refused):
        await pool.submit(token(username, **changed), description(), {})


async def test_garbage_and_foreign_signature_are_refused(pool: CondorPool, token: Callable[..., str]) -> None:
    good = token("cms-analyst")
    for wrong in ("garbage", good[:-8] + "AAAAAAAA", good.rsplit(".", 1)[0] + "."):
        with pytest.raises(Refused, match="did not accept the token"):
            await pool.submit(wrong, description(), {})


async def test_jobs_of_others_are_not_removed(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    ids = await pool.submit(token("cms-analyst"), description(), {})
    with pytest.raises(Refused, match="remove 1 job, which another account"):
        await pool.remove(token("cms-colleague"), DASK_JOBS)
    assert [job.id for job in await pool.jobs(condor_pool.reader_token)] == list(ids)


async def test_many_people_at_once_keep_their_own_names(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    people = ["cms-analyst", "icsc-analyst", "cms-colleague"] * 4
    found = await asyncio.gather(*(pool.submit(token(name), description(), {}) for name in people))
    accounts = {job.id: job.account for job in await pool.jobs(condor_pool.reader_token)}
    assert [accounts[ids[0]].removeprefix("u-cms-").removeprefix("u-icsc-") for ids in found] == people


async def test_bad_description_is_explained(pool: CondorPool, token: Callable[..., str]) -> None:
    with pytest.raises(Refused, match="cannot read the submit description"):
        await pool.submit(token("cms-analyst"), "garbage here\nqueue\n", {})
    with pytest.raises((Refused, PoolAway), match="failed to send file"):
        await pool.submit(token("cms-analyst"), description(files=("nonsuch",)), {})


async def test_failed_spool_leaves_no_job(condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]) -> None:
    with pytest.raises((Refused, PoolAway)):
        await pool.submit(token("cms-analyst"), description(files=("nonsuch",)), {})
    assert await pool.jobs(condor_pool.reader_token) == []


async def test_broken_table_maps_nobody_and_a_new_one_works_at_once(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str], iam: DemoIAM
) -> None:
    good = condor_pool.mapping_table.read_text()
    try:
        for broken in ("{", ""):
            condor_pool.mapping_table.write_text(broken)
            with pytest.raises(Refused):
                await pool.submit(token("cms-analyst"), description(), {})
        condor_pool.mapping_table.unlink()
        with pytest.raises(Refused):
            await pool.submit(token("cms-analyst"), description(), {})
    finally:
        condor_pool.mapping_table.write_text(good)
    assert await pool.submit(token("cms-analyst"), description(), {})


async def test_policy_edit_holds_within_five_seconds(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str], iam: DemoIAM, tmp_path: Path
) -> None:
    policy, people = tmp_path / "facility.yaml", tmp_path / "people.json"
    text = (CONFIGURATION.parent / "facility.yaml").read_text()
    policy.write_text(text)
    known = [{"issuer": iam.issuer, "subject": one.subject, "username": one.username} for one in iam.users.values()]
    people.write_text(json.dumps(known))
    argv = [sys.executable, "-m", "af_hub.condor.watch", "--policy", str(policy), "--people", str(people)]
    into = ["--into", str(condor_pool.mapping_table.parent), "--ready-fd", "{ready_fd}"]
    environment = condor_pool.operator_environment()

    async def charged() -> str:
        ids = await pool.submit(token("cms-analyst"), description(), {})
        (ad,) = await pool.query(condor_pool.reader_token, these_jobs(ids), ["AccountingGroup"])
        return str(ad["AccountingGroup"])

    try:
        with Daemon("watch", [*argv, *into], tmp_path / "watch.log", environment) as watch:
            watch.ready()
            assert await charged() == "cms.itcms.u-cms-cms-analyst"
            policy.write_text(text.replace("accounting_group: cms.itcms", "accounting_group: cms.urgent"))
            edited = time.monotonic()
            while await charged() != "cms.urgent.u-cms-cms-analyst":
                assert time.monotonic() < edited + 5, watch.log_tail()
            policy.write_text("broken: [")
            watch.wait_until(lambda: "kept as they were" in watch.log.read_text())
            assert await charged() == "cms.urgent.u-cms-cms-analyst"
    finally:
        map_demo_people(condor_pool, iam)


def left_over(folder: Path) -> list[bytes]:
    """Command lines of processes that have anything to do with this folder, by their environment or arguments."""
    word = str(folder).encode()
    found = (path.parent for path in Path("/proc").glob("[0-9]*/cmdline"))
    return [
        read(process / "cmdline")
        for process in found
        if word in read(process / "cmdline") or b"CONDOR_CONFIG=" + word in read(process / "environ")
    ]


OWNER = """
import sys, time
from pathlib import Path
from af_hub.testing.condor import RealPool
pool = RealPool(Path(sys.argv[1]), Path(sys.argv[2])).start()
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["stop", "owner killed", "keepers killed"])
def test_pool_leaves_no_process(condor_pool: RealPool, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "pool"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, folder, condor_pool.prefix], stdout=subprocess.PIPE)
    try:
        assert owner.stdout and owner.stdout.readline() == b"up\n"
        assert len(left_over(folder)) > 10
        if how == "keepers killed":
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                if b"keeper.py" in read(path) and str(folder).encode() in read(path.with_name("environ")):
                    subprocess.run(["kill", "-KILL", path.parent.name], check=True)
        owner.kill() if how != "stop" else owner.terminate()
        owner.wait(10)
        deadline = time.monotonic() + 15
        while left := left_over(folder):
            assert time.monotonic() < deadline, left
    finally:
        owner.kill()
        owner.wait(10)
    shutil.rmtree(folder)
