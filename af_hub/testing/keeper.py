"""``python keeper.py PROGRAM ARGUMENTS…``: runs a program of others, and leaves nothing of it behind.

Some daemons start their children in sessions of their own, so that no process group holds them all; a batch system's jobs even
more so. This small parent adopts every orphan among them (a child subreaper, prctl(2)) and kills whatever is left when the program
has ended, when it is itself told to end (SIGTERM or SIGINT; the program is then sent SIGQUIT and has ten seconds), and
when its own parent dies. Should it be killed itself, the kernel sends the program SIGQUIT.

Standard library only, started with ``-I -S``: there may be many.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PAUSE_SECONDS = 0.25
GRACE_SECONDS = 10.0
ENDINGS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def descendants(of: int) -> Iterator[int]:
    """Every process below ``of``, as the kernel lists them now."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            # The name may hold blanks and parentheses; what follows the last one does not (proc(5)).
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    queue = children.get(of, [])
    while queue:
        process = queue.pop()
        yield process
        queue += children.get(process, [])


def kill_all() -> None:
    """Kill everything below this process, again and again until there is nothing."""
    while found := list(descendants(os.getpid())):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        reap()
        time.sleep(0.01)


def reap() -> None:
    """Collect orphans that ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def start(argv: list[str]) -> int:
    """Start the program, in a session of its own; its process number."""

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell has it ignored in what runs in the background
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)

    return subprocess.Popen(argv, start_new_session=True, preexec_fn=in_child).pid


def keep(argv: list[str]) -> None:
    """Run the program until it ends, or the parent does, or somebody says so; then clear up."""
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    program = start(argv)
    deadline = float("inf")
    while alive(program) and time.monotonic() < deadline:
        told = signal.sigtimedwait(ENDINGS, PAUSE_SECONDS)
        ends = os.getppid() != parent or (told is not None and told.si_signo != signal.SIGCHLD)
        if ends and deadline == float("inf"):
            deadline = time.monotonic() + GRACE_SECONDS
            with contextlib.suppress(ProcessLookupError):
                os.kill(program, signal.SIGQUIT)
    kill_all()


def alive(program: int) -> bool:
    """Whether the program runs; orphans that ended are collected by the way."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if ended == program:
            return False
        if not ended:
            return True


if __name__ == "__main__":
    keep(sys.argv[1:])
