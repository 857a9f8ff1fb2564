"""However a demo ends, nothing of it stays: no process, no port, no file outside its folder."""

import os
import signal
import sys
from pathlib import Path

import pytest

from af_hub.demo.check import wait_until
from af_hub.errors import Unavailable
from af_hub.session.processes import descendants
from af_hub.testing.process import Daemon
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real


def demo(folder: Path) -> Daemon:
    """A demo whose temporary files are watched."""
    (folder / "tmp").mkdir()
    argv = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(folder / "d"), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    return Daemon("demo", [*argv, "--ready-fd", "{ready_fd}"], folder / "log", env=environment).start()


def listening() -> set[str]:
    """Ports that listen on this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A"}


def start(folder: Path) -> Daemon:
    running = demo(folder)
    try:
        running.ready(120)
    except Unavailable as reason:
        unavailable(f"the demo cannot run here: {reason}")
    return running


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
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
    assert gone(below)
    assert not list((tmp_path / "tmp").iterdir())
    assert "Everything is stopped." in running.log_tail()
    assert ports - listening()


@pytest.mark.parametrize("victim", ["the guard", "the demo"])
def test_nothing_stays_of_a_demo_that_was_killed(tmp_path, victim):
    running = start(tmp_path)
    try:
        below = descendants(running.process.pid)
        inner = next(pid for pid in below if parent(pid) == running.process.pid)
        os.kill(running.process.pid if victim == "the guard" else inner, signal.SIGKILL)
        wait_until(lambda: gone(below), "all its processes are gone", 40)
        wait_until(lambda: not list((tmp_path / "tmp").iterdir()), "its temporary folder is gone", 10)
    finally:
        running.stop()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_nothing_stays_of_a_demo_that_was_still_starting(tmp_path):
    running = demo(tmp_path)
    try:
        wait_until(lambda: len(descendants(running.process.pid)) >= 4, "it has begun", 60)
        below = descendants(running.process.pid)
        os.killpg(running.process.pid, signal.SIGINT)
        running.process.wait(40)
    finally:
        running.stop()
    assert gone(below)
    assert not list((tmp_path / "tmp").iterdir())
