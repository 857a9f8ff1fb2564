"""Cache and origin down, in all ways, as a session and as a worker meet it: real XRootD on both sides, a signpost between."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reading import READ, read

from af_hub.client.check import look_at_data
from af_hub.session.fragments import merge
from af_hub.session.signpost import open_signpost
from af_hub.session.xrootd import datasets_fragment, signpost_url, xrootd_fragment
from af_hub.testing.process import comes_true
from af_hub.testing.xrootd import DataService

pytestmark = pytest.mark.real

SIZE = 3_000_000
Reader = Callable[[str], dict]

# What a worker job does: its site's environment, a signpost before it, and the work in a child.
WORKER = """
import asyncio, os, sys
from af_hub.session.signpost import signpost_before
async def main():
    async with signpost_before(os.environ):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", sys.argv[1], sys.argv[2])
        sys.exit(await child.wait())
asyncio.run(main())
"""
READ_ON = """
import sys
from XRootD import client
from XRootD.client.flags import OpenFlags
file = client.File()
assert file.open(sys.argv[1], OpenFlags.READ)[0].ok
for number in range(3):
    status, data = file.read(number * 1_000_000, 1_000_000)
    assert status.ok, status.message
    print(file.get_property("DataServer"), len(data), flush=True)
    sys.stdin.readline()
import os; os._exit(0)
"""


@pytest.fixture
def service(serve: Callable[[dict[str, bytes]], DataService]) -> DataService:
    return serve({name: b"root" + os.urandom(SIZE - 4) for name in ("warm", "cold", "colder")})


@pytest.fixture
def session(service: DataService, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a session whose agent runs."""
    folder, listener = tmp_path / "session", socket.create_server(("127.0.0.1", 0))
    fragment = merge(
        xrootd_fragment(str(folder), service.cache.url, signpost=True),
        datasets_fragment({name: [f"{service.origin.url}//store/{name}"] for name in ("warm",)}),
    )
    for name, text in fragment.files.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def agent() -> None:
        async with open_signpost(service.cache.url, listener):
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(agent()))
    thread.start()
    proxy = {"XROOT_PROXY": signpost_url(listener.getsockname()[1])}
    yield {"PATH": os.environ["PATH"], "HOME": str(folder), **fragment.environment, **proxy}
    loop.call_soon_threadsafe(over.set)
    thread.join()
    listener.close()


@pytest.fixture
def worker(service: DataService, tmp_path: Path) -> Reader:
    """Reads as a worker's process does."""
    site = service.client_environment(tmp_path / "site")

    def in_worker(name: str) -> dict:
        argv = [sys.executable, "-c", WORKER, READ, f"{service.origin.url}//store/{name}"]
        done = subprocess.run(argv, env=site, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    return in_worker


def test_session_reads_on_from_the_origin_and_from_the_cache(service: DataService, session: dict[str, str]) -> None:
    cache, origin = (f"{server.host}:{server.port}" for server in (service.cache, service.origin))

    def reader(name: str) -> dict:
        return read(f"{service.origin.url}//store/{name}", session)

    warm = reader("warm")
    assert (warm["bytes"], warm["server"]) == (SIZE, cache)
    assert "[3011] there is no such file" in reader("nothing")["message"]

    service.cache.stop()
    cold = reader("cold")
    assert (cold["bytes"], cold["server"]) == (SIZE, origin) and cold["seconds"] < 15
    assert reader("warm")["server"] == origin
    assert "[3011] there is no such file" in reader("nothing")["message"]

    service.origin.stop()
    neither = reader("warm")
    assert not neither["ok"] and "neither the cache" in neither["message"] and neither["seconds"] < 20

    service.cache.start()
    assert comes_true(lambda: reader("warm")["server"] == cache, 10), "what is cached is there while the origin is down"


def test_worker_reads_on_from_the_origin(service: DataService, worker: Reader) -> None:
    cache, origin = (f"{server.host}:{server.port}" for server in (service.cache, service.origin))
    assert worker("warm")["server"] == cache
    service.cache.stop()
    cold = worker("cold")
    assert (cold["bytes"], cold["server"]) == (SIZE, origin) and cold["seconds"] < 15
    service.cache.start()
    assert worker("warm")["server"] == cache


@pytest.mark.long
def test_origin_that_comes_back_after_it_failed_the_cache(service: DataService, session: dict[str, str]) -> None:
    """The cache gives up an origin that fails for ten seconds, and clients as long."""
    service.origin.stop()
    url = f"{service.origin.url}//store/cold"
    first = read(url, session)
    assert not first["ok"] and first["seconds"] < 40
    service.origin.start()
    assert comes_true(lambda: read(url, session)["bytes"] == SIZE, 30)


def test_a_file_that_is_open_is_read_on_when_the_cache_dies(service: DataService, session: dict[str, str]) -> None:
    argv = [sys.executable, "-c", READ_ON, f"{service.origin.url}//store/warm"]
    with subprocess.Popen(argv, env=session, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            assert process.stdout.readline() == f"{service.cache.host}:{service.cache.port} 1000000\n"
            service.cache.stop()
            process.stdin.write("\n\n\n")
            process.stdin.flush()
            # The server's name is that of the new opening, as soon as there is one.
            assert process.stdout.read().splitlines()[-1] == f"{service.origin.host}:{service.origin.port} 1000000"
            assert process.wait(5) == 0
        finally:
            process.kill()


def test_the_check_says_which_it_is(service: DataService, session: dict[str, str]) -> None:
    """In a process of its own, as XRootD reads its environment once."""

    def says() -> dict[str, tuple[bool, str]]:
        code = "import json, os; from af_hub.client import check; from dataclasses import astuple\ncheck.READ_SECONDS = 4\n"
        code += "print(json.dumps([astuple(row) for row in check.look_at_data(os.environ)]), flush=True); os._exit(0)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=session, capture_output=True, text=True, timeout=60, check=True
        )
        return {what: (ok, sentence) for what, ok, sentence in json.loads(done.stdout)}

    found = says()
    assert found["cache"][0] and found["data"][0], found

    service.cache.stop()
    cache, data = says().values()
    assert not cache[0] and "does not answer, so files come from their origins: slower, but they come" in cache[1]
    assert data[0] and "You can read: warm" in data[1]

    service.origin.stop()
    cache, data = says().values()
    assert not cache[0] and "does not answer" in cache[1]
    assert not data[0] and "Neither the cache nor the origin 127.0.3.1" in data[1] and "[3005]" not in data[1]

    service.cache.start()
    cold = {**session, "AF_DATASETS": session["AF_DATASETS"].replace("warm", "cold")}
    session.update(cold)
    cache, data = says().values()
    assert cache[0] and "answers" in cache[1]
    assert not data[0] and "The origin 127.0.3.1" in data[1] and "does not answer" in data[1]
    assert look_at_data({"XROOT_PROXY": "", "AF_CACHE": ""})[0].ok is False
