"""Ports that are held, and what is said of a daemon that does not come up."""

import socket
import sys

import pytest

from af_hub.errors import Unavailable
from af_hub.testing.condor_master import Master
from af_hub.testing.process import Daemon, hold_port


def listen(port: int) -> socket.socket:
    """As a server does."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("127.0.0.1", port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def test_a_held_port_is_for_the_server_alone():
    with hold_port() as held:
        port = held.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            hold_port(port)
        for _ in range(2):  # also when it begins anew
            with listen(port):
                with pytest.raises(OSError, match="in use"):
                    listen(port)
    with hold_port(port):
        pass


def test_what_remains_of_connections_keeps_nobody_away():
    with listen(0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # who ends a connection first keeps its address for a minute
            assert client.recv(1) == b""
    with hold_port(port) as held, listen(held.getsockname()[1]):
        pass


def test_a_death_is_no_silence(tmp_path):
    daemon = Daemon("some part", [sys.executable, "-c", "import sys; sys.exit('no luck')"], tmp_path / "log")
    with daemon, pytest.raises(Unavailable, match=r"^some part ended \(exit status 1\); its log ends:\nno luck$"):
        daemon.ready(20)


def test_silence_is_no_death(tmp_path):
    daemon = Daemon("some part", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    with daemon, pytest.raises(Unavailable, match=r"^some part did not get ready in 0.1 s"):
        daemon.ready(0.1)


@pytest.fixture
def master(tmp_path):
    with Master("condor_master of T2_A", ["sleep", "60"], tmp_path / "master.out") as master:
        yield master


def test_a_master_is_well_while_what_it_runs_has_died_once_at_most(master, tmp_path):
    assert master.illness() == ""
    (tmp_path / "MasterLog").write_text("The STARTD (pid 1) exited with status 4\n")
    assert master.illness() == ""


def test_a_master_is_ill_when_what_it_runs_dies_again(master, tmp_path):
    (tmp_path / "MasterLog").write_text(
        "The STARTD (pid 1) exited with status 4\nThe STARTD (pid 2) died due to signal 9 (Killed)\n"
    )
    (tmp_path / "StartLog").write_text('11/21/26 ERROR "Failed to execute local resource"\n')
    assert master.illness().startswith("STARTD under condor_master of T2_A ends again and again; the logs there end:\n")
    assert "Failed to execute local resource" in master.illness()


def test_a_master_that_ended_is_ill(master):
    master.process.kill()
    master.process.wait()
    assert master.illness().startswith("condor_master of T2_A ended (killed by SIGKILL)")
