"""People of the demo with tokens for the real pool."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from condor_client import Client

from af_hub.condor.pool import CondorPool
from af_hub.testing.condor import RealPool
from af_hub.testing.iam import DemoIAM

COMPUTE = "compute.read compute.create compute.modify compute.cancel wlcg.groups"
AUDIENCE = "htcondor.af-hub.test"


@pytest.fixture
def pool(condor_pool: RealPool) -> CondorPool:
    return CondorPool(condor_pool.collector, condor_pool.schedd, str(condor_pool.ca_file))


@pytest.fixture
def token(iam: DemoIAM) -> Callable[..., str]:
    """A token for the pool as the hub gets it: ``token("cms-analyst")``; keywords change claims."""

    def mint(username: str, scope: str = COMPUTE, audience: str | None = AUDIENCE, **changed: Any) -> str:
        return iam.mint(username, scope=scope, audience=audience, profile="wlcg", **changed)

    return mint


@pytest.fixture
def client(condor_pool: RealPool, token: Callable[..., str], tmp_path: Path) -> Callable[..., Client]:
    """``client("cms-analyst")``, or ``client()`` for somebody without a token."""

    def make(username: str = "", **settings: str) -> Client:
        folder = tmp_path / (username or "nobody")
        folder.mkdir(exist_ok=True)
        own = {f"_condor_{name}": value for name, value in settings.items()}
        return Client(condor_pool, folder, token(username) if username else "", own)

    return make


@pytest.fixture
async def clean(condor_pool: RealPool, pool: CondorPool) -> AsyncIterator[None]:
    """Remove all jobs after the test, as the operator, and wait until their sandboxes are gone, too."""
    yield
    deadline = time.monotonic() + 30
    while left := await pool.query(condor_pool.reader_token, "True", ["JobStatus"]):
        if any(ad["JobStatus"] != 3 for ad in left):
            await asyncio.to_thread(condor_pool.tool, "condor_rm", "-constraint", "JobStatus != 3")
        assert time.monotonic() < deadline, left
    while left := list(condor_pool.folder.glob("*/execute/dir_*")):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.05)
