"""However a demo ends, and wherever its start fails, nothing of it stays: no process, no port, no file outside its folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from af_hub.demo.check import wait_until
from af_hub.errors import Unavailable
from af_hub.session.processes import descendants
from af_hub.testing.process import Daemon, comes_true, hold_port
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

SAID_SECONDS = 10
"""From the death of a part to the end of the whole demo, on a quiet machine; a busy one gets three times that."""


def demo(folder: Path, *more: str) -> Daemon:
    """A demo whose temporary files are watched; in the same folder as the one before."""
    (folder / "tmp").mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(folder / "d"), "--with-parent"]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    (folder / "log").unlink(missing_ok=True)
    more = more or ("--port", "0")
    return Daemon("demo", [*argv, *more, "--ready-fd", "{ready_fd}"], folder / "log", env=environment).start()


def listening() -> set[str]:
    """Ports that listen on this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A"}


def start(folder: Path, *more: str) -> Daemon:
    running = demo(folder, *more)
    try:
        running.ready(120)
    except Unavailable as reason:
        unavailable(f"the demo cannot run here: {reason}")
    return running


def gone(pids: set[int]) -> bool:
    return not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def nothing_stays(folder: Path, pids: set[int]) -> None:
    wait_until(lambda: gone(pids), "all its processes are gone", 40)
    wait_until(lambda: not list((folder / "tmp").iterdir()), "its temporary files are gone", 10)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)])
def test_nothing_stays_of_a_demo_that_ran(tmp_path, number):
    running = start(tmp_path)
    try:
        below, ports = descendants(running.process.pid), listening()
        assert len(below) > 20
        # The terminal sends Ctrl-C to the whole group, and whoever else sends it, to one of the two.
        os.killpg(running.process.pid, number)
        running.process.wait(40)
    finally:
        running.stop()
    assert running.process.returncode == 0, running.log_tail()
    nothing_stays(tmp_path, below)
    assert "Everything is stopped." in running.log_tail()
    assert ports - listening()


def kill_guard(running: Daemon) -> None:
    os.kill(running.process.pid, signal.SIGKILL)


def kill_group_of_guard(running: Daemon) -> None:
    os.killpg(running.process.pid, signal.SIGKILL)


def kill_inner(running: Daemon) -> None:
    inner = next(pid for pid in descendants(running.process.pid) if parent(pid) == running.process.pid)
    os.kill(inner, signal.SIGKILL)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("kill", [kill_group_of_guard, pytest.param(kill_inner, marks=pytest.mark.long)])
def test_nothing_stays_of_a_demo_that_was_killed(tmp_path, kill):
    running = start(tmp_path)
    try:
        below = descendants(running.process.pid)
        kill(running)
        nothing_stays(tmp_path, below)
    finally:
        running.stop()


def test_nothing_stays_when_whoever_started_it_is_killed(tmp_path):
    """As when somebody kills make."""
    (tmp_path / "tmp").mkdir()
    argv = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(tmp_path / "d"), "--port", "0", "--with-parent"]
    starter = f"import subprocess, sys; subprocess.run({argv!r})"
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    parent = subprocess.Popen([sys.executable, "-c", starter], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(descendants(parent.pid)) >= 6, "it has begun", 60)
        below = descendants(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    nothing_stays(tmp_path, below)


# --- each step of the start ------------------------------------------------------------------------------------------


def runs(*words: str) -> Callable[[int], bool]:
    """Whether a process has these words, one after the other, among its arguments."""
    wanted = "\0".join(words).encode()
    return lambda pid: wanted in Path(f"/proc/{pid}/cmdline").read_bytes()


def master(role: str) -> Callable[[int], bool]:
    """Whether a process is what keeps the condor_master of this machine of the pool."""
    folder = f"/pool/{role}/etc/".encode()

    def is_it(pid: int) -> bool:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"keeper.py" in arguments and folder in Path(f"/proc/{pid}/environ").read_bytes()

    return is_it


# What the error calls it, and how its process is known.
STEPS = {
    "proxy": runs("--entryPoints.http.address"),
    "demo IAM": runs("-m", "af_hub.testing.iam"),
    "XRootD origin": runs("/origin.cfg"),
    "XRootD cache": runs("/cache.cfg"),
    "controller keys": runs("-m", "af_hub.controller", "keys"),
    "forwarder": runs("-m", "af_hub.forwarder.server"),
    "condor_master of central-manager": master("central-manager"),
    "condor_master of access-point": master("access-point"),
    "condor_master of T2_A": master("T2_A"),
    "condor_master of T2_B": master("T2_B"),
    "keys of https://iam.af-hub.test/": runs("-m", "af_hub.testing.condor_files"),
    "mapping": runs("-m", "af_hub.condor.watch"),
    "data rules": runs("-m", "af_hub.xrootd.watch"),
    "hub": runs("-m", "jupyterhub"),
    "controller": runs("-m", "af_hub.controller", "--listen"),
}


def found(root: int, is_it: Callable[[int], bool]) -> int:
    """The process below ``root`` that is it, as soon as there is one; 0 when the root has ended before."""

    def look() -> int:
        for pid in descendants(root):
            try:
                if is_it(pid):
                    return pid
            except OSError:
                continue
        return 0

    seen: list[int] = []
    comes_true(lambda: bool(seen.append(look()) or seen[-1]), 90, pause=0.005)
    return seen[-1]


def fail_at(step: str, folder: Path) -> str:
    """Start, kill the part of that step before it serves, and return what was said within the time for it."""
    running = demo(folder)
    try:
        victim = found(running.process.pid, STEPS[step])
        assert victim, f"no {step} was seen; {running.log_tail()}"
        below = descendants(running.process.pid)
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        running.process.wait(60)
        assert time.monotonic() - killed < 3 * SAID_SECONDS
    finally:
        running.stop()
    assert running.process.returncode == 1
    nothing_stays(folder, below)
    return running.log.read_text()


def is_clean(folder: Path, *more: str) -> None:
    """The next start in the same folder comes up, and ends."""
    running = start(folder, *more)
    below = descendants(running.process.pid)
    running.stop(grace=40)
    assert running.process.returncode == 0, running.log_tail()
    nothing_stays(folder, below)


@pytest.mark.parametrize("steps", [("demo IAM", "condor_master of T2_A", "controller")], ids=" then ".join)
def test_a_part_that_fails_is_named_and_the_next_start_is_clean(tmp_path, steps):
    for step in steps:
        said = fail_at(step, tmp_path)
        assert f"Error: {step}" in said, said
        assert "Traceback" not in said
    with hold_port() as taken:
        port = taken.getsockname()[1]
        is_clean(tmp_path, "--port", str(port))
        assert f"Port {port} is taken by another program" in (tmp_path / "log").read_text()


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_the_start_may_fail(tmp_path, step):
    said = fail_at(step, tmp_path)
    assert step in said, said
    assert "Traceback" not in said.partition("its log ends")[0], said
    is_clean(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kill", [kill_guard, kill_inner])
@pytest.mark.parametrize("step", STEPS)
def test_the_demo_may_be_killed_at_each_step_of_its_start(tmp_path, step, kill):
    running = demo(tmp_path)
    try:
        assert found(running.process.pid, STEPS[step]), f"no {step} was seen"
        below = descendants(running.process.pid)
        kill(running)
        nothing_stays(tmp_path, below)
    finally:
        running.stop()
