"""Who one is at this facility, and what one may do: ``GET /hub/api/af/me``, for ``af whoami`` and whoever else asks with a token of their own.

It answers also when the login at the IAM has ended: then with what was known last, and why. Whoever may read a person's access token may ask,
and whoever has the scope for this alone, as the server of a session that is a pod has.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from jupyterhub.scopes import define_custom_scopes, needs_scope
from jupyterhub.user import User
from tornado import web

from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, facility_groups
from af_hub.policy.model import Policy
from af_hub.tokens.endpoint import TOKEN_READ, AFHandler
from af_hub.tokens.notice import LoginState, login_notice

ME_READ = "custom:af-me:read"

define_custom_scopes({ME_READ: {"description": "Read who you are at the facility, and what you may do"}})


@dataclass(frozen=True)
class Standing:
    """What the hub knows of somebody now."""

    claims: Claims
    rights: Rights
    policy: Policy
    login: LoginState


class StandingSource(Protocol):
    """What the handler asks of the hub's authenticator."""

    async def standing(self, username: str) -> Standing:
        """What the hub knows of this user now."""


def describe_me(standing: Standing, now: float) -> dict[str, Any]:
    """The JSON of ``GET me`` at the instant ``now``."""
    claims, policy, login = standing.claims, standing.policy, standing.login
    issuer, notice = policy.issuer(claims.issuer), login_notice(login, now)
    return {
        "username": claims.username,
        "name": claims.name,
        "issuer": claims.issuer,
        "issuer_name": issuer.name if issuer else "",
        "groups": list(facility_groups(policy, claims)),
        "rights": describe_rights(standing.rights),
        "logged_in": login.logged_in,
        "login_ends_at": login.ends_at,
        "token_ends_at": login.token_ends_at,
        "banner": notice.text if notice else "",
        "announcements": [
            {"text": one.text, "level": one.level, "until": one.until.timestamp()} for one in policy.announced(now)
        ],
    }


def describe_rights(rights: Rights) -> dict[str, Any]:
    """Rights as JSON: names of the policy, memory in bytes, times in seconds."""
    return {
        "login": rights.login,
        "refusal": rights.refusal,
        "admin": rights.admin,
        "images": list(rights.images),
        "sizes": list(rights.sizes),
        "sites": list(rights.sites),
        "condor": asdict(rights.condor) if rights.condor else None,
        "limits": rights.limits.model_dump() if rights.limits else None,
    }


class MeHandler(AFHandler):
    """``GET me``."""

    @needs_scope(ME_READ, TOKEN_READ)  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """The caller."""
        if not isinstance(self.current_user, User):
            raise web.HTTPError(403, "Only a person has rights here; this is a service.")
        source: StandingSource = self.authenticator
        username = self.recorded(self.current_user.name).claims.username
        self.answer(describe_me(await source.standing(username), time.time()))


ME_HANDLERS = [(r"/api/af/me", MeHandler)]
