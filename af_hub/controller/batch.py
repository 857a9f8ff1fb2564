"""Fresh tokens for plain batch jobs: the hop controller → ``condor_credd`` of the access point → the job.

A job lives longer than an access token, and longer than the session that it was submitted from; so it is the controller that brings
tokens. It looks whose jobs ask for one, and brings each of these people's pools a fresh token for storage well before the last one
ends. It acts with the person's own token of the IAM for the pool, so the access point keeps the token for that account and no other. Who is
about to submit may have theirs brought at once (:mod:`af_hub.controller.batch_api`).

Promises: only short access tokens leave the hub, none is kept here; whose account others may have gets none; trouble with one person or pool
hinders no other, and is tried again. Leaves to the hub whether there is a token, and to HTCondor how a job gets it.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from af_hub.condor.jobtoken import Owner
from af_hub.condor.mapping import Person, pairs
from af_hub.controller.hub import Hub
from af_hub.controller.pool import Credential
from af_hub.errors import AFError, Refused
from af_hub.policy.decide import decide
from af_hub.policy.jobs import may_be, token_pools
from af_hub.policy.load import PolicyFile
from af_hub.policy.refusals import no_account
from af_hub.tokens.lifetime import AccessToken, refresh_at

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Between two looks at the queues."""

RECENT_SECONDS = 20.0
"""Within which a token is not brought again, whoever asks."""

PATIENCE_SECONDS = 60.0
"""Before somebody is tried again for whom it did not work."""

NAME_SECONDS = 300.0
"""For which it is remembered who an account belongs to."""

PARALLEL = 4
"""People at a time."""


class TokenPools(Protocol):
    """What is needed of the batch systems."""

    async def keep_token(self, pool: str, credential: Credential, job_token: str) -> None:
        """Leave a token at the access point, for the jobs of the credential's owner."""

    async def token_owners(self, pool: str) -> frozenset[Owner]:
        """Who has jobs that ask for a token and have not ended."""


@dataclass
class BatchTokens:
    """Brings them.

    Parameters
    ----------
    clock
        Unix time.
    """

    hub: Hub
    pools: TokenPools
    policy: PolicyFile
    clock: Callable[[], float] = time.time
    _brought: dict[tuple[str, str], AccessToken] = field(default_factory=dict)
    _not_before: dict[tuple[str, str], float] = field(default_factory=dict)
    _locks: defaultdict[tuple[str, str], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _names: dict[Owner, tuple[float, str]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))

    async def keep_fresh(self) -> None:
        """Go on for ever."""
        while True:
            try:
                await self.round()
            except Exception:
                log.exception("tokens of jobs: a round failed; the next one comes")
            await asyncio.sleep(LOOK_SECONDS)

    async def round(self) -> None:
        """Look at all queues once, and bring what is due."""
        pools = [name for name, pool in self.policy.current().pools.items() if pool.job_tokens]
        await asyncio.gather(*(self._round_of(pool) for pool in pools))

    async def bring(self, username: str, pool: str = "") -> dict[str, float]:
        """Bring this person's token to the pool, or to all that are open to them; when the tokens there end, by pool.

        Raises
        ------
        Refused
            When the policy gives their jobs no token there.
        LoginRequired, Unavailable, PoolAway
            When there is none, or it could not be brought.
        """
        wanted = await self._pools_of(username)
        if pool and pool not in wanted:
            raise Refused(f"Jobs in the pool {pool!r:.80} get no token of yours.")
        ends = [await self._bring(username, one, RECENT_SECONDS) for one in ([pool] if pool else wanted)]
        return dict(zip([pool] if pool else wanted, ends, strict=True))

    async def _pools_of(self, username: str) -> Sequence[str]:
        claims, policy = await self.hub.claims(username), self.policy.current()
        rights = decide(policy, claims, self.clock())
        if rights.condor is None:
            raise Refused(rights.refusal or no_account(policy))
        if not (found := token_pools(policy, rights, username)):
            raise Refused(
                "Jobs get no token here: no pool that is open to you keeps tokens, or others have your account there, too."
            )
        return found

    async def _bring(self, username: str, pool: str, recent: float = 0.0) -> float:
        """Bring it unless what is there is fresh enough, or was brought within ``recent`` seconds; when it ends."""
        key = username, pool
        async with self._locks[key]:
            there = self._brought.get(key)
            if there and self.clock() < (there.issued_at + recent if recent else refresh_at(there, username)):
                return there.expires_at
            job_token = await self.hub.storage_token(username)
            credential = Credential(username, (await self.hub.condor_token(username)).value)
            await self.pools.keep_token(pool, credential, job_token.value)
            self._brought[key] = AccessToken("", self.clock(), job_token.expires_at)
            log.info("jobs of %s in pool %s have a token until %.0f", username, pool, job_token.expires_at)
            return job_token.expires_at

    async def _round_of(self, pool: str) -> None:
        try:
            owners = await self.pools.token_owners(pool)
        except AFError as error:
            log.debug("whose jobs in pool %s need tokens is not known: %s", pool, error)
            return
        await asyncio.gather(*(self._attend(owner, pool) for owner in owners))

    async def _attend(self, owner: Owner, pool: str) -> None:
        """Bring what is due for one owner of jobs; trouble is a line in the log, and a pause."""
        async with self._turns:
            username = ""
            try:
                username = await self._username(owner)
                key = username, pool
                if not username or self.clock() < self._not_before.get(key, 0.0):
                    return
                if pool in await self._pools_of(username):
                    await self._bring(username, pool)
            except AFError as error:
                self._not_before[username, pool] = self.clock() + PATIENCE_SECONDS
                log.warning("no fresh token for jobs of %s in pool %s: %s", username or owner.account, pool, error)

    async def _username(self, owner: Owner) -> str:
        """Whose jobs these are: of those who may have the account, the one with whose token they were submitted; empty for nobody."""
        until, known = self._names.get(owner, (0.0, ""))
        if self.clock() < until:
            return known
        found = ""
        policy = self.policy.current()
        for name in may_be(policy, owner.account):
            try:
                claims = await self.hub.claims(name)
            except Refused:
                continue
            person = Person(claims.issuer, claims.subject, claims.username)
            if f"{owner.issuer},{owner.subject}" in pairs(policy, person):
                found = claims.username
        self._names[owner] = self.clock() + NAME_SECONDS, found
        return found
