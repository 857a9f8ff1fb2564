"""The process as it is started, with the forwarder as it is started."""

import asyncio
import os
import ssl
import subprocess
import sys
import tempfile
import time

import asyncssh
import httpx
import pytest
from aiohttp import web
from world import FACILITY

from af_hub.controller.app import empty_scratch
from af_hub.controller.jobagent import JobAgents
from af_hub.controller.keys import ClusterKeys, UserCA
from af_hub.controller.steps import Report
from af_hub.controller.tunnel import Tunnel
from af_hub.errors import EndpointRefused, Unavailable
from af_hub.forwarder.access import Service
from af_hub.forwarder.client import connect, unix_connector
from af_hub.forwarder.link import Link
from af_hub.forwarder.login import Credentials, ForwarderAddress
from af_hub.testing.fake_hub import SERVICE_TOKEN
from af_hub.testing.process import Daemon

CLUSTER = "0123456789abcdef" * 2


def keys_command(state):
    command = [sys.executable, "-m", "af_hub.controller", "keys", "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def forwarder(tmp_path):
    public = keys_command(tmp_path / "state")
    argv = [sys.executable, "-m", "af_hub.forwarder.server", "--listen", "127.0.0.1:0"]
    argv += ["--host-key", str(tmp_path / "host_key"), "--user-ca", public, "--ready-fd", "{ready_fd}"]
    with Daemon("forwarder", argv, tmp_path / "forwarder.log") as daemon:
        found = daemon.ready()
        yield ForwarderAddress(found["host"], found["port"], found["host_key"])


def environment(tmp_path, forwarder, **more):
    (tmp_path / "facility.yaml").write_text(FACILITY)
    for name, content in (("token", SERVICE_TOKEN), ("reader", "none")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    return {
        "PATH": os.environ["PATH"],
        "AF_FACILITY_FILE": str(tmp_path / "facility.yaml"),
        "AF_STATE_DIR": str(tmp_path / "state"),
        "AF_HUB_API_URL": "http://127.0.0.1:1/hub/api",
        "AF_CONTROLLER_TOKEN_FILE": str(tmp_path / "token"),
        "AF_PUBLIC_URL": "http://127.0.0.1:1/base/",
        "AF_FORWARDER_HOST": forwarder.host,
        "AF_FORWARDER_PORT": str(forwarder.port),
        "AF_FORWARDER_HOST_KEY": forwarder.host_key,
        "AF_CONDOR_READER_TOKEN_FILE": str(tmp_path / "reader"),
    } | more


def controller(tmp_path, environ):
    argv = [sys.executable, "-m", "af_hub.controller", "--listen", "127.0.0.1:0", "--ready-fd", "{ready_fd}"]
    return Daemon("controller", argv, tmp_path / "controller.log", environ)


@pytest.mark.slow
def test_it_serves_below_the_hubs_path_and_stops(tmp_path, forwarder):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with controller(tmp_path, environment(tmp_path, forwarder, TMPDIR=str(temporary))) as daemon:
        url = daemon.ready()["url"]
        assert list(temporary.iterdir())
        assert httpx.get(f"{url}/base/services/af-controller/api/health").json() == {"status": "ok"}
        assert httpx.get(f"{url}/base/services/af-controller/api/clusters").status_code == 401
        login = httpx.get(f"{url}/base/services/af-controller/")
        assert login.headers["location"].startswith("/base/hub/api/oauth2/authorize?client_id=service-af-controller&")
        daemon.process.terminate()
        assert daemon.process.wait(10) == 0
    assert not list(temporary.iterdir())
    log = daemon.log.read_text()
    assert "serving at" in log and "connected to the forwarder" in log
    assert SERVICE_TOKEN not in log and "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, says",
    [
        ({"AF_FORWARDER_PORT": "x"}, "AF_FORWARDER_PORT"),
        ({"AF_HUB_API_URL": ""}, "AF_HUB_API_URL is not set"),
        ({"AF_CONTROLLER_TOKEN_FILE": "/nowhere"}, "cannot be read"),
        ({"AF_FACILITY_FILE": "/nowhere"}, "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, change, says):
    address = ForwarderAddress("127.0.0.1", 1, "ssh-ed25519 AAAA")
    with controller(tmp_path, environment(tmp_path, address, **change)) as daemon:
        assert daemon.process.wait(30) == 1
        assert says in daemon.log.read_text() and "Traceback" not in daemon.log.read_text()


@pytest.mark.slow
def test_a_token_that_others_can_read_is_refused(tmp_path):
    environ = environment(tmp_path, ForwarderAddress("127.0.0.1", 1, "ssh-ed25519 AAAA"))
    (tmp_path / "token").chmod(0o640)
    with controller(tmp_path, environ) as daemon:
        assert daemon.process.wait(30) == 1
        assert "others can read" in daemon.log_tail()


def test_what_a_killed_controller_left_of_a_call_is_removed(tmp_path):
    """A token and keys, perhaps."""
    left = tmp_path / "calls" / "af-hub-condor-x"
    left.mkdir(parents=True)
    (left / "token").write_text("secret")
    scratch = empty_scratch(tmp_path)
    assert list(scratch.iterdir()) == [] and scratch.stat().st_mode & 0o777 == 0o700


class Job:
    """A job that offers agent and dashboard at a real forwarder."""

    def __init__(self, state, forwarder, tmp_path, role="scheduler"):
        keys = ClusterKeys(state, CLUSTER)
        keys.make(UserCA(state), time.time() + 600)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.load_verify_locations(keys.path("tls-ca.pem"))
        self.tls.load_cert_chain(keys.path(f"tls-{role}.pem"), keys.path(f"tls-{role}.key"))
        credentials = Credentials(
            f"job:{CLUSTER}", keys.path("ssh.key").read_text(), keys.path("ssh.cert").read_text().strip()
        )
        self.socket = tmp_path / "agent.sock"
        self.link = Link(forwarder, credentials, {Service.AGENT: unix_connector(str(self.socket))})

    async def __aenter__(self):
        async def status(request):
            return web.json_response({"scheduler": "tls://10.0.0.1:1", "workers": [{"name": "w"}]})

        app = web.Application()
        app.add_routes([web.get("/status", status)])
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.UnixSite(self.runner, str(self.socket), ssl_context=self.tls).start()
        await self.link.start()
        return self

    async def __aexit__(self, *_):
        await self.link.close()
        await self.runner.cleanup()


async def next_change(changes):
    async with asyncio.timeout(10):
        await changes.get()


async def test_through_a_real_forwarder_to_an_agent(tmp_path, forwarder):
    state, changes = tmp_path / "state", asyncio.Queue()
    async with Tunnel(UserCA(state), forwarder, changes.put_nowait) as tunnel:
        agents = JobAgents(tunnel, state)
        assert await agents.report(CLUSTER) is None
        async with Job(state, forwarder, tmp_path):
            await next_change(changes)
            assert tunnel.offered(CLUSTER, "agent") and not tunnel.offered(CLUSTER, "dashboard")
            assert await agents.report(CLUSTER) == Report("tls://10.0.0.1:1", frozenset({"w"}))
            with pytest.raises(Unavailable):
                await agents.ask_to_close(CLUSTER)  # this one has no such route
        await next_change(changes)
        assert await agents.report(CLUSTER) is None
        await agents.forget(CLUSTER)
        with pytest.raises(asyncssh.Error):
            await asyncssh.connect(
                forwarder.host,
                forwarder.port,
                username=f"job:{CLUSTER}",
                config=None,
                known_hosts=None,
                client_keys=[str(ClusterKeys(state, CLUSTER).path("ssh.key"))],
                client_certs=[str(ClusterKeys(state, CLUSTER).path("ssh.cert"))],
            )
        await agents.close()


async def test_a_job_of_a_cluster_that_is_over_is_sent_away_again(tmp_path, forwarder):
    """A forwarder that was started anew does not know that it was dropped, and its certificate is good for hours."""
    state = tmp_path / "state"
    async with Job(state, forwarder, tmp_path) as job:
        connection = await job.link.connection()
        async with Tunnel(UserCA(state), forwarder, is_over=lambda cluster: cluster == CLUSTER), asyncio.timeout(10):
            await connection.wait_closed()
            with pytest.raises(EndpointRefused):
                await connect(forwarder, job.link.credentials)


async def test_a_worker_cannot_answer_in_the_place_of_the_agent(tmp_path, forwarder):
    state, changes = tmp_path / "state", asyncio.Queue()
    async with Tunnel(UserCA(state), forwarder, changes.put_nowait) as tunnel:
        agents = JobAgents(tunnel, state)
        async with Job(state, forwarder, tmp_path, role="worker"):
            await next_change(changes)
            found = await agents.report(CLUSTER)
            assert found.trouble and found == Report(trouble=found.trouble)
        await agents.close()


async def test_the_sockets_of_a_controller_that_was_killed_are_removed(tmp_path, monkeypatch):
    state, temporary = tmp_path / "state", tmp_path / "tmp"
    left = temporary / "af-ctl-killed"
    left.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    tunnel = Tunnel(UserCA(state), ForwarderAddress("127.0.0.1", 1, an_ssh_key()))
    (state / "sockets").symlink_to(left)
    async with tunnel:
        assert not left.exists() and (state / "sockets").readlink() in temporary.iterdir()
    assert not list(temporary.iterdir()) and not (state / "sockets").is_symlink()


async def test_no_forwarder_no_hang(tmp_path):
    state = tmp_path / "state"
    async with Tunnel(UserCA(state), ForwarderAddress("127.0.0.1", 1, an_ssh_key())) as tunnel:
        agents = JobAgents(tunnel, state)
        assert await agents.report(CLUSTER) is None
        async with asyncio.timeout(10):
            while "port 1" not in agents.cut_off:
                await asyncio.sleep(0.05)


def an_ssh_key():
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
