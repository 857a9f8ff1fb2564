"""The real origin and the real cache: who reads what, through whom, and what is left."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from reading import read

from af_hub.errors import Unavailable
from af_hub.session.probes import xrootd_answers
from af_hub.testing.require import unavailable
from af_hub.testing.xrootd import Origin, open_data_service, xrootd_folder

pytestmark = pytest.mark.real

SIZE = 3_000_000


@pytest.fixture
def service(serve):
    """An origin with two files and a cache."""
    return serve({name: os.urandom(SIZE) for name in ("one", "two")})


@pytest.fixture
def environment(service, tmp_path):
    """What a session has."""
    return service.client_environment(tmp_path / "session")


def bytes_handled(server) -> int:
    """How many bytes a server's process has read from anywhere; XRootD's own counters lag until a client leaves (proc(5), io)."""
    return int(re.search(r"rchar: (\d+)", Path(f"/proc/{server.daemon.process.pid}/io").read_text())[1])


def test_a_session_reads_through_the_cache_without_naming_it(service, environment):
    direct = read(f"{service.origin.url}//store/one", {"PATH": os.environ["PATH"]})
    redirected = read(f"{service.origin.url}//store/one", environment)

    assert direct["server"] == f"{service.origin.host}:{service.origin.port}"
    assert redirected["server"] == f"{service.cache.host}:{service.cache.port}"
    assert direct["bytes"] == redirected["bytes"] == SIZE


def test_who_names_the_cache_gets_there_once(service, environment):
    answer = read(f"{service.cache.url}//{service.origin.url}//store/one", environment)

    assert (answer["bytes"], answer["server"]) == (SIZE, f"{service.cache.host}:{service.cache.port}")


def test_an_empty_variable_reads_directly(service, environment):
    answer = read(f"{service.origin.url}//store/one", environment | {"XROOT_PROXY": ""})

    assert answer["server"] == f"{service.origin.host}:{service.origin.port}"


def test_the_second_reading_leaves_the_origin_alone(service, environment):
    start = bytes_handled(service.origin)
    read(f"{service.origin.url}//store/one", environment)
    first = bytes_handled(service.origin)
    again = read(f"{service.origin.url}//store/one", environment)
    second = bytes_handled(service.origin)

    assert first - start >= SIZE
    assert again["bytes"] == SIZE
    assert second - first < 10_000


def test_what_is_cached_is_read_while_the_origin_is_down(service, environment):
    read(f"{service.origin.url}//store/one", environment)
    service.origin.stop()

    assert read(f"{service.origin.url}//store/one", environment)["bytes"] == SIZE
    missing = read(f"{service.origin.url}//store/two", environment)
    assert not missing["ok"]
    assert missing["seconds"] < 40


def test_an_origin_that_comes_back_is_read_again(service, environment):
    service.origin.stop()
    port = service.origin.port
    service.origin.start()

    assert service.origin.port == port
    assert read(f"{service.origin.url}//store/two", environment)["bytes"] == SIZE


def test_the_cache_fetches_from_no_other_host(service, environment, tmp_path):
    with Origin(xrootd_folder(), tmp_path / "other", service.origin.data, host="127.0.4.1") as other:
        assert read(f"{other.url}//store/one", {"PATH": os.environ["PATH"]})["ok"]
        refused = read(f"{other.url}//store/one", environment)

    assert not refused["ok"]
    assert "[3000]" in refused["message"]


def test_a_cache_that_is_down_is_an_error_after_seconds(service, environment):
    service.cache.stop()
    answer = read(f"{service.origin.url}//store/one", environment)

    assert not answer["ok"]
    assert answer["seconds"] < 20


def test_origin_and_cache_are_read_only(service):
    command = "import os,sys\nfrom XRootD import client\nfrom XRootD.client.flags import OpenFlags\n"
    command += "print(client.File().open(sys.argv[1], OpenFlags.NEW)[0].ok, flush=True)\nos._exit(0)"
    for url in (f"{service.origin.url}//store/new", f"{service.cache.url}//{service.origin.url}//store/new"):
        done = subprocess.run(
            [sys.executable, "-c", command, url], capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout == "False\n"


@pytest.mark.parametrize("source, served", [("127.0.0.1", True), ("127.0.0.2", False)])
def test_only_the_permitted_clients_may_connect(service, source, served):
    for server in (service.origin, service.cache):
        with socket.create_connection((server.host, server.port), 2, source_address=(source, 0)) as connection:
            connection.settimeout(5)
            try:
                connection.sendall(bytes(12) + (4).to_bytes(4, "big") + (2012).to_bytes(4, "big"))
                answered = len(connection.recv(16)) == 16
            except ConnectionResetError:
                answered = False
            assert answered == served


def test_a_leaked_client_configuration_does_not_turn_the_cache_on_itself(service, environment, monkeypatch):
    service.cache.stop()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    service.cache.start()

    assert read(f"{service.origin.url}//store/one", environment)["bytes"] == SIZE


def test_stop_leaves_no_process_and_no_port(service):
    servers = (service.origin, service.cache)
    pids = [server.daemon.process.pid for server in servers]
    for server in servers:
        server.stop()

    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not [server for server in servers if xrootd_answers(server.host, server.port)]


def test_a_server_that_cannot_serve_says_why(service, tmp_path):
    with pytest.raises(Unavailable, match="its log ends"):
        Origin(xrootd_folder(), tmp_path / "second", host="127.0.0.1", port=service.origin.port).start()


def test_a_deep_folder_with_a_space_will_do(service, tmp_path):
    folder = tmp_path / ("a b" * 30) / ("c" * 60)
    with open_data_service(folder, service.origin.data) as deep:
        answer = read(f"{deep.origin.url}//store/one", deep.client_environment(tmp_path / "deep"))

    assert (answer["bytes"], answer["server"]) == (SIZE, f"{deep.cache.host}:{deep.cache.port}")


def test_the_programs_are_got_once(service):
    said = []

    xrootd_folder(said.append)
    assert said == []


def test_root_is_refused_with_a_sentence(tmp_path):
    program = f"from pathlib import Path; from af_hub.testing.xrootd import Origin; Origin(Path({str(tmp_path)!r}), Path({str(tmp_path)!r})).start()"
    # In a user namespace of our own we are root, and nobody else is touched.
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if "unshare" in done.stderr:
        unavailable(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 1 and "start this as an ordinary user" in done.stderr
