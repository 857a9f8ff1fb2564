"""The keeper: every refresh of the facility happens here, in the hub, one at a time for each person.

Promises: a refresh token is stored before the access token that came with it is used (:mod:`af_hub.tokens.flight`), so rotation cannot be
lost (but for a hub that ends while its disk is full: until it can be written, a refresh token is in memory only); access tokens are
refreshed ahead of their end whether or not a browser is open; at most so many requests are at the IAMs at one time; an IAM that does not
answer ends no login, and whatever is still good goes on being handed out (:mod:`af_hub.tokens.health` says when to ask again). A login
that the IAM ended (``invalid_grant``) is not asked for again until the person logs in. Who asks waits for a few seconds at most, and then
gets what is there; what was begun goes on.
Leaves to :mod:`af_hub.authenticator` who may do what, and to :mod:`af_hub.tokens.endpoint` who may ask.

The access token of the login itself has every scope that the hub may ask for. It is used once, to learn who logged in, and forgotten;
sessions get a narrower one.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from af_hub.errors import AFError, ClaimsError, IAMRefused, LoginRequired, Unavailable
from af_hub.iam.claims import Claims, read_claims
from af_hub.iam.endpoint import IAMClient, TokenAnswer
from af_hub.policy.issuers import Way
from af_hub.tokens import metrics
from af_hub.tokens.asking import Asking
from af_hub.tokens.flight import Flight, Threads, within
from af_hub.tokens.health import Health
from af_hub.tokens.lifetime import AccessToken, refresh_at
from af_hub.tokens.purposes import Purpose
from af_hub.tokens.records import Record
from af_hub.tokens.store import Login, Store

__all__ = ["Purpose", "TokenKeeper"]

T = TypeVar("T")

log = logging.getLogger(__name__)

PARALLEL = 8
"""Requests to one IAM, at one time."""

TOKEN_PATIENCE = 20.0
"""Seconds that somebody waits for a token while many do, when the one that is there may not do."""

ENROL_SECONDS = 8.0
"""For the end of a login; what is under way for the person's old one comes first."""

CLAIMS_PATIENCE = 3.0
"""Seconds that a page waits for groups, when those that were told last are there."""

LONGEST_NAP = 60.0
SHORTEST_NAP = 1.0
RECENT_SECONDS = 60.0
ACTIVE_SECONDS = 900.0
BATCH = 64
"""So many are refreshed before the loop looks anew who is most in need."""

LOGIN_OVER = "Your login has ended; log in again."
NEW_SCOPES = "The facility needs more of your login than it had when you logged in; log in again."
UNKNOWN_ISSUER = (
    "facility.yaml no longer knows the IAM of your login; log in again, or ask the facility's administrators."
)
INTERRUPTED = "The hub was stopped just when it renewed your login, and the IAM takes what the hub has left no longer; log in again."


