"""What the controller makes of a hub that cannot serve, which is no word about anybody's rights."""

import httpx
import pytest

from af_hub.controller.hub import Hub
from af_hub.errors import LoginRequired, Refused, Unavailable
from af_hub.testing.fake_hub import SERVICE_TOKEN, FakeHub


@pytest.fixture
async def hub():
    async with FakeHub(people={"ada": ["/cms"]}) as fake, httpx.AsyncClient() as http:
        yield fake, Hub(f"{fake.url}/hub/api", SERVICE_TOKEN, http)


async def test_a_hub_on_a_full_disk_refuses_nobody(hub):
    fake, client = hub
    fake.full_disk = True
    for question in (client.whoami(fake.token_of("ada")), client.claims("ada"), client.condor_token("ada")):
        with pytest.raises(Unavailable, match="The hub cannot serve now: its disk may be full"):
            await question

    fake.full_disk = False
    assert (await client.claims("ada")).username == "ada"


async def test_a_token_that_the_hub_does_not_know_is_nobodys(hub):
    _, client = hub
    assert await client.whoami("0" * 32) is None


async def test_tokens_for_storage(hub):
    fake, client = hub
    token = await client.storage_token("ada")
    assert token.value.startswith("storage-of-ada") and token.value not in repr(token)
    assert await client.storage_token("ada") == token
    fake.away = True
    assert await client.storage_token("ada") == token
    fake.clock = lambda: token.expires_at
    with pytest.raises(Unavailable, match=r"^The IAM does not answer\.$"):
        await client.storage_token("ada")
    with pytest.raises(Refused, match="gives no storage token for bob"):
        await client.storage_token("bob")
    fake.expired = {"ada"}
    fake.clock = lambda: token.expires_at - 1
    last = await client.storage_token("ada")
    assert last == token and token.logged_in and not last.logged_in
    fake.clock = lambda: token.expires_at
    with pytest.raises(LoginRequired, match="log in at the hub again"):
        await client.storage_token("ada")
