"""A machine for a Kubernetes leaves nothing behind, and knows nothing of its neighbours.

These tests run in such a machine, make a quiet one inside, and others inside of that: what they leave is looked for there.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from leftovers import MACHINE

from af_hub.testing.kube_machine import OUTER_NETWORK

pytestmark = [pytest.mark.kube, pytest.mark.more]

HERE = Path(__file__).parent
# A link, a mount, a process that nobody waits for, a cgroup, and files where nodes leave them.
UNTIDY = """
import os, subprocess, sys
from pathlib import Path
subprocess.run(["ip", "link", "add", "afcni0", "type", "bridge"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/log"], check=True)
Path("/var/lib/cni/results").mkdir(parents=True)
Path("/run/af-untidy").touch()
for tree in [path.parent for path in Path("/sys/fs/cgroup").glob("*/cgroup.procs")]:
    (tree / "k8s.io/pod").mkdir(parents=True)
left = subprocess.Popen(["sleep", "1000"], start_new_session=True)
for tree in Path("/sys/fs/cgroup").glob("*/k8s.io"):
    if not (tree / "cpuset.cpus").exists():
        (tree / "cgroup.procs").write_text(str(left.pid))
os.write(int(sys.argv[1]), b'{"made": true}\\n')
if sys.argv[2] != "by itself":
    left.wait()
"""


def left_of(how: str, logs: Path, *program: str) -> dict:
    """What is left of a machine that ran a program and ended in this way."""
    argv = [*MACHINE, sys.executable, str(HERE / "leftovers.py"), how, str(logs), sys.executable, *program]
    return json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.parametrize("how", ["by itself", "told to end", "killed"])
def test_nothing_is_left_of_a_machine(tmp_path, how):
    assert left_of(how, tmp_path, "-c", UNTIDY, "{ready_fd}", how) == {}


def test_another_cluster_lives_beside_and_leaves_nothing(kube, tmp_path):
    """With the same addresses, killed with a pod in it; ours goes on."""
    assert left_of("killed", tmp_path, str(HERE / "another_cluster.py"), str(tmp_path / "logs"), "{ready_fd}") == {}
    assert kube.get("/readyz") == "ok"


def test_an_exit_status_is_the_program_s():
    assert subprocess.run([*MACHINE, "sh", "-c", "exit 7"]).returncode == 7
    assert subprocess.run([*MACHINE, "sh", "-c", "kill -9 $$"]).returncode == 128 + 9


def test_the_network_outside_is_lent():
    """Here outside is this machine, which a machine inside of it does not see."""
    mine = Path("/proc/self/ns/net").stat().st_ino
    shown = ["stat", "--dereference", "--format=%i"]
    inside = subprocess.run([*MACHINE, *shown, "/proc/self/ns/net", str(OUTER_NETWORK)], capture_output=True, text=True)
    own, lent = map(int, inside.stdout.split())
    assert lent == mine != own


def test_an_ordinary_user_of_namespaces_may_make_more_of_them():
    """As HTCondor, XRootD and the facility are started in it."""
    user = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    argv = [*MACHINE, *user, "unshare", "--user", "--pid", "--fork", "--mount", "--mount-proc", "cat", "/proc/1/comm"]
    assert subprocess.run(argv, capture_output=True, text=True).stdout == "cat\n"
