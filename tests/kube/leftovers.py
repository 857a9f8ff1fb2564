"""Makes a machine, ends it, and prints as JSON what is left of it: ``leftovers.py END LOGS PROGRAM ARGUMENTS…``.

Runs in a machine where nothing else happens; :mod:`test_kube_machine` makes that.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

from af_hub.testing.kube_sysctls import WANTED
from af_hub.testing.process import Daemon, comes_true

MACHINE = (sys.executable, "-m", "af_hub.testing.kube_machine")
READY_SECONDS, END_SECONDS = 150, 20
# A node that is killed unmounts what its pods had, and the disk writes all that it still has to write meanwhile.
GONE_SECONDS = 120
# Where nodes of a Kubernetes leave things.
PLACES = ("/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods", "/opt/containerd")


def lines(path: str) -> set[str]:
    return set(Path(path).read_text().splitlines())


def below(folder: str, pattern: str = "*") -> set[str]:
    return {str(path) for path in Path(folder).rglob(pattern)} if Path(folder).exists() else set()


def command_of(process: Path) -> str:
    """Its command line, or its name in brackets where it has none: one that is ending loses that long before it is gone."""
    try:
        name = (process / "comm").read_text().strip()
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode() or f"[{name}]"
    except OSError:
        return ""


def traces() -> dict[str, set[str]]:
    """What a machine could leave in this one."""
    return {
        "processes": {command_of(process) for process in Path("/proc").glob("[0-9]*")} - {""},
        "mounts": lines("/proc/self/mounts"),
        "routes": lines("/proc/net/route"),
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        "cgroups": below("/sys/fs/cgroup", "cgroup.procs"),
        "files": {path for place in PLACES for path in below(place)},
        "tables": set(subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout.splitlines()),
        "sysctls": {f"{name} {Path('/proc/sys', name).read_text()}" for name in (*WANTED, "net/ipv4/ip_forward")},
    }


def end(machine: Daemon, how: str, before: dict[str, set[str]]) -> None:
    assert machine.process
    if how == "killed":
        machine.process.kill()
    elif how == "told to end":
        machine.process.send_signal(signal.SIGTERM)
    machine.process.wait(END_SECONDS)
    if how == "killed":
        comes_true(lambda: traces()["processes"] == before["processes"], GONE_SECONDS, pause=0.2)
        subprocess.run([*MACHINE, "true"], check=True)  # the next one takes away the cgroups of those who could not


def main() -> None:
    how, logs, *program = sys.argv[1:]
    before = traces()
    machine = Daemon("machine", [*MACHINE, *program], Path(logs) / "machine.log").start()
    machine.ready(READY_SECONDS)
    end(machine, how, before)
    comes_true(lambda: traces() == before, END_SECONDS, pause=0.2)
    after = traces()
    print(json.dumps({name: sorted(found ^ before[name]) for name, found in after.items() if found != before[name]}))


if __name__ == "__main__":
    main()
