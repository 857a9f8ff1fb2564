"""The hub's endpoint for tokens: the hop between whoever needs a token and the keeper, below ``/hub/api/af/``.

::

    GET  token                          the caller's own fresh access token      scope custom:af-token:read
    GET  token?purpose=storage          ... the one that reads data              the same
    POST token/condor {"username"}      a short token for the pool               scope custom:af-token:condor
    POST token/storage {"username"}     what worker nodes read data with         scope custom:af-token:storage
    GET  people/{username}              the claims recorded last                 scope custom:af-people:read

400 the request is wrong; 401 the login at the IAM has ended; 403 the caller may not, or the policy gives the person no such right; 404
nobody of that name logged in yet; 429 the caller asks too often (``Retry-After`` says when again); 503 the IAM does not answer and nothing
is valid. Tokens of the hub only, no cookies: a page in a browser can never read a token here. Every request leaves one line in the audit
log, whatever became of it.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any, Protocol

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import define_custom_scopes, needs_scope
from jupyterhub.user import User
from tornado import web

from af_hub.allowances import Limiter
from af_hub.errors import AFError, LoginRequired, Refused, Unavailable
from af_hub.tokens.keeper import TokenKeeper
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.own_issuer import OwnToken
from af_hub.tokens.records import Record, describe_record

audit = logging.getLogger("af_hub.audit")

TOKEN_READ = "custom:af-token:read"  # noqa: S105
TOKEN_CONDOR = "custom:af-token:condor"  # noqa: S105
TOKEN_STORAGE = "custom:af-token:storage"  # noqa: S105
PEOPLE_READ = "custom:af-people:read"

# needs_scope wants its scopes at import, before JupyterHub has read those of its configuration.
define_custom_scopes(
    {
        TOKEN_READ: {"description": "Read your own IAM access token"},
        TOKEN_CONDOR: {"description": "Get short tokens for HTCondor on behalf of anybody (the controller only)"},
        TOKEN_STORAGE: {
            "description": "Get tokens that read data on behalf of anybody, for their worker nodes (the controller only)"
        },
        PEOPLE_READ: {"description": "Read who anybody is, as the IAM said last (the controller only)"},
    }
)

PURPOSES = ("session", "storage")
"""Of a person's own tokens."""


class TooMany(web.HTTPError):
    """429, with the seconds after which to ask again (RFC 6585, section 4)."""

    def __init__(self, seconds: float) -> None:
        wait = ceil(seconds)
        super().__init__(429, f"You ask too often. Ask again in {wait} second{'' if wait == 1 else 's'}.")
        self.headers = {"Retry-After": str(wait)}  # JupyterHub 6.1 sends these with the answer


STATUS = {LoginRequired: 401, Refused: 403, Unavailable: 503}


@contextmanager
def errors_as_http() -> Iterator[None]:
    """Our exceptions as the statuses that the module's docstring promises; each sentence goes to the caller."""
    try:
        yield
    except AFError as error:
        status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 503)
        raise web.HTTPError(status, str(error)) from error


def describe_token(token: AccessToken, issuer: str) -> dict[str, object]:
    """The JSON of a token that is handed out; ``issuer`` is that of the login, which the hub's own tokens are not of."""
    own = token.issuer if isinstance(token, OwnToken) else issuer
    return {"access_token": token.value, "expires_at": token.expires_at, "issuer": own}


class TokenSource(Protocol):
    """What the endpoint asks of the hub's authenticator."""

    keeper: TokenKeeper
    limiter: Limiter

    async def condor_token(self, username: str) -> AccessToken:
        """A short token for the pool, if the policy gives this user an account there."""

    async def storage_token(self, username: str) -> AccessToken:
        """What this user's worker nodes read data with."""


