"""From a row to a result: real HTCondor, real forwarder, the controller and the session agent as processes, real Dask."""

import asyncio
import time

import httpx
import pytest
from dask.distributed import Client
from real_facility import ANALYST, open_facility

from af_hub.client.remote import RemoteHTCondor
from af_hub.condor.pool import CondorPool

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
async def session(tmp_path, iam, condor_pool, monkeypatch):
    """A session of cms-analyst: environment set, agent running."""
    async with open_facility(tmp_path, iam, condor_pool) as facility:
        for name, value in facility.environment.items():
            monkeypatch.setenv(name, value)
        yield facility.url


async def test_a_cluster_from_row_to_result_and_away(session, condor_pool, tmp_path):
    pool = CondorPool(condor_pool.collector, condor_pool.schedd, str(condor_pool.ca_file))

    async def jobs_of(cluster):
        return [job for job in await pool.jobs(condor_pool.reader_token) if job.cluster == cluster.cluster_id]

    def token():
        import os
        from pathlib import Path

        return Path(os.environ["BEARER_TOKEN_FILE"]).read_text()

    began = time.monotonic()
    async with RemoteHTCondor("T2_A", user_memory="512 MiB", asynchronous=True, start_timeout="60 s") as cluster:
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(lambda: 1 + 1) == 2
            print(f"first result after {time.monotonic() - began:.1f} s")
            assert await client.submit(token) == f"storage-of-{ANALYST}"
            await cluster.scale(2)
            await client.wait_for_workers(2, timeout=60)
            print(f"second worker after {time.monotonic() - began:.1f} s")
            assert list((await client.run(token)).values()) == [f"storage-of-{ANALYST}"] * 2
            headers = {"Authorization": f"token {cluster._controller.token}"}
            async with httpx.AsyncClient(base_url=session, headers=headers, trust_env=False) as api:
                page = await api.get(f"clusters/{cluster.cluster_id}/dashboard/status")
                assert page.status_code == 200 and "Dask" in page.text
                assert "scheduler" in await cluster.logs()
                jobs = await jobs_of(cluster)
                assert sorted(job.role for job in jobs) == ["scheduler", "worker"]
                assert len({job.account for job in jobs}) == 1
            await cluster.scale(1)
            async with asyncio.timeout(30):
                while len(await jobs_of(cluster)) > 1:
                    await asyncio.sleep(0.5)
            assert await client.submit(lambda: 2 + 1) == 3
    closed = time.monotonic()
    async with asyncio.timeout(20):
        while (await cluster._controller.get(cluster.cluster_id))["state"] != "closed":
            await asyncio.sleep(0.2)
    print(f"closed after {time.monotonic() - closed:.1f} s")
    assert await jobs_of(cluster) == []
    assert not list((tmp_path / "state" / "clusters").iterdir())
