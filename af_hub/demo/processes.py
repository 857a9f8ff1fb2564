"""No process of the demo outlives it, whoever its parent was.

The demo is the subreaper of everything below it (Linux, ``prctl(2)``): a session whose hub has ended becomes our child instead of
init's, so at the end all that is left can be found and ended.
"""

import ctypes
import os
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on orphans below this process become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(root: int) -> list[int]:
    """Process ids below ``root``, zombies left out."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended while we looked
        if rest[0] != "Z":
            children.setdefault(int(rest[1]), []).append(pid)
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def end_descendants(grace: float = 3) -> None:
    """End all that is below us: asked first, killed after ``grace`` seconds; zombies are reaped."""
    deadline = time.monotonic() + grace
    _signal_all(signal.SIGTERM)
    while descendants(os.getpid()):
        reap()
        if time.monotonic() > deadline:
            _signal_all(signal.SIGKILL)
        time.sleep(0.02)
    reap()


def reap() -> None:
    """Take leave of children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _signal_all(what: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass
