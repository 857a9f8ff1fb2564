"""Tokens in plain batch jobs: what is asked for and found, and on real daemons that a running job reads the new one."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from condor_client import Client

from af_hub.condor import credmon
from af_hub.condor.ads import these_jobs
from af_hub.condor.jobtoken import Owner, credd_address, read_owners, with_token
from af_hub.condor.pool import CondorPool
from af_hub.errors import PoolAway, Refused
from af_hub.testing.condor import RealPool
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import comes_true

DESCRIPTION = "executable = job.sh\nqueue\n"


@pytest.mark.parametrize(
    "text, asks",
    [
        pytest.param(DESCRIPTION, True, id="plain"),
        pytest.param("My.OAuthServicesNeeded = undefined\n" + DESCRIPTION, False, id="wants none"),
        pytest.param(' + oauthservicesneeded="iam"\n' + DESCRIPTION, False, id="asks itself"),
        pytest.param("use_oauth_services = iam\n" + DESCRIPTION, False, id="asks by command"),
        pytest.param("# OAuthServicesNeeded = x\n" + DESCRIPTION, True, id="a comment"),
    ],
)
def test_descriptions_ask_for_a_token_unless_they_say_something(text: str, asks: bool) -> None:
    found = with_token(text)
    assert found == ('My.OAuthServicesNeeded = "iam"\n' + text if asks else text)


def test_owners_are_those_whose_token_the_access_point_saw() -> None:
    ad = {"Owner": "cms-ada", "AuthTokenIssuer": "https://iam/", "AuthTokenSubject": "1"}
    assert read_owners([ad, ad, {**ad, "AuthTokenSubject": None}, {"Owner": "x"}]) == {
        Owner("cms-ada", "https://iam/", "1")
    }


def test_credd_is_behind_the_same_port() -> None:
    before = "<10.0.0.1:9618?addrs=10.0.0.1-9618&alias=cm.test&noUDP&sock=schedd_32_1c3d>"
    assert credd_address(before) == "<10.0.0.1:9618?addrs=10.0.0.1-9618&alias=cm.test&noUDP&sock=credd>"
    assert credd_address("<h:1?sock=schedd_1_2&x=y>") == "<h:1?sock=credd&x=y>"


def test_stored_tokens_become_ready_whole_and_private(tmp_path: Path) -> None:
    account = tmp_path / "cms-ada"
    account.mkdir()
    (account / "iam.top").write_text("first")
    (account / "iam.use.tmp").write_text("of one who was killed")
    (tmp_path / "pid").write_text("1")
    now = time.time()
    assert len(credmon.hand_on(str(tmp_path), 60, now)) == 1
    ready = account / "iam.use"
    assert ready.read_text() == "first" and stat.S_IMODE(ready.stat().st_mode) == 0o600
    assert credmon.hand_on(str(tmp_path), 60, now) == []
    (account / "iam.top").write_text("second")
    os.utime(account / "iam.top", (now - 10, now - 10))
    credmon.hand_on(str(tmp_path), 60, now)
    assert ready.read_text() == "second", "an older time is a change, too"
    credmon.hand_on(str(tmp_path), 60, now + 100)
    assert sorted(path.name for path in account.iterdir()) == []


def test_one_account_that_cannot_be_read_hinders_no_other(tmp_path: Path) -> None:
    for name in "a", "b":
        (tmp_path / name).mkdir()
        (tmp_path / name / "iam.top").write_text("t")
    (tmp_path / "a" / "iam.use").mkdir()
    assert any("failed" in line for line in credmon.hand_on(str(tmp_path), 60, time.time()))
    assert (tmp_path / "b" / "iam.use").read_text() == "t"


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_program_hands_on_at_once_and_ends_without_a_trace(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "a folder"
    (folder / "cms-ada").mkdir(parents=True)
    program = subprocess.Popen([sys.executable, "-I", "-S", credmon.__file__, folder], cwd=tmp_path)
    try:
        assert comes_true(lambda: (folder / "CREDMON_COMPLETE").exists(), 10)
        assert (folder / "pid").read_text() == str(program.pid)
        (folder / "cms-ada/iam.top").write_text("t")
        program.send_signal(signal.SIGHUP)
        assert comes_true(lambda: (folder / "cms-ada/iam.use").exists(), credmon.PAUSE_SECONDS / 2)
        program.send_signal(number)
        assert program.wait(10) == 0
    finally:
        program.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["a folder"]


READER = """executable = /bin/sh
transfer_executable = False
arguments = "-c 'while sleep 0.1; do cp $BEARER_TOKEN_FILE new && mv new seen; done'"
should_transfer_files = YES
environment = "COLOUR='light blue'"
request_memory = 10MB
request_disk = 1MB
queue
"""


def seen(pool: RealPool) -> str:
    """What the running job found last in the file that tools look into."""
    for path in pool.folder.glob("T2_*/execute/dir_*/seen"):
        try:
            return path.read_text()
        except OSError:
            pass
    return ""


@pytest.mark.real
@pytest.mark.usefixtures("clean")
async def test_running_job_reads_the_new_token(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str], iam: DemoIAM
) -> None:
    first, second = iam.mint("cms-analyst", "storage.read:/"), iam.mint("cms-analyst", "storage.read:/")
    await pool.keep_token(token("cms-analyst"), first)
    (job,) = await pool.submit(token("cms-analyst"), with_token(READER), {})
    assert await asyncio.to_thread(comes_true, lambda: seen(condor_pool) == first, 30)
    (ad,) = await pool.query(condor_pool.reader_token, these_jobs([job]), ["Environment", "OAuthServicesNeeded"])
    assert "COLOUR=light' 'blue" in ad["Environment"] and first not in str(ad)
    analyst = Owner("u-cms-cms-analyst", iam.issuer, iam.users["cms-analyst"].subject)
    assert await pool.token_owners(condor_pool.reader_token) == {analyst}
    pushed = time.monotonic()
    await pool.keep_token(token("cms-analyst"), second)
    assert await asyncio.to_thread(comes_true, lambda: seen(condor_pool) == second, 10)
    assert time.monotonic() - pushed < 6
    left = [path for path in condor_pool.folder.glob("access-point/spool/**/*") if path.is_file()]
    assert not any(second.encode() in path.read_bytes() for path in left), (
        "the token's only place is the credd's folder"
    )


@pytest.mark.real
@pytest.mark.long
@pytest.mark.usefixtures("clean")
async def test_who_may_keep_a_token(condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]) -> None:
    with pytest.raises(Refused):
        await pool.keep_token(token("outsider"), "x.y.z")
    with pytest.raises(Refused):
        await pool.keep_token(token("cms-analyst", "openid wlcg.groups"), "x.y.z")
    assert not (condor_pool.credentials / "outsider").exists()
    await pool.keep_token(token("cms-analyst"), "x.y.z")
    left = {path.name: stat.S_IMODE(path.stat().st_mode) for path in condor_pool.credentials.glob("u-cms-*/*.top")}
    assert left == {"iam.top": 0o600} and stat.S_IMODE(condor_pool.credentials.stat().st_mode) == 0o700


@pytest.mark.real
@pytest.mark.long
@pytest.mark.usefixtures("clean")
async def test_tokens_of_others_stay_as_they_are(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str], client: Callable[..., Client]
) -> None:
    mine, other = "u-cms-cms-analyst", "u-cms-cms-colleague"
    await pool.keep_token(token("cms-colleague"), "x.y.z")
    tricks = [(user, f"{way}/iam") for user in ("", f"{mine}@localhost") for way in (f"../{other}", f"x/../../{other}")]
    tricks += [
        (user, service) for user in (f"{other}@localhost", f"*/../{other}@x", f"{other}*@x") for service in ("iam", "")
    ]
    tricks += [("..@x", f"{other}/iam"), ("", "../../../spool/evil"), ("*@x", f"../{other}/iam")]
    wanted = [(what, *trick) for what in ("add", "delete") for trick in tricks]
    wanted.append(allowed := ("add", f"{mine}@localhost", "iam"))
    found = await asyncio.to_thread(client("cms-analyst").attack, "keep_tokens", condor_pool.schedd, json.dumps(wanted))
    assert found == {"done": [[*allowed]]}
    assert (condor_pool.credentials / other / "iam.top").read_text() == "x.y.z"
    assert not list(condor_pool.folder.glob("access-point/**/evil*"))


@pytest.mark.real
@pytest.mark.long
@pytest.mark.usefixtures("clean")
async def test_access_point_without_a_credd_says_so(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    master = ("-daemon", "credd", "-name", "access-point@localhost")
    condor_pool.tool("condor_off", *master)
    try:
        with pytest.raises(PoolAway, match="condor_credd"):
            await pool.keep_token(token("cms-analyst"), "x.y.z")
    finally:
        condor_pool.tool("condor_on", *master)
    deadline = time.monotonic() + 30
    while True:
        try:
            return await pool.keep_token(token("cms-analyst"), "x.y.z")
        except PoolAway:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)


@pytest.mark.real
@pytest.mark.long
@pytest.mark.usefixtures("clean")
async def test_job_that_came_before_its_token_goes_on_by_itself(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str], iam: DemoIAM
) -> None:
    (job,) = await pool.submit(token("facility-admin"), with_token(READER), {})

    async def state() -> list[object]:
        (ad,) = await pool.query(condor_pool.reader_token, these_jobs([job]), ["JobStatus", "HoldReasonCode"])
        return [ad["JobStatus"], ad.get("HoldReasonCode")]

    deadline = time.monotonic() + 30
    while await state() != [5, 4]:
        assert time.monotonic() < deadline, await state()
    mine = iam.mint("facility-admin", "storage.read:/")
    await pool.keep_token(token("facility-admin"), mine)
    assert await asyncio.to_thread(comes_true, lambda: seen(condor_pool) == mine, 150)
