"""A batch job of eight hours with tokens of one: the issuer's and the keeper's clock moves, the pool and its daemons are real."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import jwt
import pytest
from cryptography.fernet import Fernet

from af_hub.condor.jobtoken import with_token
from af_hub.condor.pool import CondorPool
from af_hub.controller.batch import BatchTokens
from af_hub.controller.condor import CondorPools
from af_hub.controller.hub import CondorToken, StorageToken
from af_hub.iam.claims import Claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.policy.load import PolicyFile
from af_hub.testing.condor import CONFIGURATION, RealPool
from af_hub.testing.hub import nowhere
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient, read_users
from af_hub.testing.places import USERS
from af_hub.testing.process import comes_true
from af_hub.tokens.keeper import Purpose, TokenKeeper
from af_hub.tokens.store import Store

pytestmark = [pytest.mark.real, pytest.mark.long, pytest.mark.usefixtures("clean")]

USER, HOUR, STEP = "cms-analyst", 3600.0, 600.0
SCOPES = ("openid", "profile", "wlcg.groups", "storage.read:/", "offline_access")
CLIENT = DemoClient("hub", "s3cret", (), SCOPES)
# What it finds whenever that is another one, oldest first.
READER = """executable = /bin/sh
transfer_executable = False
arguments = "-c 'while sleep 0.2; do cp $BEARER_TOKEN_FILE new && { cmp -s new seen || { cat new >> all; echo >> all; }; mv new seen; }; done'"
should_transfer_files = YES
request_memory = 10MB
request_disk = 1MB
queue
"""


class Clock:
    """Moves when told, beside the real one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Keeping:
    """The keeper as the controller sees it through the hub. The pool's own clock is the real one, so tokens for it are of now."""

    def __init__(self, keeper: TokenKeeper, pool_token: Callable[[str], str]) -> None:
        self._keeper, self._pool_token = keeper, pool_token

    async def claims(self, username: str) -> Claims:
        record = self._keeper.record(username)
        assert record
        return record.claims

    async def storage_token(self, username: str) -> StorageToken:
        token = await self._keeper.purpose_token(username, Purpose("storage.read:/"))
        return StorageToken(token.value, token.expires_at)

    async def condor_token(self, username: str) -> CondorToken:
        return CondorToken(self._pool_token(username), time.time() + 600)


def read(pool: RealPool, name: str) -> str:
    """A file of the running job."""
    for path in pool.folder.glob(f"T2_*/execute/dir_*/{name}"):
        try:
            return path.read_text()
        except OSError:
            pass
    return ""


def claims_of(token: str) -> dict[str, float]:
    found: dict[str, float] = jwt.decode(token, options={"verify_signature": False})
    return found


async def test_job_always_has_a_good_token(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str], tmp_path: Path
) -> None:
    clock = Clock()
    where = {"AF_CONDOR_COLLECTOR": condor_pool.collector, "AF_CONDOR_CA_FILE": str(condor_pool.ca_file)}
    async with DemoIAM(read_users(USERS), [CLIENT], clock=clock, lifetime=HOUR) as issuer:
        environ = {**nowhere(tmp_path), "AF_PUBLIC_URL": "http://h/", "AF_IAM_DISCOVERY": issuer.discovery, **where}
        policy = PolicyFile(CONFIGURATION.parent / "facility.yaml", environ)
        client = IAMClient(Discovery(issuer.issuer, issuer.discovery), "hub", "s3cret", clock)
        store = Store(tmp_path / "keeper.sqlite", [Fernet(Fernet.generate_key())])
        keeper = TokenKeeper(store, {issuer.issuer: client}, lambda _: Purpose("openid profile wlcg.groups"), clock)
        user = issuer.users[USER]
        await keeper.enrol(Claims(issuer.issuer, user.subject, USER, user.groups), issuer.grant(CLIENT, USER, SCOPES))
        batch = BatchTokens(
            Keeping(keeper, token),
            CondorPools(policy, condor_pool.reader_token, tmp_path),
            policy,
            clock,  # type: ignore[arg-type]
        )
        await batch.bring(USER)
        await pool.submit(token(USER), with_token(READER), {})
        assert await asyncio.to_thread(comes_true, lambda: bool(read(condor_pool, "seen")), 40)
        while clock.ahead < 8 * HOUR:
            clock.ahead += STEP
            issuer.down = 3 * HOUR < clock.ahead <= 3.4 * HOUR  # nobody notices
            await batch.round()
            lies = next(condor_pool.credentials.glob("*/iam.top")).read_text()
            assert await asyncio.to_thread(comes_true, lambda lies=lies: read(condor_pool, "seen") == lies, 20)
            assert claims_of(lies)["exp"] - clock() > 900
    tokens = read(condor_pool, "all").split()
    assert len(tokens) == len(set(tokens)) and 10 <= len(tokens) <= 30
    lives = [(claims_of(one)["iat"], claims_of(one)["exp"]) for one in tokens]
    assert all(end - begin == HOUR for begin, end in lives)
    assert all(later[0] < earlier[1] for earlier, later in pairwise(lives)), "no gap"
