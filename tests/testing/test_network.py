"""Who reaches whom in the network of the outbound test, and that nothing of it stays."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from af_hub.errors import Unavailable
from af_hub.testing import keeper
from af_hub.testing.network import CENTRE, CENTRE_ADDRESS, Network, Site, count_packets, read_dialled
from af_hub.testing.process import Daemon, comes_true
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.slow

SECONDS = 20
LISTEN = """
import os, socket, sys
listener = socket.create_server(("", 7000))
os.write(int(sys.argv[1]), b"{}\\n")
while True:
    listener.accept()[0].sendall(sys.argv[2].encode())
"""
DIAL = """
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], 7000), 0.5).recv(99).decode())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Two sites with the same addresses, and somebody who listens on port 7000 of each machine."""
    folder = tmp_path_factory.mktemp("network")
    with ExitStack() as stack:
        try:
            network = stack.enter_context(Network(folder, [Site("A", 1, nodes=2), Site("B", 2)]))
        except Unavailable as reason:
            unavailable(str(reason))
        for name in (CENTRE, "A-0", "A-1", "B-0"):
            argv = [*network.enter(name), sys.executable, "-c", LISTEN, "{ready_fd}", name]
            stack.enter_context(Daemon(name, argv, folder / f"{name}.log")).ready()
        yield network


def dial(network, name, address):
    argv = [*network.enter(name), sys.executable, "-c", DIAL, address]
    return subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=True).stdout.strip()


@pytest.mark.parametrize("name", ["A-0", "A-1", "B-0"])
def test_a_site_reaches_the_centre(network, name):
    assert dial(network, name, CENTRE_ADDRESS) == CENTRE
    assert (CENTRE_ADDRESS, "tcp", 7000) in network.dialled(name[0])


def test_nodes_of_a_site_reach_each_other_and_no_other_sites(network):
    assert dial(network, "A-1", "192.168.50.10") == "A-0"
    assert dial(network, "B-0", "192.168.50.10") == "B-0"
    assert dial(network, "B-0", "192.168.50.11") != "A-1"


@pytest.mark.parametrize("address, dropped_by", [("192.168.50.10", "internet"), ("10.77.1.1", "A"), ("10.77.2.1", "B")])
def test_the_centre_does_not_reach_a_site_and_is_counted(network, address, dropped_by):
    before = network.unasked()
    assert dial(network, CENTRE, address) == "TimeoutError"
    after = network.unasked()
    assert {name for name in after if after[name] > before[name]} == {dropped_by}


def test_programs_in_it_are_an_ordinary_user_without_rights(network):
    argv = [*network.enter("A-0"), "sh", "-c", "id -u; grep CapEff /proc/self/status"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=True).stdout.split()
    assert said == ["65534", "CapEff:", "0" * 16]


def test_names_are_found_or_refused_at_once(network):
    code = (
        "import socket; print(socket.gethostbyname('centre.af-hub.test'), socket.gethostbyname(socket.gethostname()))"
    )
    argv = [*network.enter("A-0"), sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS).stdout.split() == [
        CENTRE_ADDRESS,
        "127.0.0.1",
    ]


def test_the_rest_of_the_machine_sees_nothing_of_it(network):
    assert not {"lan", "wan", "wan0", "wan1"} & {name for _, name in socket.if_nameindex()}
    assert not Path("/run/netns/centre").exists()


def test_a_killed_test_leaves_nothing(network, tmp_path):
    code = f"""
import subprocess, sys
from pathlib import Path
from af_hub.testing.network import Network, Site
with Network(Path({str(tmp_path)!r}), [Site("A", 1)]) as network:
    kept = [sys.executable, "-I", "-S", {keeper.__file__!r}, "sh", "-c", "echo $$; exec sleep 600"]
    process = subprocess.Popen([*network.enter("A-0"), *kept], stdout=subprocess.PIPE, text=True)
    print(network.holder, process.pid, process.stdout.readline(), flush=True)
    sys.stdin.read()
"""
    maker = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert maker.stdout
    began = [int(pid) for pid in maker.stdout.readline().split()]
    assert len(began) == 3 and all(map(runs, began))
    os.kill(maker.pid, signal.SIGKILL)
    maker.communicate()
    assert comes_true(lambda: not any(map(runs, began)), SECONDS)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_machine_that_lacks_something_says_what(tmp_path, monkeypatch):
    monkeypatch.setattr("af_hub.testing.network.PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="want the Debian packages iproute2, mount, nftables, util-linux"):
        Network(tmp_path, []).__enter__()


def test_a_command_that_fails_is_in_the_reason(tmp_path):
    with pytest.raises(Unavailable, match=r"does not let us make network namespaces: .*File exists"):
        Network(tmp_path, [Site("A", 1), Site("B", 1)]).__enter__()


def test_what_nft_says_is_read():
    counters = [{"metainfo": {}}, {"counter": {"packets": 2, "name": "a"}}, {"counter": {"packets": 3, "name": "b"}}]
    assert count_packets({"nftables": counters}) == 5
    empty, full = {"set": {"name": "x"}}, {"set": {"elem": [{"concat": ["10.77.0.1", "tcp", 7000]}]}}
    assert read_dialled({"nftables": [empty, full]}) == {("10.77.0.1", "tcp", 7000)}
