"""The session agent as a process: a fake hub and controller, the real forwarder, real certificates."""

import asyncio
import json
import os
import signal
import socket
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest
from session_fakes import HUB_TOKEN, FakeController, FakeHub, scheduler_at_a_site, serving

from af_hub.errors import Unavailable
from af_hub.testing.process import Daemon, comes_true

pytestmark = pytest.mark.slow


class Agent:
    """One session agent and its folder; may be killed and started again."""

    def __init__(self, tmp: Path, hub: FakeHub, controller: FakeController, **more: object) -> None:
        self.folder = tmp / "run"
        self.folder.mkdir(mode=0o700)
        config = {
            "folder": str(self.folder),
            "hub_api_url": hub.url,
            "hub_token": HUB_TOKEN,
            "controller_url": controller.url,
            **more,
        }
        (self.folder / "agent.json").write_text(json.dumps(config))
        argv = [sys.executable, "-m", "af_hub.session.agent"]
        argv += ["--config", str(self.folder / "agent.json"), "--ready-fd", "{ready_fd}"]
        self.daemon = Daemon("session agent", argv, tmp / "agent.log")

    async def start(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.daemon.start().ready)

    async def kill(self) -> None:
        await asyncio.to_thread(self.daemon.stop, 10, signal.SIGKILL)

    async def ask(self, method: str, path: str) -> tuple[int, Any]:
        connector = aiohttp.UnixConnector(str(self.folder / "agent.sock"))
        async with (
            aiohttp.ClientSession("http://agent", connector=connector) as http,
            http.request(method, path) as response,
        ):
            return response.status, await response.json(content_type=None) if response.status != 204 else None


@pytest.fixture
async def hub(controller: FakeController) -> AsyncIterator[FakeHub]:
    hub = FakeHub()
    async with serving(hub, controller):
        yield hub


@pytest.fixture
def controller(tmp_path: Path) -> FakeController:
    return FakeController(tmp_path / "controller")


@pytest.fixture
def agent(tmp_path: Path, hub: FakeHub, controller: FakeController) -> Iterator[Agent]:
    agent = Agent(tmp_path, hub, controller)
    yield agent
    agent.daemon.stop()


@pytest.fixture
async def dask_cluster(tmp_path: Path, controller: FakeController) -> AsyncIterator[str]:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "host_key")
    argv = [sys.executable, "-m", "af_hub.forwarder.server", "--listen", "127.0.0.1:0"]
    argv += ["--host-key", str(tmp_path / "host_key"), "--user-ca", str(controller.user_ca.public_path)]
    with Daemon("forwarder", [*argv, "--ready-fd", "{ready_fd}"], tmp_path / "forwarder.log") as forwarder:
        async with scheduler_at_a_site(controller, forwarder) as cluster:
            yield cluster


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def echo(attached: dict[str, Any], text: bytes) -> bytes:
    """Talk to the scheduler with the credentials and the address that the agent gave."""
    context = ssl.create_default_context(cafile=attached["tls"]["ca"])
    context.load_cert_chain(attached["tls"]["cert"], attached["tls"]["key"])
    host, port = attached["scheduler"].removeprefix("tls://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="scheduler")
    writer.write(text)
    answer = await asyncio.wait_for(reader.readexactly(len(text)), 20)
    writer.close()
    return answer


async def test_token_is_there_when_it_says_ready(agent: Agent) -> None:
    said = await agent.start()
    assert said["token"] is True
    assert (agent.folder / "token").read_text() == "token-1"
    assert mode(agent.folder / "token") == 0o600
    assert mode(agent.folder / "agent.sock") == 0o600


async def test_tools_of_the_pool_and_batch_jobs_have_tokens(
    tmp_path: Path, hub: FakeHub, controller: FakeController
) -> None:
    agent = Agent(tmp_path, hub, controller, pool="main", job_tokens=True)
    with agent.daemon:
        await asyncio.to_thread(agent.daemon.ready)
        file = agent.folder / "pool-token"
        assert await asyncio.to_thread(comes_true, lambda: file.exists() and bool(controller.job_tokens_brought), 20)
        assert file.read_text() == "for-main" and mode(file) == 0o600
        assert (agent.folder / "token").read_text() == "token-1", "that one is for data"
        assert controller.job_tokens_brought == ["main"]


async def test_refused_job_tokens_end_nothing(tmp_path: Path, hub: FakeHub, controller: FakeController) -> None:
    agent = Agent(tmp_path, hub, controller, pool="closed", job_tokens=True)
    with agent.daemon:
        assert (await asyncio.to_thread(agent.daemon.ready))["token"] is True
        assert await asyncio.to_thread(comes_true, lambda: len(controller.job_tokens_brought) > 1, 20), "it asks again"
    assert "Jobs in the pool 'closed' get no token." in agent.daemon.log.read_text()


async def test_hub_that_stumbles_delays_the_token(agent: Agent, hub: FakeHub) -> None:
    hub.fails = [503]
    assert (await agent.start())["token"] is True
    assert hub.asked == 2


@pytest.mark.parametrize("status, words", [(401, "log out of the hub and in again"), (403, "custom:af-token:read")])
async def test_clear_reason_for_no_token(agent: Agent, hub: FakeHub, status: int, words: str) -> None:
    hub.fails = [status] * 9
    said = await agent.start()
    assert said["token"] is False
    assert words in said["reason"]
    assert not (agent.folder / "token").exists()
    code, health = await agent.ask("GET", "/health")
    assert code == 200
    assert words in health["token"]["reason"]


async def test_attached_scheduler_is_reached(agent: Agent, dask_cluster: str) -> None:
    await agent.start()
    status, attached = await agent.ask("PUT", f"/clusters/{dask_cluster}")
    assert status == 200
    assert attached["cluster"] == dask_cluster
    assert await echo(attached, b"1 + 1" * 1000) == b"1 + 1" * 1000
    folder = agent.folder / "clusters" / dask_cluster
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir()} == dict.fromkeys(
        ["ssh.key", "ssh.cert", "tls.key", "tls.pem", "tls-ca.pem", "attachment.json"], 0o600
    )