class AFHandler(APIHandler):  # type: ignore[misc]
    """What all of them have in common."""

    _accept_cookie_auth = False
    about = purpose = ""

    async def prepare(self) -> None:
        """Learn who asks, and whether too often."""
        await super().prepare()
        caller = self.current_user
        if isinstance(caller, User | orm.Service):
            kind = "user" if isinstance(caller, User) else "service"
            if seconds := self.iam.limiter.ask(kind, caller.name):
                raise TooMany(seconds)

    @property
    def iam(self) -> TokenSource:
        """Our authenticator, which holds keeper and policy."""
        source: TokenSource = self.authenticator
        return source

    def get_json_body(self) -> Any:
        """The JSON of the request's body, None when there is none. JupyterHub's own writes a broken one into the log, and what is secret in it."""
        try:
            found = json.loads(self.request.body) if self.request.body else None
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # half a surrogate pair, NaN
        except (ValueError, RecursionError):
            raise web.HTTPError(400, "The body must be JSON.") from None
        return found

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Without the query, which Tornado would write, and a token if somebody put one there."""
        where = f"{self.request.method} {self.request.path}"
        if isinstance(error, web.HTTPError):
            said = (error.log_message or "") % error.args
            self.log.warning("%d %s (%s): %s", error.status_code, where, self.request.remote_ip, said)
        else:
            self.log.error("failed: %s", where, exc_info=(kind, error, trace))

    def answer(self, found: dict[str, object]) -> None:
        """Send JSON that nobody may keep."""
        self.set_header("Cache-Control", "no-store")
        self.finish(found)

    def recorded(self, username: str) -> Record:
        """Who this is; 404 for a stranger."""
        self.about = username
        record = self.iam.keeper.record(username)
        if record is None:
            raise web.HTTPError(404, f"Nobody called {username!r:.80} has logged in yet.")
        return record

    def on_finish(self) -> None:
        """Write the audit line."""
        super().on_finish()
        caller = getattr(self, "_jupyterhub_user", None)
        token = self.get_token() if caller else None
        audit.info(
            "audit: %s %s%s by %s (token %s) about %r from %s: %s",
            self.request.method,
            self.request.path,
            f" for {self.purpose}" if self.purpose else "",
            f"{type(caller).__name__.lower()} {caller.name}" if caller else "nobody",
            token.api_id if token else "none",
            self.about,
            self.request.remote_ip,
            self.get_status(),
        )


class TokenHandler(AFHandler):
    """``GET token``."""

    @needs_scope(TOKEN_READ)  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """The caller's own token."""
        if not isinstance(self.current_user, User):
            raise web.HTTPError(403, "Only a person has an IAM token; this is a service.")
        purpose = self.get_query_argument("purpose", "session")
        if purpose not in PURPOSES:
            raise web.HTTPError(400, f"Found the purpose {purpose!r:.80}, wanted one of {', '.join(PURPOSES)}.")
        record = self.recorded(self.current_user.name)
        username, self.purpose = record.claims.username, purpose
        with errors_as_http():
            kept = self.iam.storage_token if purpose == "storage" else self.iam.keeper.access_token
            token = await kept(username)
        self.answer(describe_token(token, record.claims.issuer))


class ServiceTokenHandler(AFHandler):
    """A service asks for a token of somebody."""

    async def answer_for(self, source: Callable[[str], Awaitable[AccessToken]]) -> None:
        """The token that ``source`` has for the user whom the body names."""
        if not isinstance(self.current_user, orm.Service):
            raise web.HTTPError(403, "Tokens of others are for the controller only.")
        body = self.get_json_body()
        if not isinstance(body, dict) or set(body) != {"username"} or not isinstance(body["username"], str):
            raise web.HTTPError(400, 'The body must be {"username": "..."}.')
        record = self.recorded(body["username"])
        with errors_as_http():
            token = await source(record.claims.username)
        self.answer(describe_token(token, record.claims.issuer) | self.more(record.claims.username))

    def more(self, username: str) -> dict[str, object]:
        """What else the answer says of somebody."""
        return {}


class CondorTokenHandler(ServiceTokenHandler):
    """``POST token/condor``."""

    @needs_scope(TOKEN_CONDOR)  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """A token for the pool, for somebody whom the policy gives a condor account."""
        await self.answer_for(self.iam.condor_token)


class StorageTokenHandler(ServiceTokenHandler):
    """``POST token/storage``; the answer also says whether more tokens will come after this one."""

    def more(self, username: str) -> dict[str, object]:
        """Whether the IAM still takes the login."""
        return {"logged_in": self.iam.keeper.logged_in(username)}

    @needs_scope(TOKEN_STORAGE)  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """A token that reads data, for somebody whom the policy lets in."""
        await self.answer_for(self.iam.storage_token)


class PeopleHandler(AFHandler):
    """``GET people/{username}``."""

    @needs_scope(PEOPLE_READ)  # type: ignore[untyped-decorator]
    async def get(self, username: str) -> None:
        """Who this is, as the IAM said last."""
        self.answer(describe_record(self.recorded(username)))


HANDLERS = [
    (r"/api/af/token", TokenHandler),
    (r"/api/af/token/condor", CondorTokenHandler),
    (r"/api/af/token/storage", StorageTokenHandler),
    (r"/api/af/people/([^/]+)", PeopleHandler),
]
