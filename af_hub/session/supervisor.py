"""One small process per session where there are no pods: it holds the session agent and the user's server.

It starts the agent, and the server when the agent says that the token is there (or why not), or at once where the spawner left one. It
starts the agent again when it dies, and when the server ends or SIGTERM comes it ends everything that came from them and removes the
session's folder. Should it be killed itself, agent and server get a signal, and the spawner finds the rest by the mark in their
environment. It belongs to no hub: a new hub adopts it.

No event loop and no threads: signals arrive on a pipe, and one ``select`` waits for them and for the agent.
"""

import argparse
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Self

from af_hub.backoff import backoff
from af_hub.session.processes import adopt_orphans, descendants, die_with
from af_hub.session.xrootd import PROXY, signpost_url

log = logging.getLogger("af_hub.session.supervisor")

MARK = "AF_SESSION_FOLDER"
AGENT_KEEPS = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", MARK)
READY_FD, SIGNPOST_FD = "{ready_fd}", "{signpost_fd}"
TELL_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """What to run; the server's environment is our own.

    Parameters
    ----------
    agent, server
        Programs and arguments; ``{ready_fd}`` in the agent's becomes the number of an inherited pipe, ``{signpost_fd}`` that of a
        socket that listens on the loopback.
    folder
        The session's folder, removed at the end.
    home
        Where the server starts.
    first_token
        Seconds that the server waits for the agent at most; 0 where the token is there already.
    grace
        Seconds that the server has to end by itself.
    """

    agent: Sequence[str]
    server: Sequence[str]
    folder: Path
    home: Path
    first_token: float = 20
    grace: float = 8

    @classmethod
    def read(cls, path: Path) -> Self:
        """The plan in a file of JSON with these keys."""
        found = json.loads(path.read_text())
        return cls(**{**found, "folder": Path(found["folder"]), "home": Path(found["home"])})


def pause_before_restart(deaths: int) -> float:
    """Seconds to wait before the agent is started for the ``deaths``-th time again: at once, then doubling up to ten."""
    return 0.0 if deaths <= 1 else backoff(deaths - 1, least=0.5, most=10)


@dataclass
class Supervisor:
    """Runs one plan once."""

    plan: Plan
    agent: subprocess.Popen[bytes] | None = field(default=None, init=False)
    server: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _told: int | None = field(default=None, init=False)
    _ready: int | None = field(default=None, init=False)
    _agent_serves: bool = field(default=False, init=False)
    _deaths: int = field(default=0, init=False)
    _agent_at: float = field(default=0.0, init=False)
    _born: float = field(default=0.0, init=False)
    _wakeup: int = field(default=-1, init=False)
    _signpost: socket.socket | None = field(default=None, init=False)

    def run(self) -> int:
        """Until the server ends or we are told to stop; returns the server's exit status, 0 when told."""
        self._catch_signals()
        adopt_orphans()
        self._listen()
        try:
            status = self._hold()
        finally:
            self._end_all()
            shutil.rmtree(self.plan.folder, ignore_errors=True)
        return status

    def _hold(self) -> int:
        server_by = time.monotonic() + self.plan.first_token
        while self._told is None:
            now = time.monotonic()
            if self.agent is None and now >= self._agent_at:
                self._start_agent()
            if self.server is None and (self._agent_serves or now >= server_by):
                self._start_server()
            times = [*([self._agent_at] if self.agent is None else []), *([server_by] if self.server is None else [])]
            self._wait(min(times) - now if times else None)
            if self.server is not None and self.server.returncode is not None:
                log.info("the server ended with status %d", self.server.returncode)
                return self.server.returncode
            self._see_agent()
        log.info("told to stop by signal %d", self._told)
        return 0

    def _listen(self) -> None:
        """Take a port for the signpost, if there is to be one, and tell XRootD clients of it.

        It is ours for the life of the session: while an agent is dead, nobody else on the machine can answer in its place.
        """
        if SIGNPOST_FD in self.plan.agent:
            self._signpost = socket.create_server(("127.0.0.1", 0))
            os.environ[PROXY] = signpost_url(self._signpost.getsockname()[1])

    def _start_agent(self) -> None:
        mine, theirs = os.pipe()
        fds = {READY_FD: theirs} | ({SIGNPOST_FD: self._signpost.fileno()} if self._signpost else {})
        try:
            argv = [str(fds.get(argument, argument)) for argument in self.plan.agent]
            environment = {name: os.environ[name] for name in AGENT_KEEPS if name in os.environ}
            self.agent = self._start(argv, environment, self.plan.folder, signal.SIGKILL, [*fds.values()])
        finally:
            os.close(theirs)
        self._forget_ready()
        self._ready, self._born = mine, time.monotonic()
        log.info("the session agent is started")

    def _start_server(self) -> None:
        self.server = self._start(self.plan.server, os.environ, self.plan.home, signal.SIGTERM, [])
        log.info("the server is started")

    @staticmethod
    def _start(
        argv: Sequence[str], environment: Mapping[str, str], cwd: Path, last_word: signal.Signals, fds: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        # preexec_fn is safe here: this process has one thread.
        return subprocess.Popen(
            argv,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            preexec_fn=partial(die_with, os.getpid(), last_word),
        )

    def _see_agent(self) -> None:
        """Note an agent that died, and when to start the next."""
        if self.agent is None or self.agent.returncode is None:
            return
        now = time.monotonic()
        self._deaths = 1 if now - self._born > 60 else self._deaths + 1
        self._agent_at = now + pause_before_restart(self._deaths)
        log.warning("the session agent ended with status %d; it is started again", self.agent.returncode)
        self.agent = None

    def _wait(self, seconds: float | None) -> None:
        """Until a signal, the agent's word, or the time; children that ended are taken note of."""
        watched = [self._wakeup, *([self._ready] if self._ready is not None else [])]
        readable, _, _ = select.select(watched, [], [], None if seconds is None else max(0.0, seconds))
        if self._wakeup in readable:
            os.read(self._wakeup, 4096)
        if self._ready is not None and self._ready in readable:
            self._agent_serves |= os.read(self._ready, 4096) != b""
            self._forget_ready()
        self._reap()

    def _forget_ready(self) -> None:
        """The agent has said its line, or died: nothing more will come."""
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in (self.agent, self.server):
                if child is not None and child.pid == pid:
                    child.returncode = os.waitstatus_to_exitcode(status)

    def _end_all(self) -> None:
        """The server by request, the agent after it, then whatever is left by force."""
        for child, grace in ((self.server, self.plan.grace), (self.agent, 2.0)):
            if child is not None and child.returncode is None:
                os.kill(child.pid, signal.SIGTERM)
                self._wait_for(child, grace)
        deadline = time.monotonic() + KILL_SECONDS
        while (left := descendants(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._wait(0.05)
        self._reap()

    def _wait_for(self, child: subprocess.Popen[bytes], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while child.returncode is None and time.monotonic() < deadline:
            self._wait(deadline - time.monotonic())

    def _catch_signals(self) -> None:
        self._wakeup, write = os.pipe()
        for descriptor in (self._wakeup, write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in TELL_TO_STOP:
            signal.signal(number, self._be_told)

    def _be_told(self, number: int, _frame: FrameType | None) -> None:
        self._told = number


def main() -> int:
    """``python -m af_hub.session.supervisor --config FILE``."""
    parser = argparse.ArgumentParser(prog="af_hub.session.supervisor", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="file of JSON with the plan")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    status = Supervisor(Plan.read(parser.parse_args().config)).run()
    return status if status >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