async def test_attaching_again_is_attaching_once(agent: Agent, dask_cluster: str, controller: FakeController) -> None:
    await agent.start()
    answers = await asyncio.gather(*(agent.ask("PUT", f"/clusters/{dask_cluster}") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert controller.asked == 1
    assert await agent.ask("GET", "/clusters") == (200, [answers[0][1]])


async def test_killed_agent_comes_back_at_the_same_port(
    agent: Agent, dask_cluster: str, controller: FakeController
) -> None:
    await agent.start()
    _, before = await agent.ask("PUT", f"/clusters/{dask_cluster}")
    await agent.kill()
    await agent.start()
    assert await agent.ask("GET", "/clusters") == (200, [before])
    assert await echo(before, b"still there") == b"still there"
    assert await agent.ask("PUT", f"/clusters/{dask_cluster}") == (200, before)
    assert controller.asked == 1


async def test_killed_agent_comes_back_at_another_port_when_its_own_was_taken(
    agent: Agent, dask_cluster: str, controller: FakeController
) -> None:
    await agent.start()
    _, before = await agent.ask("PUT", f"/clusters/{dask_cluster}")
    await agent.kill()
    taken = socket.create_server(("127.0.0.1", int(before["scheduler"].rpartition(":")[2])))
    with taken:
        await agent.start()
        _, (after,) = await agent.ask("GET", "/clusters")
        assert after == before | {"scheduler": after["scheduler"]} and after != before
        assert await echo(after, b"still there") == b"still there"
        await agent.kill()
    await agent.start()
    assert await agent.ask("GET", "/clusters") == (200, [after])


async def test_certificates_that_end_are_replaced_at_the_same_port(
    agent: Agent, dask_cluster: str, controller: FakeController
) -> None:
    await agent.start()
    controller.life = 30
    _, before = await agent.ask("PUT", f"/clusters/{dask_cluster}")
    controller.life = 3600
    _, after = await agent.ask("PUT", f"/clusters/{dask_cluster}")
    assert after["scheduler"] == before["scheduler"]
    assert after["expires_at"] > before["expires_at"]
    assert await echo(after, b"new") == b"new"


async def test_detached_keys_and_port_are_gone(agent: Agent, dask_cluster: str) -> None:
    await agent.start()
    _, attached = await agent.ask("PUT", f"/clusters/{dask_cluster}")
    assert (await agent.ask("DELETE", f"/clusters/{dask_cluster}"))[0] == 204
    assert not (agent.folder / "clusters" / dask_cluster).exists()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(attached["scheduler"].rpartition(":")[2]))
    assert (await agent.ask("DELETE", f"/clusters/{dask_cluster}"))[0] == 204


@pytest.mark.parametrize(
    "cluster, status",
    [
        pytest.param("0" * 32, 404, id="somebody else's, or nobody's"),
        pytest.param("0" * 31, 400, id="too short"),
        pytest.param("A" * 32, 400, id="capitals"),
        pytest.param("0" * 32 + "%0A", 400, id="newline"),
        pytest.param("..%2Frun", 400, id="a path"),
    ],
)
async def test_refusals_are_problems(agent: Agent, cluster: str, status: int) -> None:
    await agent.start()
    code, problem = await agent.ask("PUT", f"/clusters/{cluster}")
    assert (code, problem["status"]) == (status, status)
    assert problem["detail"]
    assert not (agent.folder / "clusters").exists()


async def test_no_secret_where_others_look(agent: Agent, dask_cluster: str) -> None:
    await agent.start()
    await agent.ask("PUT", f"/clusters/{dask_cluster}")
    assert agent.daemon.process
    process = Path(f"/proc/{agent.daemon.process.pid}")
    seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes() + agent.daemon.log.read_bytes()
    for secret in (b"token-1", HUB_TOKEN.encode(), b"PRIVATE KEY"):
        assert secret not in seen


async def test_too_long_a_folder_is_said(tmp_path: Path, hub: FakeHub, controller: FakeController) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    agent = Agent(deep, hub, controller)
    with pytest.raises(Unavailable, match="too long for a socket"):
        await agent.start()
    await asyncio.to_thread(agent.daemon.stop)


async def test_repositories_are_looked_at_and_told(tmp_path: Path, hub: FakeHub, controller: FakeController) -> None:
    agent = Agent(tmp_path, hub, controller, repositories=["no-such.cern.ch"])
    try:
        await agent.start()
        status, answer = await agent.ask("GET", "/cvmfs")
        assert status == 200 and [one["state"] for one in answer] == ["not mounted"]
        assert set(answer[0]) == {"name", "state", "revision", "sentence"} and "is not there" in answer[0]["sentence"]
        assert comes_true(lambda: "CVMFS: no-such.cern.ch not mounted" in agent.daemon.log.read_text(), 10)
    finally:
        agent.daemon.stop()


async def test_without_repositories_nothing_is_said_of_them(agent: Agent) -> None:
    await agent.start()
    assert await agent.ask("GET", "/cvmfs") == (200, [])
    assert "CVMFS" not in agent.daemon.log.read_text()


async def test_in_a_pod_it_brings_the_files_and_says_ready(
    tmp_path: Path, hub: FakeHub, controller: FakeController
) -> None:
    """It begins in an empty folder, with nobody who holds a pipe, and is told to end by SIGTERM."""
    home = tmp_path / "home"
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    agent = Agent(
        tmp_path,
        hub,
        controller,
        files={"xrd.d/50-af-cache.conf": "url = x"},
        home=str(home),
        home_files={"Welcome.ipynb": "{}"},
        cache="root://127.0.0.1:1",
        signpost_port=port,
    )
    for _ in range(2):  # the second time as the container is started again alone
        await agent.start()
        assert (agent.folder / "xrd.d/50-af-cache.conf").read_text() == "url = x"
        assert mode(agent.folder / "xrd.d/50-af-cache.conf") == 0o600
        assert (agent.folder / "ready").exists() and (agent.folder / "token").exists()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await asyncio.to_thread(agent.daemon.stop, 10, signal.SIGTERM)
        assert agent.daemon.process is None or agent.daemon.process.returncode == 0
        (home / "Welcome.ipynb").write_text("mine")
    assert [path.name for path in home.iterdir()] == ["Welcome.ipynb"] and (
        home / "Welcome.ipynb"
    ).read_text() == "mine"


def attached(text: str) -> Callable[[Path], object]:
    def left(folder: Path) -> None:
        cluster = folder / "clusters" / ("0" * 32)
        cluster.mkdir(parents=True)
        (cluster / "ssh.key").write_text("")
        (cluster / "attachment.json").write_text(text)

    return left


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(attached("[" * 200_000), id="an attachment without end"),
        pytest.param(lambda folder: (folder / "ready").mkdir(), id="a folder in the place of the file ready"),
        pytest.param(lambda folder: (folder / "agent.sock").mkdir(), id="a folder in the place of the socket"),
        pytest.param(lambda folder: (folder / "xrd.d").write_text(""), id="a file in the place of a folder"),
        pytest.param(lambda folder: os.mkfifo(folder / "token", 0o600), id="a pipe in the place of the token"),
    ],
)
async def test_whatever_its_person_left_in_its_folder(
    tmp_path: Path, hub: FakeHub, controller: FakeController, left: Callable[[Path], object]
) -> None:
    """Programs of the session can write there, and the agent must not end each time that it starts."""
    agent = Agent(tmp_path, hub, controller, files={"xrd.d/50-af-cache.conf": "url = x", "a": "b"})
    left(agent.folder)
    with agent.daemon:
        assert (await asyncio.to_thread(agent.daemon.ready))["token"] is True
        assert all((agent.folder / name).is_file() for name in ("token", "ready", "a"))
        assert (await agent.ask("GET", "/health"))[0] == 200


async def test_an_agent_that_starts_again_is_not_ready_before_it_is(agent: Agent, hub: FakeHub) -> None:
    await agent.start()
    await agent.kill()
    assert (agent.folder / "ready").exists(), "one that is killed leaves it"
    hub.fails = [503] * 1000
    with agent.daemon:
        assert comes_true(lambda: not (agent.folder / "ready").exists(), 10)


async def test_a_home_in_use_and_a_taken_port_are_no_end(
    tmp_path: Path, hub: FakeHub, controller: FakeController
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        more = {"cache": "root://127.0.0.1:1", "signpost_port": port, "home": str(home), "home_files": {"W": "{}"}}
        agent = Agent(tmp_path, hub, controller, **more)
        with agent.daemon:
            assert (await asyncio.to_thread(agent.daemon.ready))["token"] is True
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]
