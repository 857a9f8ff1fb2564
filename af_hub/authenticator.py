"""Login: the hop between the IAM and the hub.

Promises: nobody gets in whom the policy does not let in; the id token is verified; a user name stays with the subject that had it first;
rights are decided again at every refresh; an IAM that does not answer logs nobody out. Leaves tokens to :mod:`af_hub.tokens.keeper`,
and what somebody may do to :mod:`af_hub.policy`. Nothing secret ever goes into JupyterHub's ``auth_state``.
"""

import asyncio
import logging
import time
from typing import Any

from jupyterhub.handlers import BaseHandler
from jupyterhub.user import User
from tornado import web
from traitlets import Dict

from af_hub import away, serving
from af_hub.errors import AFError, LoginRequired, Refused, Unavailable
from af_hub.iam.claims import Claims, read_claims
from af_hub.iam.endpoint import IAMClient, TokenAnswer
from af_hub.iam.http import UNSIGNED, forgetful
from af_hub.iam_settings import IAMSettings
from af_hub.policy.audit import change_line, decision_line
from af_hub.policy.decide import Rights, decide, facility_groups
from af_hub.policy.model import Policy
from af_hub.policy.pages import HANDLERS as PAGES
from af_hub.policy.refusals import agreement, blocked, name_taken, no_account, unknown_issuer
from af_hub.policy.watch import keep_current
from af_hub.signin import NO_IAM, NO_LOGIN, IAMCallbackHandler, IAMLoginHandler, nonce_of
from af_hub.signout import IAMLogoutHandler
from af_hub.tokens import metrics
from af_hub.tokens.device import DEVICE_HANDLERS
from af_hub.tokens.endpoint import HANDLERS
from af_hub.tokens.keeper import TokenKeeper
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.me import ME_HANDLERS, Standing
from af_hub.tokens.notice import LoginState, Notice, login_notice
from af_hub.tokens.own_issuer import ISSUER_HANDLERS
from af_hub.tokens.own_pool import POOL_HANDLERS, OwnPool, choose_pool
from af_hub.tokens.purposes import condor_purpose, storage_purpose

audit = logging.getLogger("af_hub.audit")

LOGIN_SECONDS = 8.0
"""For all that the hub asks of the IAM in one login, so that there is a page after ten whatever the IAM does."""

ADMINS = "af-admins"
"""Hub group of everybody whom the policy makes an admin; roles are given to it in ``load_roles``. IAM's groups begin with a slash."""


