"""Looks at CVMFS repositories without ever being held up by one.

Serves the check in the session (:mod:`af_hub.client.check`) and the session agent. Promises: an answer after the time that was given,
whatever the file system does; at most one process that waits for each mount that hangs, which ends when the mount answers or goes. Leaves
words and states to :mod:`af_hub.session.cvmfs`.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from af_hub.session import cvmfs_child
from af_hub.session.cvmfs import FOLDER, Repository, State, read_look

LOOK_SECONDS = 5.0
FIRST_SECONDS = 20.0
"""For the first look: automount may have to fetch the catalog from far away."""

PAUSE = 0.05


@dataclass
class Look:
    """One child that looks at one repository.

    Parameters
    ----------
    mount
        What was mounted there when it began.
    """

    name: str
    mount: str
    child: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)
    answer: Repository | None = None

    def over(self) -> bool:
        """Whether it has answered."""
        if self.answer is None and self.child.poll() is not None:
            assert self.child.stdout
            with self.child.stdout as pipe:
                self.answer = read_look(self.name, pipe.read())
        return self.answer is not None

    def found(self) -> Repository:
        """Its answer, or that there is none."""
        if self.over() and self.answer is not None:
            return self.answer
        return Repository(self.name, State.HUNG, detail=f"since {time.monotonic() - self.began:.0f} s")


class Looker:
    """Looks at these repositories as often as somebody asks.

    Parameters
    ----------
    folder
        Where the repositories are.
    """

    def __init__(self, names: Sequence[str], folder: str = FOLDER) -> None:
        self.names = tuple(names)
        self._folder = folder
        self._looks: dict[str, Look] = {}

    async def look(self, seconds: float = LOOK_SECONDS) -> tuple[Repository, ...]:
        """All of them, after that many seconds at most."""
        self._begin()
        while self._worth_waiting(seconds):  # noqa: ASYNC110 (a child's end may never come)
            await asyncio.sleep(PAUSE)
        return self._found()

    def look_now(self, seconds: float = LOOK_SECONDS) -> tuple[Repository, ...]:
        """The same for who has no event loop, or one that runs already."""
        self._begin()
        while self._worth_waiting(seconds):
            time.sleep(PAUSE)
        return self._found()

    def close(self) -> None:
        """Kill those that still look; none is waited for."""
        for look in self._looks.values():
            if not look.over():
                look.child.kill()

    def _begin(self) -> None:
        """Look anew, but not where a look at the same mount is still held up: that one ends when the mount answers."""
        for name in self.names:
            path, before = f"{self._folder}/{name}", self._looks.get(name)
            mount = mounted_at(path)
            if before is None or before.over() or before.mount != mount:
                self._looks[name] = Look(name, mount, _start(path))

    def _worth_waiting(self, seconds: float) -> bool:
        """Whether one has not answered that has not had so much time yet."""
        return any(not look.over() and time.monotonic() < look.began + seconds for look in self._looks.values())

    def _found(self) -> tuple[Repository, ...]:
        return tuple(self._looks[name].found() for name in self.names)


def _start(path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", cvmfs_child.__file__, path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )


def mounted_at(path: str) -> str:
    """The kernel's lines about what is mounted there; other lines when something else is (proc(5), /proc/pid/mountinfo)."""
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if line.split()[4] == path)
