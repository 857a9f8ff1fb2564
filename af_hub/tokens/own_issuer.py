"""The hub as an issuer of tokens, for purposes of which the policy says ``by: hub``: the hop hub → whoever verifies them.

::

    GET issuer/.well-known/openid-configuration     who this is (OpenID Connect Discovery 1.0; RFC 8414)
    GET issuer/jwks                                 the keys (RFC 7517), open to everybody

Tokens are of the WLCG profile 1.0, signed with ES256. ``iss`` is :attr:`~af_hub.policy.model.Policy.own_issuer`; ``sub`` stands for the person's
pair of issuer and subject at the IAM, so that a pool's mapping stays pinned to that; groups are as the rules of the policy write them. Whose
token may be signed is decided elsewhere; here each leaves a line in the audit log.
"""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from af_hub.errors import Unavailable
from af_hub.iam.claims import ANY_AUDIENCE, Claims, own_subject
from af_hub.policy.decide import facility_groups
from af_hub.policy.model import Policy
from af_hub.tokens.issuer_keys import ALGORITHM, KeyFile, signing
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.purposes import Purpose

audit = logging.getLogger("af_hub.audit")

GROUPS = "wlcg.groups"
KEPT_SECONDS = 600
"""How long others shall remember the answers."""


@dataclass(frozen=True)
class OwnToken(AccessToken):
    """A token that the hub signed; ``issuer`` is its ``iss``."""

    issuer: str = ""


def claims_of(person: Claims, groups: tuple[str, ...], issuer: str, purpose: Purpose, now: float) -> dict[str, Any]:
    """What a token of the WLCG profile says of this person at the instant ``now``."""
    begins = int(now)
    found: dict[str, Any] = {
        "wlcg.ver": "1.0",
        "iss": issuer,
        "sub": own_subject(person.issuer, person.subject),
        "aud": audience_of(purpose.audience),
        "scope": purpose.scope,
        "jti": str(uuid.uuid4()),
        "iat": begins,
        "nbf": begins,
        "exp": begins + int(purpose.lifetime),
        "preferred_username": person.username,
    }
    wanted = purpose.scope.split()
    told = [group for group in groups if GROUPS in wanted or f"{GROUPS}:{group}" in wanted]
    return {**found, GROUPS: told} if told else found


def audience_of(audience: str) -> str | list[str]:
    """One name, a list of several, or the profile's word for everybody."""
    names = audience.split() or [ANY_AUDIENCE]
    return names if len(names) > 1 else names[0]


class OwnIssuer:
    """Signs, and says who it is.

    Parameters
    ----------
    policy
        Hands back the policy in force.
    """

    def __init__(self, keys: KeyFile, policy: Callable[[], Policy], clock: Callable[[], float] = time.time) -> None:
        self._keys, self._policy, self._clock = keys, policy, clock

    def sign(self, person: Claims, purpose: Purpose) -> OwnToken:
        """A token of this person for this purpose.

        Raises
        ------
        Unavailable
            When the hub has no address to sign with, or no key.
        """
        policy, now = self._policy(), self._clock()
        if not policy.own_issuer:
            raise Unavailable("The hub signs no tokens: facility.yaml does not say where the hub is (facility.hub).")
        claims = claims_of(person, facility_groups(policy, person), policy.own_issuer, purpose, now)
        key = signing(self._keys.current(), now)
        value = jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})
        audit.info(
            "audit: signed a token for %s (sub %s at %s): jti %s, key %s, aud %s, scope %r, good for %g s",
            person.username,
            person.subject,
            person.issuer,
            claims["jti"],
            key.kid,
            claims["aud"],
            purpose.scope,
            purpose.lifetime,
        )
        return OwnToken(value, claims["iat"], claims["exp"], policy.own_issuer)

    def configuration(self) -> dict[str, Any]:
        """The discovery document; empty while the policy names no address of the hub."""
        issuer = self._policy().own_issuer
        if not issuer:
            return {}
        return {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/jwks",
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "scope", "wlcg.ver", GROUPS],
        }

    def key_set(self) -> dict[str, Any]:
        """All keys that are published now."""
        return {"keys": [key.public for key in self._keys.current()] if self._policy().own_issuer else []}


class IssuerSource(Protocol):
    """What the handlers ask of the hub's authenticator."""

    own_issuer: OwnIssuer


class IssuerHandler(APIHandler):  # type: ignore[misc]
    """What everybody may read."""

    async def prepare(self) -> None:
        """Ask nobody who they are."""
        self._jupyterhub_user = None

    def show(self, found: dict[str, Any]) -> None:
        """Send JSON that may be kept for a while."""
        if not found:
            raise web.HTTPError(404, "This hub signs no tokens.")
        self.set_header("Cache-Control", f"public, max-age={KEPT_SECONDS}")
        self.set_header("Access-Control-Allow-Origin", "*")
        self.finish(found)


class ConfigurationHandler(IssuerHandler):
    """``GET issuer/.well-known/openid-configuration``."""

    def get(self) -> None:
        """Who this is."""
        source: IssuerSource = self.authenticator
        self.show(source.own_issuer.configuration())


class KeysHandler(IssuerHandler):
    """``GET issuer/jwks``."""

    def get(self) -> None:
        """The keys."""
        source: IssuerSource = self.authenticator
        self.show(source.own_issuer.key_set())


ISSUER_HANDLERS = [
    (r"/api/af/issuer/\.well-known/openid-configuration", ConfigurationHandler),
    (r"/api/af/issuer/jwks", KeysHandler),
]
