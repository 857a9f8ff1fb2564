"""Scheduler and workers of a job read protected data with each token that comes, though XRootD asks for it at a login only."""

import asyncio
import os
import time

import pytest
from test_agent import client_of, http_of, workers_are

from af_hub.errors import Unavailable
from af_hub.testing.iam_tokens import ANY_AUDIENCE
from af_hub.testing.require import unavailable
from af_hub.testing.xrootd_tokens import open_protected_service

pytestmark = pytest.mark.real

SIZE = 100_000
READS = "openid storage.read:/"
SOON_SECONDS = 20


@pytest.fixture
def service(iam, tmp_path):
    """Origin and cache that ask for tokens of the IAM."""
    (tmp_path / "data" / "protected").mkdir(parents=True)
    (tmp_path / "data" / "protected" / "file").write_bytes(os.urandom(SIZE))
    try:
        with open_protected_service(tmp_path / "xrootd", iam.keys.published(), tmp_path / "data") as service:
            yield service
    except Unavailable as reason:
        unavailable(str(reason))


def is_whole(answer):
    return answer == SIZE


def is_refusal(answer):
    return "permission denied" in str(answer)


def reader(url):
    """A task that opens the file and says how much it read, or why not."""

    def read():
        from XRootD import client

        with client.File() as file:
            status, _ = file.open(url, timeout=10)
            return len(file.read()[1]) if status.ok else status.message

    return read


async def test_each_token_is_used_from_the_moment_it_comes(running, service, iam, tmp_path):
    """A token that may not read takes the right away, the next one gives it back; each time the connections are open already."""
    site = service.client_environment(tmp_path / "site")
    job = running(site={name: value for name, value in site.items() if name not in ("PATH", "HOME")})
    dask_cluster, read = job.dask_cluster, reader(f"{service.origin.url}//protected/file")
    first, second = (f"{dask_cluster.id[:8]}-{number}" for number in (0, 1))

    async def give(agent, scope):
        token = iam.mint("cms-analyst", scope=scope, audience=ANY_AUDIENCE, profile="wlcg")
        body = {"access_token": token, "expires_at": time.time() + 3600}
        assert (await agent.put("/token", json=body)).status_code == 200

    async def answers_become(client, fits):
        """Of both workers and the scheduler, soon."""
        async with asyncio.timeout(SOON_SECONDS):
            while True:
                answers = [*(await client.run(read)).values(), await client.run_on_scheduler(read)]
                if len(answers) == 3 and all(map(fits, answers)):
                    return

    async with http_of(dask_cluster, "agent", dask_cluster.tls("controller")) as agent, client_of(job) as client:
        facts = await workers_are(agent, first)
        running("af_hub.job.worker", dask_cluster, site=job.site, scheduler=facts["scheduler"], name=second)
        await workers_are(agent, first, second)
        await answers_become(client, is_refusal)
        for scope, fits in ((READS, is_whole), ("openid", is_refusal), (READS, is_whole)):
            await give(agent, scope)
            await answers_become(client, fits)
