"""A person's own way to the batch system: the hop between ``af submit`` or a session and the keeper, below ``/hub/api/af/``.

::

    POST pool {"pool"?}      where the pool is, and a short token for it     scope custom:af-token:pool

The token is the person's own, for this pool alone, and lives minutes. Sessions have the scope for HTCondor's tools in them. Statuses are
those of :mod:`af_hub.tokens.endpoint`; 404 also means that the policy opens no such pool to the person.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jupyterhub.scopes import define_custom_scopes, needs_scope
from jupyterhub.user import User
from tornado import web

from af_hub.errors import Refused, Unavailable
from af_hub.policy.decide import Rights
from af_hub.policy.model import Policy
from af_hub.policy.sites import Pool
from af_hub.tokens.endpoint import AFHandler, describe_token, errors_as_http
from af_hub.tokens.lifetime import AccessToken

TOKEN_POOL = "custom:af-token:pool"  # noqa: S105

define_custom_scopes({TOKEN_POOL: {"description": "Get a short token of your own for HTCondor"}})


@dataclass(frozen=True)
class OwnPool:
    """A pool, and its person's token for it."""

    name: str
    pool: Pool
    token: AccessToken = field(repr=False)


class PoolSource(Protocol):
    """What the handler asks of the hub's authenticator."""

    async def own_pool(self, username: str, name: str) -> OwnPool:
        """The pool of this name, or the only one that is open to the person."""


def choose_pool(policy: Policy, rights: Rights, name: str) -> str:
    """The pool that somebody means.

    Raises
    ------
    Refused
        When it is not open to them, or several are and none was named.
    """
    names = sorted({policy.sites[site].pool for site in rights.sites})
    if name and name not in names:
        raise Refused(
            f"No pool called {name!r:.80} is open to you; wanted {' or '.join(names) or 'none: there is no other'}."
        )
    if not names:
        raise Refused(f"No pool is open to you; ask {policy.facility.contact}.")
    if not name and len(names) > 1:
        raise Refused(f"Several pools are open to you; say which one: {', '.join(names)}.")
    return name or names[0]


class PoolHandler(AFHandler):
    """``POST pool``."""

    @needs_scope(TOKEN_POOL)  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """The caller's own."""
        if not isinstance(self.current_user, User):
            raise web.HTTPError(403, "Only a person has a token for the pool; this is a service.")
        body = self.get_json_body() or {}
        if not isinstance(body, dict) or set(body) - {"pool"} or not isinstance(body.get("pool", ""), str):
            raise web.HTTPError(400, 'The body must be {} or {"pool": "..."}.')
        record = self.recorded(self.current_user.name)
        source: PoolSource = self.authenticator
        with errors_as_http():
            own = await source.own_pool(record.claims.username, body.get("pool", ""))
            authority = await asyncio.to_thread(read_authority, own.pool.ca_file)
        where = {"pool": own.name, "collector": own.pool.collector, "schedd": own.pool.schedd, "authority": authority}
        self.answer({**describe_token(own.token, record.claims.issuer), **where})


def read_authority(file: str) -> str:
    """The certificate that signed those of the pool; no secret."""
    try:
        return Path(file).read_text()
    except OSError as error:
        raise Unavailable(
            "The hub cannot read the certificate of the pool's authority; tell the facility's administrators."
        ) from error


POOL_HANDLERS = [(r"/api/af/pool", PoolHandler)]
