"""When a dead part of the demo is started again, and what the console says."""

import os
import signal
import sys
from pathlib import Path

import pytest

from af_hub.demo.revival import DEATHS_AT_MOST, STABLE_SECONDS, Revival, how_it_ended, pause_before_restart
from af_hub.testing.process import Daemon, comes_true

LIVES = [sys.executable, "-c", "import signal; signal.pause()"]
DIES = [sys.executable, "-c", "raise SystemExit(7)"]


@pytest.mark.parametrize(
    ("deaths", "pause"),
    [
        pytest.param(1, 0.0, id="at once"),
        pytest.param(2, 0.5, id="then after a moment"),
        pytest.param(3, 1.0, id="twice as long"),
        pytest.param(DEATHS_AT_MOST - 1, 4.0, id="the last try"),
        pytest.param(DEATHS_AT_MOST, None, id="no more"),
    ],
)
def test_pauses_get_longer_until_there_is_no_use(deaths, pause):
    assert pause_before_restart(deaths) == pause


def test_how_it_ended_in_words():
    assert (how_it_ended(-9), how_it_ended(3)) == ("killed by SIGKILL", "exit status 3")


class Watched:
    """One part with its revival, and a clock that goes when it is told to."""

    def __init__(self, folder, argv):
        self.now, self.said, self.obstacle = 0.0, [], ""
        self.part = Daemon("hub", argv, folder / "log").start()
        self.revival = Revival(self.said.append, lambda: self.now, lambda: self.obstacle)

    def look(self):
        self.revival.look([self.part])

    def die(self):
        before = self.part.process.pid
        os.kill(before, signal.SIGKILL)
        self.part.process.wait(5)
        self.look()
        return before


@pytest.fixture
def watched(tmp_path):
    made = []

    def watch(argv):
        made.append(Watched(tmp_path, argv))
        return made[-1]

    yield watch
    for one in made:
        one.part.stop()


def test_a_dead_part_is_started_again_at_once_and_said_once(watched):
    one = watched(LIVES)
    one.look()
    before = one.die()
    assert one.part.alive() and one.part.process.pid != before
    one.look()
    assert len(one.said) == 1 and "The hub has ended" in one.said[0] and "killed by SIGKILL" in one.said[0]


def test_a_second_death_soon_waits_and_a_late_one_does_not(watched):
    one = watched(LIVES)
    one.look()
    one.die()
    one.die()
    assert not one.part.alive()
    one.now += 0.5
    one.look()
    assert one.part.alive() and len(one.said) == 1
    one.now += STABLE_SECONDS
    one.die()
    assert one.part.alive() and len(one.said) == 2


def test_what_dies_again_and_again_is_given_up_with_a_sentence(watched):
    one = watched(DIES)
    for _ in range(3 * DEATHS_AT_MOST):
        one.part.process.wait(5)
        one.look()
        one.now += 20
    assert not one.part.alive()
    assert len(one.said) == 2
    assert "has ended 6 times in a row" in one.said[1] and "exit status 7" in one.said[1] and "log" in one.said[1]


def test_nobody_is_given_up_for_an_obstacle(watched):
    one = watched(DIES)
    one.obstacle = "The disk is full"
    for _ in range(3 * DEATHS_AT_MOST):
        one.part.process.wait(5)
        one.look()
        one.now += 20
    assert not one.part.alive()
    assert one.said[0].startswith("[red]The disk is full[/]. Parts that end now") and len(one.said) == 2

    one.obstacle, one.part.argv = "", LIVES
    one.look()
    assert one.part.alive() and len(one.said) == 2


def test_what_a_dead_part_left_running_is_ended(watched, tmp_path):
    child = tmp_path / "child"
    program = (
        f"import os, signal; pid = os.fork(); pid and open({str(child)!r}, 'w').write(f'{{pid}} '); signal.pause()"
    )
    one = watched([sys.executable, "-c", program])
    assert comes_true(lambda: child.exists() and child.read_text().endswith(" "), 5)
    one.look()
    left = int(child.read_text())
    one.die()
    assert comes_true(lambda: not alive(left), 5)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
