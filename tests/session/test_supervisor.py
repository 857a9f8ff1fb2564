"""The supervisor with real processes: whatever is killed, nothing is left and what should go on goes on."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from af_hub.session.processes import Identity, marked
from af_hub.session.supervisor import MARK, pause_before_restart

# Each program writes its name and pid as one line into the fifo `said`, whose path is its first argument.
SAY = "import os,sys,time,signal,subprocess\nopen(sys.argv[1],'a').write(f'{sys.argv[2]} {os.getpid()}\\n')\n"
AGENT = SAY + "os.write(int(sys.argv[3]), b'{}\\n'); os.close(int(sys.argv[3]))\nsignal.pause()\n"
SILENT_AGENT = SAY + "signal.pause()\n"
SERVER = SAY + "signal.pause()\n"
STUBBORN = (
    "import signal,os\nfor n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(n, signal.SIG_IGN)\n"
    + SAY
)
# A kernel has a session of its own, and the process that started it may be gone.
KERNELS = STUBBORN + (
    "kernel = 'import os,sys,signal;signal.signal(signal.SIGTERM, signal.SIG_IGN);'"
    "\"open(sys.argv[1],'a').write(f'kernel {os.getpid()}\\\\n');signal.pause()\"\n"
    "middle = 'import subprocess,sys;subprocess.Popen([sys.executable, \"-c\", *sys.argv[2:], sys.argv[1]], start_new_session=True)'\n"
    "subprocess.Popen([sys.executable, '-c', middle, sys.argv[1], kernel])\n"
    "while True: signal.pause()\n"
)
QUICK_SERVER = SAY + "sys.exit(3)\n"


class Session:
    """One supervisor and what its programs said."""

    def __init__(self, tmp: Path, agent: str, server: str, first_token: float, grace: float) -> None:
        self.folder, home, said = tmp / "run", tmp / "home", tmp / "said"
        self.folder.mkdir()
        home.mkdir()
        os.mkfifo(said)
        self._said = os.open(said, os.O_RDWR)
        self._text = b""
        plan = {
            "agent": [sys.executable, "-c", agent, str(said), "agent", "{ready_fd}", "{signpost_fd}"],
            "server": [sys.executable, "-c", server, str(said), "server"],
            "folder": str(self.folder),
            "home": str(home),
            "first_token": first_token,
            "grace": grace,
        }
        (tmp / "plan.json").write_text(json.dumps(plan))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "af_hub.session.supervisor", "--config", str(tmp / "plan.json")],
            env={**os.environ, MARK: str(self.folder), "SECRET": "s"},
            stderr=(tmp / "log").open("w"),
            start_new_session=True,
        )

    def next(self) -> tuple[str, Identity | None]:
        """The next that said something, and which process it is."""
        while b"\n" not in self._text:
            assert select.select([self._said], [], [], 20)[0], "nothing was said in 20 s"
            self._text += os.read(self._said, 4096)
        line, _, self._text = self._text.partition(b"\n")
        name, pid = line.split()
        return name.decode(), Identity.of(int(pid))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for process in marked(MARK, str(self.folder)):
            process.send(signal.SIGKILL)
        os.close(self._said)


Start = Callable[..., Session]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    sessions: list[Session] = []

    def begin(agent: str = AGENT, server: str = SERVER, first_token: float = 60, grace: float = 20) -> Session:
        sessions.append(Session(tmp_path, agent, server, first_token, grace))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.end()


def gone(process: Identity | None) -> bool:
    """Wait until a process is gone, however long that takes within the test's time."""
    assert process is not None
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not process.alive() or bool(select.select([handle], [], [], 20)[0])
    finally:
        os.close(handle)


def test_server_starts_after_the_agent_and_all_end_on_sigterm(start: Start) -> None:
    session = start()
    (first, agent), (second, server) = session.next(), session.next()
    assert (first, second) == ("agent", "server")
    session.process.terminate()
    assert session.process.wait(20) == 0
    assert gone(agent)
    assert gone(server)
    assert not session.folder.exists()


def test_agent_has_none_of_the_servers_secrets(start: Start) -> None:
    session = start()
    (_, agent), (_, server) = session.next(), session.next()
    assert agent and server
    assert b"SECRET=s" in Path(f"/proc/{server.pid}/environ").read_bytes()
    assert b"SECRET" not in Path(f"/proc/{agent.pid}/environ").read_bytes()


def test_killed_agent_is_started_again_and_the_server_lives(start: Start) -> None:
    session = start()
    (_, agent), (_, server) = session.next(), session.next()
    assert agent and agent.send(signal.SIGKILL)
    name, second_agent = session.next()
    assert name == "agent"
    assert second_agent != agent
    assert server and server.alive()


SIGNPOST = (
    "import socket,sys\nn = socket.socket(fileno=int(sys.argv[4])).getsockname()[1]\nsys.argv[2] = f'agent-{n}'\n"
    + AGENT
)
PROXIED_SERVER = "import os,sys\nsys.argv[2] = 'server-' + os.environ['XROOT_PROXY'][17:-2]\n" + SERVER


def test_the_signposts_port_is_the_sessions_own_whoever_dies(start: Start) -> None:
    """Else another person on the machine could take it, and send readers, with their tokens, elsewhere."""
    session = start(agent=SIGNPOST, server=PROXIED_SERVER)
    (name, agent), (server, _) = session.next(), session.next()
    port = int(name.partition("-")[2])
    assert server == f"server-{port}"
    assert agent and agent.send(signal.SIGKILL)
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))
    assert session.next()[0] == name


def test_agent_that_dies_before_its_word_does_not_start_the_server(start: Start) -> None:
    session = start(agent=SILENT_AGENT)
    (_, agent) = session.next()
    assert agent and agent.send(signal.SIGKILL)
    assert session.next()[0] == "agent"


def test_server_starts_without_the_agents_word_after_the_limit(start: Start) -> None:
    session = start(agent=SILENT_AGENT, first_token=0.01)
    assert {session.next()[0], session.next()[0]} == {"agent", "server"}


def test_everything_ends_when_the_server_does(start: Start) -> None:
    session = start(server=QUICK_SERVER)
    agent = session.next()[1]
    assert session.process.wait(20) == 3
    assert gone(agent)
    assert not session.folder.exists()


def test_stubborn_server_and_hidden_kernel_are_killed(start: Start) -> None:
    session = start(server=KERNELS, grace=0.05)
    found = dict(session.next() for _ in range(3))
    assert set(found) == {"agent", "server", "kernel"}
    session.process.terminate()
    assert session.process.wait(20) == 0
    assert all(gone(process) for process in found.values())
    assert not marked(MARK, str(session.folder))


def test_killed_supervisor_takes_agent_and_server_along(start: Start) -> None:
    session = start()
    (_, agent), (_, server) = session.next(), session.next()
    session.process.kill()
    assert gone(agent)
    assert gone(server)


def test_process_is_told_from_another_with_its_pid() -> None:
    me = Identity.of(os.getpid())
    assert me and me.alive()
    assert not Identity(me.pid, f"1@{me.started.partition('@')[2]}").alive()
    assert not Identity(me.pid, me.started.partition("@")[0] + "@another-boot").alive()
    assert not Identity(me.pid, "1@x").send(signal.SIGKILL)


def test_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Identity.of(child.pid) is None
    child.wait()


@pytest.mark.parametrize("deaths, pause", [(1, 0.0), (2, 0.5), (3, 1.0), (6, 8.0), (7, 10.0), (400, 10.0)])
def test_pause_before_restart(deaths: int, pause: float) -> None:
    assert pause_before_restart(deaths) == pause
