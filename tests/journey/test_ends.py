"""However a demo ends, nothing of it stays: no process, no port, no file outside its folder."""

import os
import signal
import sys
from pathlib import Path

import pytest

from af_hub.demo.check import wait_until
from af_hub.demo.processes import descendants
from af_hub.errors import Unavailable
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_nothing_stays_of_a_demo_that_ran(tmp_path, number):
    running = demo(tmp_path)
    try:
        try:
            running.ready(120)
        except Unavailable as reason:
            unavailable(f"the demo cannot run here: {reason}")
        below, ports = descendants(running.process.pid), listening()
        assert len(below) > 20
        running.process.send_signal(number)
        running.process.wait(40)
    finally:
        running.stop()
    assert running.process.returncode == 0, running.log_tail()
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert not list((tmp_path / "tmp").iterdir())
    assert "Everything is stopped." in running.log_tail()
    assert ports - listening()


def test_nothing_stays_of_a_demo_that_was_still_starting(tmp_path):
    running = demo(tmp_path)
    try:
        wait_until(lambda: len(descendants(running.process.pid)) >= 4, "it has begun", 60)
        below = descendants(running.process.pid)
        running.process.send_signal(signal.SIGINT)
        running.process.wait(40)
    finally:
        running.stop()
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert not list((tmp_path / "tmp").iterdir())
