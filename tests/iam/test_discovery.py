"""Addresses and keys of an IAM, against the demo one."""

import asyncio

import pytest

from af_hub.errors import TokenRejected, Unavailable
from af_hub.iam.discovery import Discovery, read_keys, read_metadata
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_tokens import SigningKeys


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_addresses() -> None:
    async with DemoIAM([], []) as iam:
        found = await Discovery(iam.issuer, iam.discovery).metadata()
    assert found.token_endpoint == iam.url + "token"


async def test_another_issuers_document_is_refused() -> None:
    async with DemoIAM([], [], issuer="https://evil.test/") as iam:
        with pytest.raises(Unavailable, match=r"evil\.test"):
            await Discovery("https://iam.af-hub.test/", iam.discovery).metadata()


async def test_keys_are_asked_for_again_when_one_is_unknown_but_not_for_each_forgery() -> None:
    clock = Clock()
    async with DemoIAM([], []) as iam:
        discovery = Discovery(iam.issuer, iam.discovery, clock)
        await discovery.key(iam.keys.kids["RS256"])
        await discovery.key(iam.keys.kids["ES256"])
        assert iam.asked == ["jwk"]
        for forged in "abc":
            with pytest.raises(TokenRejected):
                await discovery.key(forged)
        assert iam.asked == ["jwk"]
        iam.keys = SigningKeys()
        clock.now += 31
        await discovery.key(iam.keys.kids["RS256"])
        assert iam.asked == ["jwk", "jwk"]


async def test_keys_that_the_issuer_withdrew_are_good_for_some_hours_at_most() -> None:
    clock = Clock()
    async with DemoIAM([], []) as iam:
        discovery = Discovery(iam.issuer, iam.discovery, clock)
        withdrawn = iam.keys.kids["RS256"]
        assert await discovery.key(withdrawn)
        iam.rotate_keys(keep=False)
        clock.now += 6 * 3600
        with pytest.raises(TokenRejected):
            await discovery.key(withdrawn)


async def test_token_that_names_no_key_is_of_the_only_one_or_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with DemoIAM([], []) as iam:
        with pytest.raises(TokenRejected):
            await Discovery(iam.issuer, iam.discovery).key("")
        one = iam.keys.published()["keys"][:1]
        monkeypatch.setattr(iam.keys, "published", lambda: {"keys": one})
        assert (await Discovery(iam.issuer, iam.discovery).key("")).key_id == one[0]["kid"]


async def test_an_iam_that_was_down_is_asked_again() -> None:
    async with DemoIAM([], []) as iam:
        discovery = Discovery(iam.issuer, iam.discovery)
        iam.down = True
        with pytest.raises(Unavailable):
            await discovery.key("any")
        iam.down = False
        assert await discovery.key(iam.keys.kids["RS256"])


async def test_a_slow_iam_is_asked_once_for_all_who_wait() -> None:
    async with DemoIAM([], []) as iam:
        discovery = Discovery(iam.issuer, iam.discovery)
        iam.faults["discovery"] = "silent"
        waiting = [asyncio.create_task(discovery.metadata()) for _ in range(5)]
        await asyncio.wait(waiting, timeout=0.2)
        waiting.pop().cancel()
        assert len(discovery._asking) == 1
        iam.faults.clear()
        iam.release()
        assert {found.issuer for found in await asyncio.gather(*waiting)} == {iam.issuer}


async def test_a_login_asks_again_where_the_iam_is() -> None:
    clock = Clock()
    async with DemoIAM([], []) as iam:
        discovery = Discovery(iam.issuer, iam.discovery, clock)
        await discovery.metadata()
        iam.faults["discovery"] = "gone"
        await discovery.metadata(max_age=10)
        clock.now += 11
        await discovery.metadata()
        with pytest.raises(Unavailable):
            await discovery.metadata(max_age=10)


@pytest.mark.parametrize(
    "address", [None, 5, "", "javascript:alert(1)", "file:///etc/passwd", "http://", "http://[", "http://a:b/"]
)
def test_addresses_that_are_none(address: object) -> None:
    names = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
    found = {"issuer": "https://i/", **dict.fromkeys(names, "https://i/x")}
    assert read_metadata(found, "https://i/").jwks_uri == "https://i/x"
    with pytest.raises(Unavailable, match="no address as token_endpoint"):
        read_metadata({**found, "token_endpoint": address}, "https://i/")


@pytest.mark.parametrize(
    "keys", [None, "a", [], ["a"], [{"kid": 5}], [{"kid": "a", "kty": "RSA", "n": 3}], [{"kid": "a", "kty": []}]]
)
def test_keys_that_are_none(keys: object) -> None:
    with pytest.raises(Unavailable):
        read_keys({"keys": keys})