class TokenKeeper:
    """Tokens and recorded claims of everybody who logged in.

    Parameters
    ----------
    clients
        The IAM client of each issuer.
    session
        What sessions of an issuer's people get; its scopes must allow userinfo (``openid``).
    parallel
        Requests to one IAM, at one time; each has its own share, so that none waits for another that is slow.
    sign
        Makes the tokens of purposes that say ``by: hub``; there are none without it.
    """

    def __init__(
        self,
        store: Store,
        clients: Mapping[str, IAMClient],
        session: Callable[[str], Purpose],
        clock: Callable[[], float] = time.time,
        parallel: int = PARALLEL,
        sign: Callable[[Claims, Purpose], AccessToken] | None = None,
    ) -> None:
        self._store, self._clients, self._session, self._clock = store, clients, session, clock
        self._logins = store.logins()
        self._interrupted = set(store.flights()) & set(self._logins)
        self._records: dict[str, Record] = store.records()
        self._unwritten: set[str] = set()
        self._narrow: dict[tuple[str, Purpose], AccessToken] = {}
        self._asked_at: dict[str, float] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._parallel, self._sign = parallel, sign
        self._asking = Asking(lambda: self._clock(), parallel, self._came_back)
        self._threads = Threads()
        self._changed = asyncio.Event()

    async def enrol(self, claims: Claims, refresh_token: str, ends_at: float | None = None, scope: str = "") -> Claims:
        """Begin to keep tokens for somebody who just logged in; hands back the claims under their pinned name.

        Parameters
        ----------
        ends_at
            When the refresh token ends; None when the IAM does not say.
        scope
            What the IAM granted to this login; empty when it does not say.

        Raises
        ------
        Refused
            When the name is pinned to another subject.
        Unavailable
            When the hub cannot write it down.
        """
        return await self._patiently(
            self._enrol(claims, Login(refresh_token, ends_at=ends_at, scope=scope)), ENROL_SECONDS
        )

    async def _enrol(self, claims: Claims, login: Login) -> Claims:
        async with self._locks[self._store.pin(claims).username]:
            pinned = self._store.pin(claims)  # again: two people with one name may have come at one moment
            await self._write_claims(pinned)
            self._forget(pinned.username)
            await self._keep(pinned.username, login)
        self._changed.set()
        return pinned

    async def end(self, username: str) -> str:
        """Forget this user's tokens, since they logged out; hands back the refresh token, for whoever revokes it."""
        async with self._locks[username]:
            login = self._login(username)
            self._forget(username)
            await self._keep(username, Login("", ends_at=self._clock()))
        return login.refresh_token

    def record(self, username: str) -> Record | None:
        """What the IAM last said of this user; None for a stranger."""
        if username not in self._records and (found := self._store.record(username)):
            self._records[username] = found
        return self._records.get(username)

    def login_ends(self, username: str) -> float | None:
        """When this user must log in again, as far as the IAM has said it; in the past when the login is over. None for a stranger."""
        return self._login(username).ends_at

    def token_ends(self, username: str) -> float | None:
        """When the access token that this user's sessions have now ends; None when there is none."""
        token = self._login(username).token
        return token.expires_at if token else None

    def logged_in(self, username: str) -> bool:
        """Whether there is a login of this user that the IAM took when it was last asked."""
        return bool(self._login(username).refresh_token)

    def lacks(self, username: str) -> str:
        """Scopes that the policy gives to sessions now and this login does not have, blanks between."""
        wanted, login = self._session_of(username).scope, self._login(username)
        have = within(wanted, login.scope).split()
        return " ".join(scope for scope in wanted.split() if scope not in have) if login.refresh_token else ""

    def trouble(self, username: str) -> str:
        """Why this user's token is not refreshed at this moment, in a sentence; empty when it is, or need not be."""
        login = self._login(username)
        if not login.refresh_token:
            return login.why
        token = login.token
        due = token is None or self._clock() >= refresh_at(token, username)
        return self._token_health(username).why(username) if due else ""

    async def claims(self, username: str, max_age: float) -> Claims:
        """Who this user is, asked of the IAM again when that is more than ``max_age`` seconds ago.

        While the IAM does not answer, what it said last holds.

        Raises
        ------
        LoginRequired
            When there is no login of this user that the IAM still takes.
        """
        record = self.record(username)
        login = self._login(username)
        if record is None or not login.refresh_token:
            raise LoginRequired(login.why or LOGIN_OVER)
        if self._clock() - record.seen_at <= max_age:
            return record.claims
        try:
            return await self._patiently(self._look(username, max_age), CLAIMS_PATIENCE)
        except (Unavailable, ClaimsError) as error:
            log.debug("claims of %s kept as they were: %s", username, error)
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
        self._asked_at[username] = self._clock()
        return await self._good_token(username, self._session_of(username))

    async def purpose_token(self, username: str, purpose: Purpose) -> AccessToken:
        """A token for one purpose of the facility's own services; kept in memory only.

        Raises
        ------
        LoginRequired, Unavailable
            As :meth:`access_token`.
        """
        return await self._good_token(username, purpose)

    async def keep_fresh(self) -> None:
        """Refresh the sessions' tokens ahead of their end, and look who people are then, for as long as the hub runs."""
        while True:
            self._changed.clear()
            try:
                await self._write_down()
                await self._renew_all(self._due()[:BATCH])
                nap = min(LONGEST_NAP, max(SHORTEST_NAP, self._next_due() - self._clock()))
            except Exception:
                log.exception("the token keeper stumbled")  # it must never fall
                nap = SHORTEST_NAP
            try:
                await asyncio.wait_for(self._changed.wait(), nap)
            except TimeoutError:
                pass

    def standings(self) -> Iterator[metrics.TokenStanding]:
        """How everybody's tokens stand, for Prometheus."""
        now = self._clock()
        for username, login in self._logins.items():
            record, left = self.record(username), login.token.seconds_left(now) if login.token else 0.0
            state = "ended" if not login.refresh_token else "expired" if not left else "stale"
            if state == "stale" and login.token and now < refresh_at(login.token, username):
                state = "fresh"
            active = now - self._asked_at.get(username, 0.0) < ACTIVE_SECONDS
            yield metrics.TokenStanding(
                record.claims.issuer if record else "", "active" if active else "idle", state, left
            )

    # --- who is due ---

    def _due(self) -> list[str]:
        """Who should be refreshed now, most in need first; one alone of those whose IAM is away, to see whether it is back."""
        now = self._clock()
        due = [username for username in self._living() if self._due_at(username) <= now]
        due.sort(key=self._need)
        probed: set[str] = set()
        chosen = []
        for username in due:
            if self._token_health(username).down_since is not None:
                issuer = self._issuer(username)
                if issuer in probed:
                    continue
                probed.add(issuer)
            chosen.append(username)
        return chosen

    def _need(self, username: str) -> tuple[float, float]:
        health, token = self._token_health(username), self._login(username).token
        tried_at = health.tried_at(username) if health.down_since is not None else 0.0
        return tried_at, token.expires_at if token else 0.0

    def _next_due(self) -> float:
        return min((self._due_at(username) for username in self._living()), default=self._clock() + LONGEST_NAP)

    def _living(self) -> list[str]:
        return [
            username
            for username, login in self._logins.items()
            if login.refresh_token and self._issuer(username) in self._clients
        ]

    def _due_at(self, username: str) -> float:
        token, again_at = self._login(username).token, self._token_health(username).again_at(username)
        return max(refresh_at(token, username) if token and username not in self._interrupted else 0.0, again_at)

    async def _renew_all(self, usernames: Sequence[str]) -> None:
        """Each of them, at most ``parallel`` of an issuer at a time."""
        await asyncio.gather(*(self._renew_some(group) for group in self._by_issuer(usernames)))
        if len(usernames) >= BATCH:
            self._changed.set()  # there are more

    def _by_issuer(self, usernames: Sequence[str]) -> list[list[str]]:
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for username in usernames:
            groups[self._issuer(username)].append(username)
        return list(groups.values())

    async def _renew_some(self, usernames: Sequence[str]) -> None:
        turns = iter(usernames)

        async def worker() -> None:
            for username in turns:
                await self._renew(username)

        await asyncio.gather(*(worker() for _ in islice(usernames, self._parallel)))

    async def _renew(self, username: str) -> None:
        try:
            await self._patiently(self._renewed(username, self._session_of(username)), TOKEN_PATIENCE, username)
            await self.claims(username, max_age=RECENT_SECONDS)
        except AFError as error:
            log.debug("no fresh token for %s: %s", username, error)
        except Exception:
            log.exception("no fresh token for %s", username)  # one person's trouble must not end everybody's refresh

    # --- tokens ---

    async def _good_token(self, username: str, purpose: Purpose) -> AccessToken:
        """A token that is fresh, or else still good."""
        if fresh := self._fresh(username, purpose):
            return fresh
        try:
            return await self._patiently(self._renewed(username, purpose), TOKEN_PATIENCE, username, purpose.by)
        except (LoginRequired, Unavailable):
            token = self._token(username, purpose)
            if token and token.seconds_left(self._clock()) > 0:
                return token
            raise

    def _token(self, username: str, purpose: Purpose) -> AccessToken | None:
        if purpose == self._session_of(username):
            return self._login(username).token
        return self._narrow.get((username, purpose))

    def _fresh(self, username: str, purpose: Purpose) -> AccessToken | None:
        token = self._token(username, purpose)
        return token if token and self._clock() < refresh_at(token, username) else None

    def _came_back(self) -> None:
        """An IAM is back: the loop shall look anew."""
        self._changed.set()

    async def _renewed(self, username: str, purpose: Purpose) -> AccessToken:
        """A fresh token: whoever held the lock before us may have brought it."""
        async with self._locks[username]:
            fresh = self._fresh(username, purpose)
            if fresh and (purpose.by != "refresh" or username not in self._interrupted):
                return fresh
            return await self._made(username, purpose)

    async def _made(self, username: str, purpose: Purpose) -> AccessToken:
        """A new token in the purpose's way; the caller holds the person's lock."""
        if purpose.by == "refresh":
            return await self._refresh(username, purpose)
        self._good_login(username)
        if purpose.by == "exchange":
            token = await self._exchange(username, purpose)
        else:
            token = self._signed(username, purpose)
        self._narrow[username, purpose] = token
        return token

    def _signed(self, username: str, purpose: Purpose) -> AccessToken:
        record = self.record(username)
        if self._sign is None or record is None:
            raise Unavailable("The hub signs no tokens here.")
        metrics.SIGNED.labels(record.claims.issuer).inc()
        return self._sign(record.claims, purpose)

    async def _exchange(self, username: str, purpose: Purpose) -> AccessToken:
        """Show the session's token, and take another for it."""
        session = self._session_of(username)
        shown = self._fresh(username, session) or await self._refresh(username, session)
        try:
            return await self._exchanged(username, shown, purpose)
        except LoginRequired:
            # The token that was shown was revoked; only a refresh tells whether the login still holds.
            shown = await self._refresh(username, session)
        return await self._exchanged(username, shown, purpose, just_given=True)

    async def _exchanged(
        self, username: str, shown: AccessToken, purpose: Purpose, just_given: bool = False
    ) -> AccessToken:
        async def call(client: IAMClient) -> TokenAnswer:
            try:
                with metrics.refresh(client.discovery.issuer, "exchange", "exchange"):
                    return await client.exchange(shown.value, purpose.scope, purpose.audience)
            except LoginRequired as error:
                if just_given:
                    raise IAMRefused("The IAM exchanges not even the token that it just gave.") from error
                raise

        answer = await self._ask(username, "exchange", call)
        return AccessToken(answer.access_token, answer.issued_at, answer.expires_at)

    def _good_login(self, username: str) -> Login:
        """This user's login, if it is not over."""
        login = self._login(username)
        if not login.refresh_token:
            raise LoginRequired(login.why or LOGIN_OVER)
        if self._issuer(username) not in self._clients:  # an edit that may be taken back, so this ends nothing
            raise LoginRequired(UNKNOWN_ISSUER)
        return login

    async def _refresh(self, username: str, purpose: Purpose) -> AccessToken:
        """A new token for ``purpose``; the caller holds the person's lock. What rotation brought is stored first."""
        login = self._good_login(username)
        for_session = purpose == self._session_of(username)
        if not for_session and within(purpose.scope, login.scope) != " ".join(purpose.scope.split()):
            raise LoginRequired(NEW_SCOPES)

        async def fly(client: IAMClient) -> AccessToken:
            await client.discovery.metadata()
            with metrics.refresh(client.discovery.issuer, "session" if for_session else "narrow"):
                landing = await self._threads.fly(
                    Flight(self._store, client, username, login, purpose, for_session, self._clock())
                )
            self._logins[username] = landing.login
            if not landing.stored:
                self._unwritten.add(username)
            return landing.token

        try:
            token = await self._ask(username, "token", fly)
        except LoginRequired as error:
            await self._end(username, str(error))
            raise LoginRequired(self._login(username).why) from error
        if not for_session:
            self._narrow[username, purpose] = token
        self._interrupted.discard(username)
        return token

    async def _end(self, username: str, why: str) -> None:
        """The IAM ended this login; the last access token stays until it ends by itself."""
        interrupted = username in self._interrupted
        self._interrupted.discard(username)
        log.warning("login of %s is over: %s", username, "the hub was stopped in a refresh" if interrupted else why)
        metrics.FORCED_LOGINS.labels(self._issuer(username), "interrupted" if interrupted else "refused_by_iam").inc()
        said = INTERRUPTED if interrupted else why
        await self._keep(username, Login("", self._login(username).token, self._clock(), said))

    # --- who people are ---

    async def _look(self, username: str, max_age: float) -> Claims:
        """Ask the IAM who this is."""
        async with self._locks[username]:
            record = self.record(username)
            assert record is not None, "claims() has seen it"
            if self._clock() - record.seen_at <= max_age:
                return record.claims  # whoever held the lock before us has looked
            purpose = self._session_of(username)
            token = self._fresh(username, purpose) or await self._refresh(username, purpose)
            found = await self._told(username, token)
            told = read_claims(found, record.claims.issuer)
            if told.subject != record.claims.subject:
                metrics.FORCED_LOGINS.labels(record.claims.issuer, "other_subject").inc()
                said = "The IAM says that you are somebody else now; log in again."
                await self._keep(username, Login("", self._login(username).token, self._clock(), said))
                raise LoginRequired(said)
            claims = replace(told, username=username)
            await self._write_claims(claims)
            return claims

    async def _told(self, username: str, token: AccessToken) -> dict[str, Any]:
        try:
            return await self._userinfo(username, token)
        except LoginRequired:
            # The access token was revoked; only a refresh tells whether the login still holds.
            fresh = await self._refresh(username, self._session_of(username))
        return await self._userinfo(username, fresh, just_given=True)

    async def _userinfo(self, username: str, token: AccessToken, just_given: bool = False) -> dict[str, Any]:
        async def call(client: IAMClient) -> dict[str, Any]:
            try:
                with metrics.request(client.discovery.issuer, "userinfo"):
                    return await client.userinfo(token.value)
            except LoginRequired as error:
                if just_given:
                    raise IAMRefused("The IAM's userinfo refuses even the token that the IAM just gave.") from error
                raise

        return await self._ask(username, "userinfo", call)

    # --- the IAM ---

    async def _ask(self, username: str, what: str, call: Callable[[IAMClient], Awaitable[T]]) -> T:
        """One request to the person's IAM, unless it failed a short while ago."""
        return await self._asking.ask(self._clients[self._issuer(username)], username, what, call)

    async def _patiently(
        self, work: Coroutine[Any, Any, T], seconds: float, username: str = "", by: Way = "refresh"
    ) -> T:
        """What ``work`` brings, if it does so soon, and the IAM of ``username`` fails none of what it asks."""
        asks = ["token", *(["exchange"] if by == "exchange" else [])]  # an exchange may need a refresh first
        issuer = self._issuer(username)
        watched = [self._asking.health(issuer, what) for what in asks] if username else []
        return await self._asking.patiently(work, seconds, username, watched)

    # --- what the hub holds ---

    def _issuer(self, username: str) -> str:
        record = self.record(username)
        return record.claims.issuer if record else ""

    def _session_of(self, username: str) -> Purpose:
        return self._session(self._issuer(username))

    def _token_health(self, username: str) -> Health:
        return self._asking.health(self._issuer(username), "token")

    def _login(self, username: str) -> Login:
        return self._logins.get(username, Login(""))

    async def _write_claims(self, claims: Claims) -> None:
        now = self._clock()
        await self._threads.write(self._store.write_claims, claims, now)
        self._records[claims.username] = Record(claims, now)

    async def _keep(self, username: str, login: Login) -> None:
        self._logins[username] = login
        self._unwritten.add(username)
        await self._write_down()

    async def _write_down(self) -> None:
        """Store what is in memory only: on a full disk, what rotation brought would be lost, and with it the login."""
        for username in list(self._unwritten):
            login = self._logins[username]
            try:
                await self._threads.write(self._store.write_login, username, login)
            except Unavailable as error:
                log.error("what the hub holds for %s is in memory only: %s", username, error)
                return
            if self._logins[username] is login:
                self._unwritten.discard(username)

    def _forget(self, username: str) -> None:
        """A new login owes nothing to the old one."""
        self._interrupted.discard(username)
        self._asking.forget(self._issuer(username), username)
        for key in [key for key in self._narrow if key[0] == username]:
            del self._narrow[key]
