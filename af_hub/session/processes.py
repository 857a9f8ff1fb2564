"""Linux processes of a session: told apart for certain, ended together with all they started.

A pid alone names nobody: it is used again. A pid and its start time name one process until the machine restarts, and the boot's own
id tells restarts apart (proc(5): /proc/pid/stat field 22, /proc/sys/kernel/random/boot_id).
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROC = Path("/proc")
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """One process, for as long as it lives and for ever after."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None when there is none, or only its exit status."""
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            return None
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return cls(pid, f"{stat[19]}@{boot}")

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Identity.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; False when it is gone. Never reaches another process that got the same pid."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def descendants(ancestor: int) -> set[int]:
    """The living processes that come from ``ancestor``, itself not among them."""
    parents = {pid: int(stat[1]) for pid in _pids() if (stat := _stat(pid)) and stat[0] not in "ZX"}
    found: set[int] = set()
    new = {ancestor}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def marked(variable: str, value: str) -> set[Identity]:
    """The living processes of ours that were started with ``variable=value`` in their environment."""
    wanted = f"{variable}={value}".encode()
    found = set()
    for pid in _pids():
        try:
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0") and (one := Identity.of(pid)):
                found.add(one)
        except OSError:  # gone, or of another user
            continue
    return found


def adopt_orphans() -> None:
    """From now on, descendants whose parent dies become our children, so that none escapes us (prctl(2))."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int, number: signal.Signals) -> None:
    """Get ``number`` when the parent dies; to be called in the child, between fork and exec.

    No longer ignored, should it be: shells have what they begin in the background ignore SIGINT (POSIX, Shell Command Language, 2.11).
    """
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), number)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208 (a thousand entries, names only)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/pid/stat from the third (state) on: the second may hold blanks and brackets."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
