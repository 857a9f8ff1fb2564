"""A keeper and a demo IAM on one clock that moves only when told."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from af_hub.iam.claims import Claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient
from af_hub.tokens.keeper import Purpose, TokenKeeper
from af_hub.tokens.store import Store

KEY_TEXT = Fernet.generate_key().decode()
KEY = Fernet(KEY_TEXT)
SESSION = Purpose("openid profile wlcg.groups")
POOL = Purpose("compute.read compute.create wlcg.groups", "pool.test")
SCOPES = ("openid", "profile", "wlcg.groups", "compute.read", "compute.create", "offline_access")
HUB = DemoClient("hub", "s3cret", (), SCOPES)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    iam: DemoIAM
    clock: Clock
    path: Path
    keeper: TokenKeeper

    def restarted(self) -> TokenKeeper:
        """Another keeper on the same database, as after a restart of the hub."""
        client = IAMClient(Discovery(self.iam.issuer, self.iam.discovery), "hub", "s3cret", self.clock)
        self.keeper = TokenKeeper(Store(self.path, [KEY]), {self.iam.issuer: client}, lambda _: SESSION, self.clock)
        return self.keeper

    async def log_in(self, username: str = "ada") -> Claims:
        """What the login leaves behind: claims, and a refresh token of the IAM."""
        user = self.iam.users[username]
        refresh_token = self.iam.grant(HUB, username, SCOPES)
        return await self.keeper.enrol(Claims(self.iam.issuer, user.subject, username, user.groups), refresh_token)


async def comes_true(fact: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something that goes on in the background has happened."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
