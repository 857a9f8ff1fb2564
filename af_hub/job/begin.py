"""The first thing that a scheduler job does: it lets Dask load, in a process of its own.

Serves the job agent, which loads what it needs itself meanwhile. So nothing is imported here that takes longer than the start of a process
(no asyncio), and the scheduler's process gives birth to the first worker: Dask is loaded once for both. Leaves to
:mod:`af_hub.job.children` how they are watched and ended.
"""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""As Dask sets for its workers: it runs a task for each core already. The libraries read it when they are loaded."""

TOKEN_FILE = "token"  # noqa: S105
"""Where the person's access token for storage is, once it has come (WLCG Bearer Token Discovery, step 2)."""


@dataclass(frozen=True)
class DaskProcesses:
    """The scheduler's process, and this end of the sockets that lead to scheduler and first worker."""

    scheduler: "subprocess.Popen[bytes]"
    control: socket.socket
    worker: socket.socket

    def end(self) -> None:
        """For whoever cannot use them: the worker ends when its socket does."""
        self.scheduler.kill()
        self.scheduler.wait()
        self.control.close()
        self.worker.close()


def settings() -> dict[str, str]:
    """What the environment of scheduler and workers must hold. Dask asks for a home, and many sites run accounts that have none."""
    homeless = os.path.expanduser("~") == "~"  # noqa: PTH111  pathlib would have to be loaded
    token = {"BEARER_TOKEN_FILE": os.path.abspath(TOKEN_FILE)}  # noqa: PTH100
    return ONE_THREAD | token | ({"HOME": os.getcwd()} if homeless else {})  # noqa: PTH109


def begin_dask() -> DaskProcesses:
    """Start the scheduler's process, of which the first worker's will come."""
    control, theirs = socket.socketpair()
    worker, its = socket.socketpair()
    arguments = ["--control-fd", str(theirs.fileno()), "--worker-fd", str(its.fileno())]
    return DaskProcesses(begin("scheduler", arguments, theirs, its), control, worker)


def begin(name: str, arguments: list[str], *sockets: socket.socket) -> "subprocess.Popen[bytes]":
    """Start ``python -m af_hub.job.<name>`` with the same Python, leader of a process group.

    The sockets are inherited, and closed here; output goes to ``<name>.log``.
    """
    log = open_log(name)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", f"af_hub.job.{name}", *arguments],
            env=os.environ | settings(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[one.fileno() for one in sockets],
            start_new_session=True,
        )
    finally:
        os.close(log)
        for one in sockets:
            one.close()


def open_log(name: str) -> int:
    """A descriptor of the log of that name, which is made with mode 0600."""
    return os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def age() -> float:
    """Seconds since this process was started (proc(5), ``starttime``), to a hundredth."""
    with open("/proc/self/stat") as file:  # noqa: PTH123  pathlib would have to be loaded
        started = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
