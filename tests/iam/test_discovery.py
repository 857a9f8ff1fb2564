"""Addresses and keys of an IAM, against the demo one."""

import pytest

from af_hub.errors import TokenRejected, Unavailable
from af_hub.iam.discovery import Discovery
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


async def test_an_iam_that_was_down_is_asked_again() -> None:
    async with DemoIAM([], []) as iam:
        discovery = Discovery(iam.issuer, iam.discovery)
        iam.down = True
        with pytest.raises(Unavailable):
            await discovery.key("any")
        iam.down = False
        assert await discovery.key(iam.keys.kids["RS256"])
