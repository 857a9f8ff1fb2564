import secrets
from contextlib import AsyncExitStack

import pytest

from af_hub.forwarder.access import Endpoint, Service
from af_hub.forwarder.bridge import Bridge
from af_hub.forwarder.link import Link


@pytest.fixture
def mine():
    """A Dask cluster of this test alone."""
    return secrets.token_hex(16)


@pytest.fixture
async def bridged(forwarder, mine):
    """``await bridged(connector)``: a bridge whose streams end at what the connector reaches."""
    async with AsyncExitStack() as stack:

        async def bridge(connector):
            offers = {Service.SCHEDULER: connector}
            job = Link(forwarder.address, forwarder.certify(f"job:{mine}"), offers)
            session = Link(forwarder.address, forwarder.certify(f"session:{mine}"))
            await stack.enter_async_context(job)
            await job.connection()
            await stack.enter_async_context(session)
            return await stack.enter_async_context(Bridge(session, Endpoint(mine, Service.SCHEDULER)))

        yield bridge
