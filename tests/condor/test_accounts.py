"""Worker nodes whose HTCondor is started as root, with the shipped configuration: what `af-hub check site` finds at each.

Run by `make test` inside :mod:`af_hub.testing.accounts`, where there are accounts to run jobs as.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from af_hub.condor.check_site import OPEN, RISKS, SiteCheck
from af_hub.condor.pool import CondorPool
from af_hub.errors import Unavailable
from af_hub.testing.accounts import AS_ROOT, REASON, ROOM, SLOT_ACCOUNTS
from af_hub.testing.condor import RealPool
from af_hub.testing.condor_prefix import find_condor
from af_hub.testing.require import unavailable

pytestmark = [pytest.mark.real, pytest.mark.accounts]


def accounts(first):
    """An account for each of two slots, as the comment in worker-node.conf says; two nodes of one machine must not have the same."""
    return {f"SLOT1_{slot}_USER": list(SLOT_ACCOUNTS)[first - 2 + slot] for slot in (1, 2)}


NODES = {
    "T2_ACCOUNTS": accounts(1),
    "T2_NOBODY": {},
    # The namespace begins with a program of HTCondor's own: a private /tmp would hide it where the user's cache lies below /tmp.
    "T2_PROCESSES": {"USE_PID_NAMESPACES": "True", "MOUNT_UNDER_SCRATCH": "/var/tmp"},
    "T2_TMP": accounts(3) | {"MOUNT_UNDER_SCRATCH": "", "MOUNT_PRIVATE_DEV_SHM": "False"},
    "T2_OPEN": accounts(5) | {"JOB_EXECDIR_PERMISSIONS": "world"},
}
OF_PROCESSES = {"environment", "memory", "open files", "signals"}
SHARED = {
    "T2_ACCOUNTS": set(),
    "T2_NOBODY": {"sandbox", "private socket"} | OF_PROCESSES,
    # A PID namespace alone hides the processes, and not the keys in the folder.
    "T2_PROCESSES": {"sandbox", "private socket", "/tmp"},
    "T2_TMP": {"/tmp", "/var/tmp", "/dev/shm"},
    "T2_OPEN": {"sandbox"},
}


def start_node(pool, number, site):
    """A worker node with a folder of root's, where HTCondor wants its token and its log to be."""
    execute = ROOM / site
    prepare = 'mkdir -m 755 "$0" && chown -R 0:0 "$1" && shift && exec "$@"'
    settings = {"EXECUTE": str(execute), "CONDOR_IDS": "0.0", **NODES[site]}
    environment = [f"_condor_{name}={value}" for name, value in settings.items()]  # comes before all files
    enter = [*AS_ROOT, *environment, "sh", "-c", prepare, str(execute), str(pool.folder / site)]
    pool.start_node(site, site, f"127.0.4.{number}", enter)


@pytest.fixture(scope="module")
def reports():
    """What the check says of each of the nodes."""
    if reason := os.environ.get(REASON):
        unavailable(f"no worker node with accounts: {reason}")
    if subprocess.run([*AS_ROOT, "true"], capture_output=True).returncode:
        unavailable("accounts are to be had inside `python -m af_hub.testing.accounts`, as `make test` does it")
    try:
        prefix = find_condor()
    except Unavailable as error:
        unavailable(f"no HTCondor: {error}")
    with RealPool(ROOM / "pool", prefix, sites={}) as pool:
        credentials = (pool.credential("af-check-1"), pool.credential("af-check-2"))
        for number, site in enumerate(NODES, 1):
            start_node(pool, number, site)
        pool.daemons[0].wait_until(lambda: all(site in pool.tool("condor_status") for site in hostnames()), 60)
        asked = CondorPool(pool.collector, pool.schedd, str(pool.ca_file))
        checks = [SiteCheck(asked, site, False, credentials) for site in NODES]
        with ThreadPoolExecutor(len(NODES)) as threads:
            yield dict(zip(NODES, threads.map(lambda check: check.run(90), checks), strict=True))


def hostnames():
    return [site.lower().replace("_", "-") for site in NODES]


@pytest.mark.parametrize("site", NODES)
def test_what_two_owners_share_at_a_node(reports, site):
    found = {finding.what: finding.state for finding in reports[site].findings}
    assert {what for what in RISKS if found[what] == "shared"} == SHARED[site], str(reports[site])
    assert reports[site].shared is bool(SHARED[site])


def test_accounts_are_of_the_slots(reports):
    assert "the jobs run as users 60001 and 60002" in str(reports["T2_ACCOUNTS"])
    assert "both jobs run as user" in str(reports["T2_NOBODY"])


def test_command_lines_and_ports_are_open_where_nothing_else_is(reports):
    """So no secret may be an argument, and each port has to ask for a certificate."""
    found = {finding.what: finding.state for finding in reports["T2_ACCOUNTS"].findings}
    assert {found[what] for what in OPEN} == {"open"}
