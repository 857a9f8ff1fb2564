"""Child processes of tests and of the demo: start, wait until they serve, stop with everything they started.

A daemon of ours takes ``--ready-fd N`` and writes one line of JSON there when it serves. Daemons of others are watched by
:meth:`Daemon.wait_until`, which also notices an early death. Output goes to a log file, whose tail is in the error.
"""

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from af_hub.errors import Unavailable
from af_hub.files import open_log

POLL_SECONDS = 0.02
LAST_MOMENT_SECONDS = 0.5


@dataclass
class Daemon:
    """One child process, leader of its own process group.

    Parameters
    ----------
    name
        What logs and errors call it.
    argv
        Program and arguments; ``{ready_fd}`` in an argument becomes the number of the inherited pipe.
    log
        File that takes standard output and error, mode 0600.
    env
        The whole environment of the child; the parent's when None.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _ready: int | None = field(default=None, init=False, repr=False)

    def start(self) -> "Daemon":
        """Start it, also anew after its death; returns at once."""
        self._forget_ready()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        mine, theirs = os.pipe()
        try:
            with open_log(self.log) as log:
                self.process = subprocess.Popen(
                    [arg.replace("{ready_fd}", str(theirs)) for arg in self.argv],
                    env=None if self.env is None else dict(self.env),
                    cwd=self.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs],
                    start_new_session=True,
                )
        except OSError as error:
            os.close(mine)
            raise Unavailable(f"{self.name} could not be started: {error}") from error
        finally:
            os.close(theirs)
        self._ready = mine
        return self

    def ready(self, timeout: float = 30) -> dict[str, Any]:
        """Wait for the line of JSON that says it serves; at most ``timeout`` seconds.

        Raises
        ------
        Unavailable
            When it died or did not get ready in time; the message holds the end of its log.
        """
        assert self._ready is not None, "start() comes first"
        text, deadline = b"", time.monotonic() + timeout
        try:
            while not text.endswith(b"\n"):
                readable, _, _ = select.select([self._ready], [], [], max(0, deadline - time.monotonic()))
                chunk = os.read(self._ready, 65536) if readable else b""
                if not chunk:
                    raise Unavailable(self.why_not_ready(timeout))
                text += chunk
        finally:
            self._forget_ready()
        answer: dict[str, Any] = json.loads(text)
        return answer

    def wait_until(self, serves: Callable[[], bool], timeout: float = 30) -> None:
        """Ask ``serves`` until it is true; for programs that cannot say themselves that they are ready."""
        if not comes_true(lambda: serves() or not self.alive(), timeout) or not self.alive():
            raise Unavailable(self.why_not_ready(timeout))

    def alive(self) -> bool:
        """Whether the child itself still runs."""
        return self.process is not None and self.process.poll() is None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def stop(self, grace: float = 5, first: signal.Signals = signal.SIGTERM) -> None:
        """End it, politely for ``grace`` seconds, then its whole process group; may be called twice."""
        self._forget_ready()
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(first)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        kill_group(self.process.pid)
        self.process.wait()

    def why_not_ready(self, timeout: float = 0) -> str:
        """A sentence for a daemon that does not serve after so many seconds, and the end of its log."""
        # A pipe that ends is seen a moment before the process whose it was has ended.
        ended = comes_true(lambda: not self.alive(), LAST_MOMENT_SECONDS)
        assert self.process is not None
        happened = (
            f"ended ({how_it_ended(self.process.returncode)})" if ended else f"did not get ready in {timeout:g} s"
        )
        return f"{self.name} {happened}; its log ends:\n{self.log_tail()}"

    def _forget_ready(self) -> None:
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None

    def __enter__(self) -> "Daemon":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def comes_true(holds: Callable[[], bool], timeout: float, pause: float = POLL_SECONDS) -> bool:
    """Ask ``holds`` again and again until it is true; whether it was within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def how_it_ended(status: int) -> str:
    """An exit status for people, as :class:`subprocess.Popen` gives it."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def kill_group(leader: int) -> None:
    """Kill what is left of a process group that we started."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now; for programs that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def hold_port(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """A port, any free one when 0, that nobody else gets while the socket is open, also when nobody listens there.

    A server may listen there all the same when it sets ``SO_REUSEADDR``, as servers do; the kernel gives the port to no connection and to
    nobody who asks for any.

    Raises
    ------
    OSError
        When somebody has it.
    """
    held = socket.socket()
    try:
        held.bind((host, port))
    except OSError:
        # Connections that are over keep an address for a minute from those who do not set this; a server's address they do not.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not only_remains(port):
            held.close()
            raise
        held.bind((host, port))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


def only_remains(port: int) -> bool:
    """Whether connections that are over are all that there is at this port (proc(5): /proc/net/tcp, state 06 is TIME_WAIT)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    states = {row[3] for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    return states == {"06"}
