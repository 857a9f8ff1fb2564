"""On real daemons: how the pool is shared between groups, and a static mapfile."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from condor_client import Client

from af_hub.policy.load import load_policy
from af_hub.testing.condor import ACCESS, CENTRAL, CONFIGURATION, RealPool, map_demo_people
from af_hub.testing.condor_person import account_of
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import Daemon, comes_true

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("clean")]

FACILITY = CONFIGURATION.parent / "facility.yaml"
JOB = (
    "executable = /bin/sleep\ntransfer_executable = False\narguments = 600\nrequest_memory = 10MB\nrequest_disk = 1MB\n"
    "should_transfer_files = YES\nrequest_cpus = 1\njob_max_vacate_time = 1\n"
)
# Of sixteen cores: four for CMS, eight for ICSC, what is left for the others.
GROUPS = """
accounting_groups:
  cms: {quota: 0.25}
  cms.itcms: {quota: 1.0, priority_factor: 10}
  icsc: {quota: 0.5}
  af: {}
"""


def submit(pool: RealPool, somebody: Client, number: int) -> None:
    (somebody.folder / "job.sub").write_text(f"{JOB}queue {number}\n")
    done = somebody.tool("condor_submit", "-spool", "-name", pool.schedd, "job.sub")
    assert done.returncode == 0, done.stderr


def running(pool: RealPool) -> Counter[str]:
    return Counter(pool.tool("condor_q", "-allusers", "-constraint", "JobStatus == 2", "-af", "AcctGroup").split())


@pytest.fixture
def watched(condor_pool: RealPool, iam: DemoIAM, tmp_path: Path) -> Iterator[Path]:
    """The policy that a watcher of access point and central manager keeps in force."""
    policy, people = tmp_path / "facility.yaml", tmp_path / "people.json"
    policy.write_text(FACILITY.read_text())
    known = [{"issuer": iam.issuer, "subject": one.subject, "username": one.username} for one in iam.users.values()]
    people.write_text(json.dumps(known))
    argv = [sys.executable, "-m", "af_hub.condor.watch", "--policy", str(policy), "--people", str(people)]
    argv += ["--into", str(condor_pool.mapping_table.parent), "--tell", "schedd", "--tell", "negotiator"]
    try:
        with Daemon(
            "watch", [*argv, "--ready-fd", "{ready_fd}"], tmp_path / "log", condor_pool.operator_environment()
        ) as watch:
            watch.ready()
            yield policy
    finally:
        map_demo_people(condor_pool, iam)
        condor_pool.share(load_policy(FACILITY, lenient=True))


@pytest.mark.long
async def test_a_group_beyond_its_quota_waits_until_the_policy_lets_it(
    condor_pool: RealPool, client: Callable[..., Client], watched: Path
) -> None:
    watched.write_text(FACILITY.read_text() + GROUPS)

    def shown() -> str:
        return condor_pool.tool("condor_userprio", "-allusers", "-grouporder")

    assert await asyncio.to_thread(comes_true, lambda: "\ncms.itcms " in shown(), 15), shown()
    submit(condor_pool, client("cms-analyst"), 8)
    assert await asyncio.to_thread(comes_true, lambda: running(condor_pool)["cms.itcms"] == 4, 60)
    # Jobs of others start after that, so the negotiator has looked at the four that wait, and there is room.
    submit(condor_pool, client("icsc-analyst"), 3)
    submit(condor_pool, client("facility-admin"), 1)
    wanted = {"cms.itcms": 4, "icsc": 3, "af": 1}
    assert await asyncio.to_thread(comes_true, lambda: running(condor_pool) == wanted, 60), running(condor_pool)
    # A person's own factor stays what it was where HTCondor knows them already.
    line = next(line for line in shown().splitlines() if line.startswith("cms.itcms "))
    assert line.split()[3:5] == ["10.00", "4"], shown()
    watched.write_text(
        FACILITY.read_text() + GROUPS.replace("0.25", "0.25, surplus: true").replace("1.0", "1.0, surplus: true")
    )
    assert await asyncio.to_thread(comes_true, lambda: running(condor_pool)["cms.itcms"] == 8, 90), shown()


@pytest.fixture
def static(condor_pool: RealPool, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Have collector and schedd read a mapfile of ours, with keys of this kind, which is empty at first."""
    configs = [condor_pool.folder / role / "etc/condor_config" for role in (CENTRAL, ACCESS)]
    before = [config.read_text() for config in configs]

    def read(hashed: bool) -> Path:
        for config, text in zip(configs, before, strict=True):
            config.write_text(
                f"{text}\nCERTIFICATE_MAPFILE = {tmp_path}/mapfile\nCERTIFICATE_MAPFILE_ASSUME_HASH_KEYS = {hashed}\n"
            )
        return tmp_path / "mapfile"

    try:
        yield read
    finally:
        for config, text in zip(configs, before, strict=True):
            config.write_text(text)
        for daemon in ("schedd", "collector"):
            condor_pool.tool("condor_reconfig", "-daemon", daemon)


RECONFIG = "sh -c 'condor_reconfig -daemon schedd && condor_reconfig -daemon collector'"


def make(pool: RealPool, iam: DemoIAM, into: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """``af-hub mapfile`` from the IAM's list of people."""
    token = into.with_name("scim-token")
    token.touch(0o600)
    token.write_text(iam.mint("facility-admin", "scim:read"))
    argv = [Path(sys.executable).with_name("af-hub"), "mapfile", "--scim", iam.url + "scim", "--token-file", token]
    argv += ["--into", into, "--facility", FACILITY, "--reconfig", RECONFIG, *more]
    return subprocess.run(
        argv, env=os.environ | pool.operator_environment(), capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("keys", ["hash", pytest.param("regex", marks=pytest.mark.long)])
def test_a_static_mapfile_from_the_iams_list(
    condor_pool: RealPool, failing_iam: DemoIAM, static: Callable[..., Path], tmp_path: Path, keys: str
) -> None:
    into = static(keys == "hash")

    def account(username: str) -> str | None:
        scope = "compute.read compute.create compute.modify compute.cancel wlcg.groups"
        token = failing_iam.mint(username, scope=scope, audience=condor_pool.audience, profile="wlcg")
        return account_of(condor_pool, token, tmp_path / username)

    done = make(condor_pool, failing_iam, into, "--keys", keys)
    assert done.returncode == 0, done.stderr
    assert account("cms-analyst") == "u-cms-cms-analyst" and account("outsider") is None
    failing_iam.users["cms-analyst"] = failing_iam.users["cms-analyst"].__class__(
        "cms-analyst", failing_iam.users["cms-analyst"].subject, groups=("/cms",)
    )
    done = make(condor_pool, failing_iam, into, "--keys", keys)
    assert done.returncode == 0 and "-SCITOKENS" in done.stdout, done.stderr
    assert account("cms-analyst") is None and account("cms-colleague") == "u-cms-cms-colleague"
