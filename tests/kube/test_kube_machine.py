"""A machine for a Kubernetes leaves nothing behind, and knows nothing of its neighbours.

These tests run in such a machine, and make others inside: what they would leave is looked for here.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from af_hub.testing.kube_machine import OUTER_NETWORK
from af_hub.testing.kube_sysctls import WANTED
from af_hub.testing.process import Daemon, comes_true

pytestmark = pytest.mark.kube

MACHINE = (sys.executable, "-m", "af_hub.testing.kube_machine")
SECONDS = 20
# Where nodes of a Kubernetes leave things.
PLACES = ("/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods", "/opt/containerd")

# A link, a mount, a process that nobody waits for, a cgroup with that process, and files where nodes leave them.
UNTIDY = """
import os, subprocess, sys
from pathlib import Path
subprocess.run(["ip", "link", "add", "afcni0", "type", "bridge"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/log"], check=True)
Path("/var/lib/cni/results").mkdir(parents=True)
Path("/run/af-untidy").touch()
group = next(path for path in Path("/sys/fs/cgroup").rglob("cgroup.procs")).parent / "k8s.io"
(group / "pod").mkdir(parents=True)
left = subprocess.Popen(["sleep", "1000"], start_new_session=True)
if not (group / "pod/cpuset.cpus").exists():
    (group / "pod/cgroup.procs").write_text(str(left.pid))
os.write(int(sys.argv[1]), b'{"made": true}\\n')
if sys.argv[2] == "wait":
    left.wait()
"""


def traces() -> dict[str, set[str]]:
    """What a machine could leave in this one."""
    own = {"mounts": "/proc/self/mounts", "routes": "/proc/net/route"}
    found = {name: set(Path(path).read_text().splitlines()) for name, path in own.items()}
    found["links"] = {path.name for path in Path("/sys/class/net").iterdir()}
    found["cgroups"] = {
        str(path.parent) for path in Path("/sys/fs/cgroup").rglob("cgroup.procs") if "af-kube" in str(path)
    }
    found["files"] = {
        str(path)
        for place in PLACES
        if Path(place).exists()
        for path in Path(place).rglob("*")
        if "af-kube" not in str(path)
    }
    found["processes"] = set(filter(None, map(command_of, Path("/proc").glob("[0-9]*"))))
    found["tables"] = set(subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout.splitlines())
    found["sysctls"] = {f"{name} {value(name)}" for name in [*WANTED, "net/ipv4/ip_forward"]}
    return found


def command_of(process: Path) -> str:
    """Those that a machine has, by their command lines; pids are used again."""
    try:
        words = (process / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return ""
    told = " ".join(words)
    return told if any(word in told for word in ("kube_machine", "sleep 1000", "another_cluster", "/stores/2/")) else ""


def value(sysctl: str) -> str:
    path = Path("/proc/sys", sysctl)
    return path.read_text().strip() if path.exists() else ""


def is_as_before(before: dict[str, set[str]]) -> bool:
    return comes_true(lambda: traces() == before, SECONDS, pause=0.2)


def what_is_left(before: dict[str, set[str]]) -> dict[str, set[str]]:
    return {name: found ^ before[name] for name, found in traces().items() if found != before[name]}


@pytest.mark.parametrize("end", ["by itself", "told to end", "killed"])
def test_nothing_is_left_of_a_machine(tmp_path, end):
    before = traces()
    untidy = [*MACHINE, sys.executable, "-c", UNTIDY, "{ready_fd}", "leave" if end == "by itself" else "wait"]
    machine = Daemon("machine", untidy, tmp_path / "machine.log").start()
    assert machine.ready() == {"made": True}
    if end == "killed":
        machine.process.kill()
        machine.process.wait()
        assert comes_true(lambda: traces()["processes"] == before["processes"], SECONDS)
        subprocess.run([*MACHINE, "true"], check=True)  # takes away the cgroups of those who could not
    elif end == "told to end":
        machine.process.send_signal(signal.SIGTERM)
    assert machine.process.wait(SECONDS) in (0, -signal.SIGKILL, 128 + signal.SIGTERM)
    assert is_as_before(before), what_is_left(before)


def test_another_cluster_lives_beside_and_leaves_nothing(kube, tmp_path):
    """With the same addresses, killed with a pod in it; ours goes on."""
    before = traces()
    pods = len(kube.get("/api/v1/pods")["items"])
    program = Path(__file__).with_name("another_cluster.py")
    argv = [*MACHINE, sys.executable, str(program), str(tmp_path / "logs"), "{ready_fd}"]
    other = Daemon("another cluster", argv, tmp_path / "other.log").start()
    assert other.ready(120)["pods"] >= 2
    assert len(kube.get("/api/v1/pods")["items"]) == pods
    other.process.kill()
    other.process.wait()
    subprocess.run([*MACHINE, "true"], check=True)
    assert is_as_before(before), what_is_left(before)
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
    argv = [
        "unshare",
        "--user",
        "--map-user=65534",
        "--map-group=65534",
        "--pid",
        "--fork",
        "--mount",
        "--mount-proc",
        "id",
        "-u",
    ]
    assert subprocess.run([*MACHINE, *argv], capture_output=True, text=True).stdout == "65534\n"
