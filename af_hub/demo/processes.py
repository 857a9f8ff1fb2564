"""No process of the demo outlives it, whoever its parent was and however it ends.

The demo is the subreaper of everything below it (Linux, ``prctl(2)``): a session whose hub has ended becomes our child instead of
init's, so at the end all that is left can be found and ended. Two processes watch each other: the guard ends everything when the
demo dies, and the demo stops in order when the guard dies.
"""

import os
import signal
import time
from collections.abc import Callable

from af_hub.session.processes import adopt_orphans, descendants, die_with


def be_guarded(afterwards: Callable[[], None]) -> None:
    """Go on in a child process; this one becomes its guard, and never returns.

    The guard passes SIGINT, SIGTERM and SIGHUP on, waits, ends whatever is left below it, calls ``afterwards``, and exits with the
    child's status (128 and the signal's number when a signal ended it). The child gets SIGTERM when the guard dies; it has a session
    of its own, lest whoever kills the guard's whole process group kills both. Call it before any thread is started.
    """
    adopt_orphans()
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        os.setsid()
        adopt_orphans()
        die_with(guard, signal.SIGTERM)
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    end_descendants()
    afterwards()
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


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
