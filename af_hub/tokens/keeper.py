"""The keeper: every refresh of the facility happens here, in the hub, one at a time for each person.

Promises: a refresh token is stored before the access token that came with it is used, so rotation cannot be lost (but for a hub that
ends while its disk is full: until it can be written, a refresh token is in memory only); access tokens are refreshed ahead of their
end whether or not a browser is open; an IAM that does not answer ends no login, and whatever is still good goes on being handed out. A
login that the IAM ended (``invalid_grant``) is not asked for again until the person logs in. Leaves to :mod:`af_hub.authenticator` who
may do what, and to :mod:`af_hub.tokens.endpoint` who may ask.

The access token of the login itself has every scope that the hub may ask for. It is used once, to learn who logged in, and forgotten;
sessions get a narrower one.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from af_hub.backoff import backoff
from af_hub.errors import AFError, ClaimsError, LoginRequired, Unavailable
from af_hub.iam.claims import Claims, read_claims
from af_hub.iam.endpoint import IAMClient, TokenAnswer
from af_hub.tokens.lifetime import AccessToken, refresh_at
from af_hub.tokens.records import Record
from af_hub.tokens.store import Login, Store

T = TypeVar("T")

log = logging.getLogger(__name__)

PARALLEL = 8
LONGEST_NAP = 60.0
SHORTEST_NAP = 1.0
RECENT_SECONDS = 60.0


@dataclass(frozen=True)
class Purpose:
    """What a token is for: its scopes, and the one who shall take it (anyone when empty)."""

    scope: str
    audience: str = ""


@dataclass
class Trouble:
    """How often in a row the IAM failed for somebody, and when to ask again."""

    failures: int = 0
    again_at: float = 0.0
    why: str = ""


class TokenKeeper:
    """Tokens and recorded claims of everybody who logged in.

    Parameters
    ----------
    clients
        The IAM client of each issuer.
    session
        What sessions get; its scopes must allow userinfo (``openid``).
    """

    def __init__(
        self, store: Store, clients: Mapping[str, IAMClient], session: Purpose, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._clients, self._session, self._clock = store, clients, session, clock
        self._logins = store.logins()
        self._unwritten: set[str] = set()
        self._narrow: dict[tuple[str, Purpose], AccessToken] = {}
        self._trouble: dict[str, Trouble] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._calls = asyncio.Semaphore(PARALLEL)
        self._changed = asyncio.Event()

    async def enrol(self, claims: Claims, refresh_token: str) -> Claims:
        """Begin to keep tokens for somebody who just logged in; hands back the claims under their pinned name.

        Raises
        ------
        Refused
            When the name is pinned to another subject.
        """
        async with self._locks[self._store.pin(claims).username]:
            pinned = self._store.pin(claims)  # again: two people with one name may have come at one moment
            self._store.write_claims(pinned, self._clock())
            self._keep(pinned.username, Login(refresh_token))
            self._forget(pinned.username)
        self._changed.set()
        return pinned

    def record(self, username: str) -> Record | None:
        """What the IAM last said of this user; None for a stranger."""
        return self._store.record(username)

    async def claims(self, username: str, max_age: float) -> Claims:
        """Who this user is, asked of the IAM again when that is more than ``max_age`` seconds ago.

        While the IAM does not answer, what it said last holds.

        Raises
        ------
        LoginRequired
            When there is no login of this user that the IAM still takes.
        """
        record = self._store.record(username)
        if record is None or not self._login(username).refresh_token:
            raise LoginRequired("Your login has ended; log in again.")
        if self._clock() - record.seen_at <= max_age:
            return record.claims
        async with self._locks[username]:
            try:
                return await self._look(username, max_age)
            except (Unavailable, ClaimsError) as error:
                log.warning("claims of %s kept as they were: %s", username, error)
                return record.claims

    async def access_token(self, username: str) -> AccessToken:
        """A token for this user's sessions, good for a while yet.

        Raises
        ------
        LoginRequired
            When the IAM ended the login and the last token has ended too.
        Unavailable
            When the IAM does not answer and there is no good token.
        """
        async with self._locks[username]:
            token = self._login(username).token
            if token and self._clock() < refresh_at(token, username):
                return token
            try:
                return await self._refresh(username, self._session)
            except (LoginRequired, Unavailable):
                if token and token.seconds_left(self._clock()) > 0:
                    return token
                raise

    async def purpose_token(self, username: str, purpose: Purpose) -> AccessToken:
        """A token for one purpose of the facility's own services; kept in memory only.

        Raises
        ------
        LoginRequired, Unavailable
            As :meth:`access_token`.
        """
        async with self._locks[username]:
            token = self._narrow.get((username, purpose))
            if token is None or self._clock() >= refresh_at(token, username):
                token = await self._refresh(username, purpose)
                self._narrow[username, purpose] = token
            return token

    async def keep_fresh(self) -> None:
        """Refresh the sessions' tokens ahead of their end, and look who people are then, for as long as the hub runs."""
        while True:
            self._changed.clear()
            self._write_down()
            now = self._clock()
            living = [username for username, login in self._logins.items() if login.refresh_token]
            due = [username for username in living if self._due_at(username) <= now]
            await asyncio.gather(*(self._renew(username) for username in due))
            next_due = min((self._due_at(username) for username in living), default=now + LONGEST_NAP)
            try:
                await asyncio.wait_for(
                    self._changed.wait(), min(LONGEST_NAP, max(SHORTEST_NAP, next_due - self._clock()))
                )
            except TimeoutError:
                pass

    async def _renew(self, username: str) -> None:
        try:
            await self.access_token(username)
            await self.claims(username, max_age=RECENT_SECONDS)
        except AFError as error:
            log.warning("no fresh token for %s: %s", username, error)
        except Exception:
            log.exception("no fresh token for %s", username)  # one person's trouble must not end everybody's refresh

    def _due_at(self, username: str) -> float:
        token = self._login(username).token
        trouble = self._trouble.get(username)
        return max(refresh_at(token, username) if token else 0.0, trouble.again_at if trouble else 0.0)

    async def _look(self, username: str, max_age: float) -> Claims:
        """Ask the IAM who this is; the caller holds the person's lock."""
        record = self._store.record(username)
        assert record is not None, "claims() has seen it"
        if self._clock() - record.seen_at <= max_age:
            return record.claims  # whoever held the lock before us has looked
        token = self._login(username).token
        if token is None or self._clock() >= refresh_at(token, username):
            token = await self._refresh(username, self._session)
        found = await self._told(username, token)
        told = read_claims(found, record.claims.issuer)
        if told.subject != record.claims.subject:
            self._end(username)
            raise LoginRequired("The IAM says that you are somebody else now; log in again.")
        claims = replace(told, username=username)
        self._store.write_claims(claims, self._clock())
        return claims

    async def _told(self, username: str, token: AccessToken) -> dict[str, Any]:
        try:
            return await self._ask(username, lambda client: client.userinfo(token.value))
        except LoginRequired:
            # The access token was revoked; only a refresh tells whether the login still holds.
            fresh = await self._refresh(username, self._session)
        try:
            return await self._ask(username, lambda client: client.userinfo(fresh.value))
        except LoginRequired as error:
            raise Unavailable("the IAM's userinfo refuses the token that the IAM just gave") from error

    async def _refresh(self, username: str, purpose: Purpose) -> AccessToken:
        """A new token for ``purpose``; the caller holds the person's lock. What rotation brought is stored first."""
        login = self._login(username)
        if not login.refresh_token:
            raise LoginRequired("Your login has ended; log in again.")
        try:
            answer: TokenAnswer = await self._ask(
                username, lambda client: client.refresh(login.refresh_token, purpose.scope, purpose.audience)
            )
        except LoginRequired:
            self._end(username)
            raise
        token = AccessToken(answer.access_token, answer.issued_at, answer.expires_at)
        kept = token if purpose == self._session else login.token
        self._keep(username, Login(answer.refresh_token or login.refresh_token, kept))
        return token

    async def _ask(self, username: str, call: Callable[[IAMClient], Awaitable[T]]) -> T:
        """One request to the person's IAM, unless it failed for them a short while ago."""
        trouble = self._trouble.get(username, Trouble())
        if self._clock() < trouble.again_at:
            raise Unavailable(trouble.why)
        record = self._store.record(username)
        client = self._clients.get(record.claims.issuer) if record else None
        if client is None:
            raise LoginRequired("facility.yaml no longer knows the IAM of your login; log in again.")
        try:
            async with self._calls:
                answer = await call(client)
        except Unavailable as error:
            failures = trouble.failures + 1
            self._trouble[username] = Trouble(
                failures, self._clock() + backoff(failures, least=5, most=300), str(error)
            )
            raise
        self._trouble.pop(username, None)
        return answer

    def _login(self, username: str) -> Login:
        return self._logins.get(username, Login(""))

    def _keep(self, username: str, login: Login) -> None:
        self._logins[username] = login
        self._unwritten.add(username)
        self._write_down()

    def _write_down(self) -> None:
        """Store what is in memory only: on a full disk, what rotation brought would be lost, and with it the login."""
        for username in list(self._unwritten):
            try:
                self._store.write_login(username, self._logins[username])
                self._unwritten.remove(username)
            except Unavailable as error:
                log.error("what the hub holds for %s is in memory only: %s", username, error)

    def _end(self, username: str) -> None:
        """The IAM ended this login; the last access token stays until it ends by itself."""
        log.info("the IAM ended the login of %s", username)
        self._keep(username, Login("", self._login(username).token))

    def _forget(self, username: str) -> None:
        """A new login owes nothing to the old one."""
        self._trouble.pop(username, None)
        for key in [key for key in self._narrow if key[0] == username]:
            del self._narrow[key]