class IAMAuthenticator(IAMSettings):
    """Login through an INDIGO IAM; ``facility.yaml`` decides who gets in and what they may do."""

    login_handler = IAMLoginHandler
    callback_handler = IAMCallbackHandler
    logout_handler = IAMLogoutHandler

    _rights_before = Dict(help="What each person might do at the last look, for the audit log.")

    @property
    def background(self) -> list["asyncio.Task[None]"]:
        """What runs beside requests, for as long as the hub does."""
        return [self._keeping, self._looking]

    def notices(self, user: User | None) -> list[Notice]:
        """What this user reads at the head of each page of the hub."""
        now = time.time()
        found = [Notice(one.text, one.level) for one in self.policy.announced(now)]
        notice = login_notice(self.login_state(user.name), now) if user and self.keeper.record(user.name) else None
        return [*found, notice] if notice else found

    def issuer_of(self, user: User | None) -> str:
        """The name of the issuer of somebody who is logged in; empty for others."""
        record = self.keeper.record(user.name) if user else None
        issuer = self.policy.issuer(record.claims.issuer) if record else None
        return issuer.name if issuer else ""

    def login_state(self, username: str) -> LoginState:
        """What the keeper knows of this user's login."""
        keeper: TokenKeeper = self.keeper
        return LoginState(
            keeper.logged_in(username),
            keeper.login_ends(username),
            keeper.token_ends(username),
            self._explained(username, keeper.trouble(username)),
            keeper.lacks(username),
        )

    async def forget(self, username: str) -> None:
        """Keep nothing for this user any more, and tell the IAM so in the background."""
        record = self.keeper.record(username)
        refresh_token = await self.keeper.end(username)
        if record and refresh_token and record.claims.issuer in self.clients:
            self._revoking = asyncio.create_task(self._revoke(record.claims, refresh_token))

    async def _revoke(self, claims: Claims, refresh_token: str) -> None:
        try:
            if not await self.clients[claims.issuer].revoke(refresh_token):
                self.log.warning(
                    "%s has no place to revoke tokens; what %s had there stays", claims.issuer, claims.username
                )
        except AFError as error:
            self.log.warning("the refresh token of %s is forgotten here, but not revoked: %s", claims.username, error)

    def get_handlers(self, app: Any) -> list[tuple[str, type[BaseHandler]]]:
        """Our endpoints beside oauthenticator's; JupyterHub asks once, when its loop runs, so the keeper begins here."""
        logger = logging.getLogger("af_hub")
        logger.parent, logger.propagate = self.log, True
        logger.setLevel(self.log.getEffectiveLevel())
        loop = asyncio.get_running_loop()
        self._keeping = loop.create_task(self.keeper.keep_fresh(), name="token keeper")
        self._looking = loop.create_task(keep_current(self.policy_source), name="look at the policy")
        if at_hub_start := getattr(app.spawner_class, "at_hub_start", None):
            self._spawner_begins = loop.create_task(at_hub_start(app), name="spawner at the hub's start")
        metrics.publish(self.keeper.standings)
        return [
            *super().get_handlers(app),
            *HANDLERS,
            *DEVICE_HANDLERS,
            *POOL_HANDLERS,
            *ME_HANDLERS,
            *ISSUER_HANDLERS,
            *PAGES,
            *away.HANDLERS,
            *serving.HANDLERS,
        ]

    async def authenticate(self, handler: BaseHandler, data: object = None, **_: object) -> dict[str, Any]:
        """The user who comes back from the IAM's page, if the policy lets them in."""
        try:
            return self._model(*await self._sign_in(handler))
        except Refused as error:
            raise web.HTTPError(403, str(error), reason=NO_LOGIN) from error
        except LoginRequired as error:
            raise web.HTTPError(
                403,
                "The IAM no longer knows this login, perhaps because it took too long. Sign in again.",
                reason=NO_LOGIN,
            ) from error
        except Unavailable as error:
            raise self.no_iam(error) from error
        except AFError as error:  # claims that lack something, or an id token that is wrong
            self.log.error("login refused: %s", error)
            sentence = str(error).rstrip(".")
            raise web.HTTPError(
                403,
                f"You cannot log in: {sentence}. If signing in again does not help, write to {self.policy.facility.contact}.",
                reason=NO_LOGIN,
            ) from error

    def no_iam(self, error: Unavailable) -> web.HTTPError:
        """The page of somebody who cannot log in since the IAM cannot be used now."""
        self.log.error("no login: %s", error)
        return web.HTTPError(
            503,
            f"Nobody can log in at this moment. {error} Who is logged in already can go on. Try again in a minute; if it stays "
            f"so, write to {self.policy.facility.contact}.",
            reason=NO_IAM,
        )

    @forgetful
    async def _sign_in(self, handler: BaseHandler) -> tuple[Claims, Rights]:
        if not isinstance(handler, IAMCallbackHandler):  # JupyterHub's page takes passwords, which nobody has here
            raise web.HTTPError(
                400, "Nobody signs in here with a form. Sign in again, with the button.", reason=NO_LOGIN
            )
        params = self.build_access_tokens_request_params(handler)
        verifier = params["code_verifier"]
        if handler.issuer not in self.clients:
            raise Refused("The IAM that you chose is no longer one of this facility. Sign in again.")
        client: IAMClient = self.clients[handler.issuer]
        if client.discovery.says_who and not handler.get_argument("iss", ""):
            raise Refused("The answer does not say which IAM it is from, though it should (RFC 9207). Sign in again.")
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                with metrics.request(client.discovery.issuer, "redeem"):
                    answer = await client.redeem(params["code"], params["redirect_uri"], verifier)
                found = await client.person(answer, nonce_of(verifier))
        except TimeoutError as error:
            raise Unavailable(f"The IAM takes more than {LOGIN_SECONDS:g} seconds for a login.") from error
        return await self._admit(client, found, answer)

    async def _admit(self, client: IAMClient, found: dict[str, Any], answer: TokenAnswer) -> tuple[Claims, Rights]:
        """Let in whom the IAM has told us, if the policy does, and keep their tokens from now on."""
        claims, policy = read_claims(found, client.discovery.issuer), self.policy
        rights = self._decide(claims, policy)
        audit.info("audit: %s", decision_line(policy, claims, rights))
        if not rights.login:
            raise Refused(rights.refusal)
        if not answer.refresh_token:
            raise Unavailable(
                "The IAM gave no refresh token; its client for the hub must allow the scope offline_access."
            )
        try:
            scope = answer.scope or " ".join(self.scopes_for(claims.issuer))
            return await self.keeper.enrol(claims, answer.refresh_token, answer.ends_at, scope), rights
        except Refused as error:
            raise Refused(name_taken(policy, claims.username)) from error

    def device_client(self, issuer: str) -> IAMClient:
        """The hub's client at the issuer of this name, or at the only one; for logins by code.

        Raises
        ------
        Refused
            When there is none of that name.
        """
        client: IAMClient = self.clients.named(issuer)
        return client

    @forgetful
    async def device_login(self, client: IAMClient, device_code: str) -> dict[str, Any]:
        """What JupyterHub learns of somebody who said yes to a login by code.

        Raises
        ------
        IAMRefused
            With the code ``authorization_pending`` or ``slow_down`` while nobody has said yes or no.
        Refused
            When the policy does not let the person in.
        LoginRequired, ClaimsError, TokenRejected, Unavailable
            As at a login with a browser.
        """
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                answer = await client.redeem_device(device_code)
                found = await client.person(answer, None)
        except TimeoutError as error:
            raise Unavailable(f"The IAM takes more than {LOGIN_SECONDS:g} seconds for a login.") from error
        return self._model(*await self._admit(client, found, answer))

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Who comes this far was let in by the policy, in :meth:`authenticate`."""
        return True

    async def refresh_user(self, user: User, handler: BaseHandler | None = None, **_: object) -> bool | dict[str, Any]:
        """Decide again what somebody may do. JupyterHub locks people out when this raises, so it does not.

        False ends what the user does at the hub: at once when the policy no longer lets them in; when only the IAM's login has ended,
        in the browser alone, so that running sessions go on until their tokens end.
        """
        if handler is not None and not hasattr(handler, "_token_authenticated"):
            handler._token_authenticated = (
                False  # JupyterHub 6.1.1 reads it for cookies too, but sets it for tokens only
            )
        try:
            rights, claims, _policy = await self._rights(user.name)
        except LoginRequired:
            return bool(handler is not None and handler._token_authenticated)
        except Exception:
            self.log.exception("rights of %s kept as they were", user.name)
            return True
        self._tell_change(claims, rights)
        if not rights.login:
            self.log.warning("no longer let in: %s", rights.refusal)
            return False
        return self._model(claims, rights)

    def _tell_change(self, claims: Claims, rights: Rights) -> None:
        """An audit line when somebody has other rights than at the last look."""
        before = self._rights_before.get(claims.username, rights)
        self._rights_before[claims.username] = rights
        if line := change_line(claims, before, rights):
            audit.info("audit: %s", line)

    async def rights_of(self, user: User) -> tuple[Rights, Policy]:
        """What this user may do now, and the policy that says so; for the spawner.

        Raises
        ------
        LoginRequired
            When the IAM ended the user's login.
        """
        rights, _, policy = await self._rights(user.name)
        return rights, policy

    async def session_token(self, user: User) -> AccessToken:
        """What this user's session begins with; for the spawner.

        Raises
        ------
        LoginRequired, Unavailable
            As :meth:`TokenKeeper.access_token`.
        """
        token: AccessToken = await self.keeper.access_token(user.name)
        return token

    async def condor_token(self, username: str) -> AccessToken:
        """A short token of this user for the pool; for the controller.

        Raises
        ------
        Refused
            When the policy gives this user no condor account.
        LoginRequired, Unavailable
            As :meth:`TokenKeeper.purpose_token`.
        """
        rights, claims, policy = await self._rights_at_pools(username)
        audiences = " ".join(sorted({policy.pools[policy.sites[site].pool].audience for site in rights.sites}))
        return await self._token_for_pools(claims, policy, audiences)

    async def storage_token(self, username: str) -> AccessToken:
        """What this user's worker nodes and batch jobs read data with; the session's token where the policy says nothing of it.

        Raises
        ------
        Refused
            When the policy does not let this user in.
        LoginRequired, Unavailable
            As :meth:`TokenKeeper.purpose_token`.
        """
        # When the login has ended, what runs goes on as long as its last token is good, as a session does.
        rights, claims, policy = await self._last_rights(username)
        if not rights.login:
            raise Refused(rights.refusal)
        storage = policy.tokens_of(claims.issuer).storage
        keeper: TokenKeeper = self.keeper
        if storage is None:
            return await keeper.access_token(username)
        return await keeper.purpose_token(username, storage_purpose(storage))

    async def own_pool(self, username: str, name: str) -> OwnPool:
        """The pool of this name, or the only one that is open to the person, with a short token for it; for ``af submit``.

        Raises
        ------
        Refused
            When the policy gives this user no condor account, or opens no such pool.
        LoginRequired, Unavailable
            As :meth:`TokenKeeper.purpose_token`.
        """
        rights, claims, policy = await self._rights_at_pools(username)
        chosen = choose_pool(policy, rights, name)
        pool = policy.pools[chosen]
        return OwnPool(chosen, pool, await self._token_for_pools(claims, policy, pool.audience))

    async def standing(self, username: str) -> Standing:
        """What the hub knows of this user now, also when the login has ended.

        Raises
        ------
        LoginRequired
            When it knows nothing.
        """
        rights, claims, policy = await self._last_rights(username)
        return Standing(claims, rights, policy, self.login_state(username))

    async def _rights(self, username: str) -> tuple[Rights, Claims, Policy]:
        """Rights, and what they were decided from; whoever asks for the policy once more may get another."""
        try:
            claims = await self.keeper.claims(username, self.auth_refresh_age)
        except LoginRequired as error:
            raise LoginRequired(self._explained(username, str(error))) from error
        policy = self.policy
        return self._decide(claims, policy), claims, policy

    async def _rights_at_pools(self, username: str) -> tuple[Rights, Claims, Policy]:
        """As :meth:`_rights`, of somebody whom the policy gives a condor account."""
        rights, claims, policy = await self._rights(username)
        if rights.condor is None:
            raise Refused(rights.refusal or no_account(policy))
        return rights, claims, policy

    async def _token_for_pools(self, claims: Claims, policy: Policy, audience: str) -> AccessToken:
        purpose = condor_purpose(policy.tokens_of(claims.issuer).condor, audience)
        token: AccessToken = await self.keeper.purpose_token(claims.username, purpose)
        return token

    async def _last_rights(self, username: str) -> tuple[Rights, Claims, Policy]:
        """As :meth:`_rights`, by what was known last when the login has ended."""
        try:
            return await self._rights(username)
        except LoginRequired:
            if (record := self.keeper.record(username)) is None:
                raise
        policy = self.policy
        return self._decide(record.claims, policy), record.claims, policy

    def _explained(self, username: str, why: str) -> str:
        """Why a login is over, with the agreement's place where the policy knows it."""
        record = self.keeper.record(username)
        return agreement(self.policy, record.claims.issuer) if record and why == UNSIGNED else why

    def _decide(self, claims: Claims, policy: Policy) -> Rights:
        if claims.issuer not in self.clients:
            return Rights(login=False, refusal=unknown_issuer(policy, claims))
        if claims.username in self.blocked_users:
            return Rights(login=False, refusal=blocked(policy, claims.username))
        return decide(policy, claims, time.time())

    def _model(self, claims: Claims, rights: Rights) -> dict[str, Any]:
        """What JupyterHub learns of somebody. The admin flag is never set: it would open everybody's account."""
        groups = [*facility_groups(self.policy, claims), *([ADMINS] if rights.admin else [])]
        return {"name": claims.username, "admin": False, "groups": groups, "auth_state": None}
