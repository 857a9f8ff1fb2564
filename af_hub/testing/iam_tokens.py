"""Users, keys and claims of the demo IAM: what its tokens say, in INDIGO IAM's two profiles.

Pure but for the keys' random numbers; :mod:`af_hub.testing.iam` serves it.
"""

import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ANY_AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"


@dataclass(frozen=True)
class DemoUser:
    """One who can log in; ``about`` is what the login page says of this user.

    Parameters
    ----------
    active
        The account may be used; an IAM's admin may suspend it.
    signed
        The agreement (AUP) of the organisation is signed; IAM refuses a refresh when it is not.
    """

    username: str
    subject: str
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    about: str = ""
    active: bool = True
    signed: bool = True


class SigningKeys:
    """One RSA and one EC key to sign with; these are published, and those before them that were not forgotten."""

    def __init__(self, dumped: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """New ones, or those that :meth:`dump` gave."""
        self._private: dict[str, Any]
        self._retired: list[dict[str, Any]] = []
        if dumped is None:
            self._private, self.kids = _new_keys()
        else:
            self._private = {name: load_pem_private_key(key["pem"].encode(), None) for name, key in dumped.items()}
            self.kids = {name: key["kid"] for name, key in dumped.items()}

    def rotate(self, keep: bool = True) -> None:
        """Sign with new keys from now on; the old ones stay published if ``keep``."""
        self._retired = [*self._retired, *self._current()] if keep else []
        self._private, self.kids = _new_keys()

    def dump(self) -> dict[str, dict[str, str]]:
        """Key and its id by algorithm, for a file of mode 0600; keys before these are left out."""
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            name: {"kid": self.kids[name], "pem": key.private_bytes(*form).decode()}
            for name, key in self._private.items()
        }

    def sign(self, claims: Mapping[str, object], algorithm: str) -> str:
        """A signed token (RFC 7519); with ``none`` an unsigned one."""
        key: Any = self._private.get(algorithm)
        kid = self.kids.get(algorithm, self.kids["RS256"])
        return jwt.encode(dict(claims), key, algorithm=algorithm, headers={"kid": kid})

    def published(self) -> dict[str, Any]:
        """The key set (RFC 7517)."""
        return {"keys": [*self._current(), *self._retired]}

    def _current(self) -> list[dict[str, Any]]:
        shapes = {
            "RS256": RSAAlgorithm.to_jwk(self._private["RS256"].public_key(), as_dict=True),
            "ES256": ECAlgorithm.to_jwk(self._private["ES256"].public_key(), as_dict=True),
        }
        return [
            {**shape, "kid": self.kids[algorithm], "alg": algorithm, "use": "sig"}
            for algorithm, shape in shapes.items()
        ]


def _new_keys() -> tuple[dict[str, Any], dict[str, str]]:
    keys = {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
    }
    return keys, {algorithm: f"{algorithm.lower()}-{secrets.token_hex(4)}" for algorithm in keys}


def access_claims(
    user: DemoUser | None,
    *,
    issuer: str,
    client_id: str,
    scopes: tuple[str, ...],
    audience: str | None,
    profile: str,
    now: float,
    lifetime: float,
) -> dict[str, object]:
    """Claims of an access token; no ``preferred_username`` in either profile, as IAM leaves it out by default.

    Without a user it is the client's own (client credentials), as the subject says.
    """
    claims: dict[str, object] = {
        "iss": issuer,
        "sub": user.subject if user else client_id,
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now + lifetime),
        "jti": str(uuid.uuid4()),
        "client_id": client_id,
        "scope": " ".join(scopes),
    }
    if profile == "wlcg":
        claims |= {"wlcg.ver": "1.0", "aud": audience or ANY_AUDIENCE}
        if user and (groups := granted_groups(user, scopes)):
            claims["wlcg.groups"] = groups
    elif audience:
        claims["aud"] = audience
    return claims


def person_claims(user: DemoUser, scopes: Iterable[str], profile: str) -> dict[str, object]:
    """What userinfo and the id token say about a person, by the scopes granted."""
    scopes = tuple(scopes)
    claims: dict[str, object] = {"sub": user.subject}
    if "profile" in scopes:
        claims |= {"name": user.name, "preferred_username": user.username}
        if profile == "iam":
            claims["organisation_name"] = "af-hub-demo"
            if user.groups:
                claims["groups"] = [group.lstrip("/") for group in user.groups]
    if "email" in scopes:
        claims |= {"email": user.email, "email_verified": True}
    if profile == "wlcg" and (groups := granted_groups(user, scopes)):
        claims["wlcg.groups"] = groups
    return claims


def granted_groups(user: DemoUser, scopes: Iterable[str]) -> list[str]:
    """Groups of the WLCG profile: only with its scope, all or one by one; empty lists are left out by the callers."""
    scopes = set(scopes)
    return sorted(group for group in user.groups if {"wlcg.groups", f"wlcg.groups:{group}"} & scopes)


def profile_of(scopes: Iterable[str], default: str) -> str:
    """The token profile that the scopes ask for; the default when they name none or both."""
    named = {"iam", "wlcg"} & set(scopes)
    return named.pop() if len(named) == 1 else default
