"""From a row to a result: real HTCondor, real forwarder, the controller and the session agent as processes, real Dask."""

import asyncio
import json
import sys
import time

import httpx
import pytest
from dask.distributed import Client
from test_app import controller, environment, keys_command
from world import FACILITY

from af_hub.client.remote import RemoteHTCondor
from af_hub.condor.pool import CondorPool
from af_hub.controller.settings import SERVICE
from af_hub.forwarder.login import ForwarderAddress
from af_hub.testing.fake_hub import FakeHub
from af_hub.testing.process import Daemon

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]
SCOPES = "compute.read compute.create compute.modify compute.cancel wlcg.groups"


@pytest.fixture
async def session(tmp_path, iam, condor_pool, monkeypatch):
    """A session of cms-analyst: environment set, agent running."""

    def mint(name):
        return iam.mint(name, scope=SCOPES, audience=condor_pool.audience, profile="wlcg")

    facility = FACILITY.replace("/images/python-analysis", sys.prefix)
    facility = facility.replace("c:9618", condor_pool.collector).replace("schedd: s,", f"schedd: {condor_pool.schedd},")
    facility = facility.replace("/ca.pem", str(condor_pool.ca_file))
    # The access point maps people as the shipped policy says.
    facility = facility.replace("cms-{username}", "u-cms-{username}")
    argv = [sys.executable, "-m", "af_hub.forwarder.server", "--listen", "127.0.0.1:0", "--ready-fd", "{ready_fd}"]
    argv += ["--host-key", str(tmp_path / "host_key"), "--user-ca", keys_command(tmp_path / "state")]
    async with FakeHub({"cms-analyst": ["/cms", "/cms/itcms"]}, mint=mint) as hub:
        with Daemon("forwarder", argv, tmp_path / "forwarder.log") as forwarder:
            found = await asyncio.to_thread(forwarder.ready)
            address = ForwarderAddress(found["host"], found["port"], found["host_key"])
            own = {
                "AF_HUB_API_URL": f"{hub.url}/hub/api",
                "AF_CONDOR_READER_TOKEN_FILE": str(condor_pool.reader_token),
                "AF_PUBLIC_URL": "http://hub.test/",
            }
            environ = environment(tmp_path, address, **own)
            (tmp_path / "facility.yaml").write_text(facility)
            with controller(tmp_path, environ) as daemon:
                url = (await asyncio.to_thread(daemon.ready))["url"] + f"/services/{SERVICE}/"
                with session_agent(tmp_path, hub, url) as agent:
                    told = await asyncio.to_thread(agent.ready)
                    monkeypatch.setenv("AF_CONTROLLER_URL", url)
                    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", hub.token_of("cms-analyst"))
                    monkeypatch.setenv("AF_AGENT_SOCKET", told["socket"])
                    monkeypatch.setenv("AF_IMAGE", "python-analysis")
                    yield url


def session_agent(tmp_path, hub, url):
    folder = tmp_path / "session"
    folder.mkdir(mode=0o700)
    config = {
        "folder": str(folder),
        "hub_api_url": f"{hub.url}/hub/api",
        "hub_token": hub.token_of("cms-analyst"),
        "controller_url": url,
    }
    (folder / "config.json").write_text(json.dumps(config))
    argv = [sys.executable, "-m", "af_hub.session.agent", "--config", str(folder / "config.json")]
    return Daemon("session agent", [*argv, "--ready-fd", "{ready_fd}"], tmp_path / "session-agent.log")


async def test_a_cluster_from_row_to_result_and_away(session, condor_pool, tmp_path):
    pool = CondorPool(condor_pool.collector, condor_pool.schedd, str(condor_pool.ca_file))
    began = time.monotonic()
    async with RemoteHTCondor("T2_A", user_memory="512 MiB", asynchronous=True, start_timeout="60 s") as cluster:
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(lambda: 1 + 1) == 2
            print(f"first result after {time.monotonic() - began:.1f} s")
            await cluster.scale(2)
            await client.wait_for_workers(2, timeout=60)
            print(f"second worker after {time.monotonic() - began:.1f} s")
            token = {"Authorization": f"token {cluster._controller.token}"}
            async with httpx.AsyncClient(base_url=session, headers=token, trust_env=False) as api:
                page = await api.get(f"clusters/{cluster.cluster_id}/dashboard/status")
                assert page.status_code == 200 and "Dask" in page.text
                assert "scheduler" in await cluster.logs()
                jobs = await pool.jobs(condor_pool.reader_token)
                assert sorted(job.role for job in jobs) == ["scheduler", "worker"]
                assert len({job.account for job in jobs}) == 1
            await cluster.scale(1)
            async with asyncio.timeout(30):
                while len(await pool.jobs(condor_pool.reader_token)) > 1:
                    await asyncio.sleep(0.5)
            assert await client.submit(lambda: 2 + 1) == 3
    closed = time.monotonic()
    async with asyncio.timeout(20):
        while (await cluster._controller.get(cluster.cluster_id))["state"] != "closed":
            await asyncio.sleep(0.2)
    print(f"closed after {time.monotonic() - closed:.1f} s")
    assert await pool.jobs(condor_pool.reader_token) == []
    assert not list((tmp_path / "state" / "clusters").iterdir())
