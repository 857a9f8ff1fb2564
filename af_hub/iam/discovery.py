"""What an IAM says of itself: addresses (OpenID Connect Discovery 1.0) and keys (RFC 7517).

Both are read when first needed and kept. Keys are read again when a token names one that we do not know, but not more often than once
in ``PAUSE_SECONDS``, so that forged key ids cannot make us storm the IAM. Whoever cannot be reached is asked again at the next call.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from af_hub.errors import TokenRejected, Unavailable
from af_hub.iam.http import fetch
from af_hub.iam.idtoken import ALGORITHMS

PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Metadata:
    """The addresses that we use."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    jwks_uri: str


def read_metadata(found: dict[str, Any], issuer: str) -> Metadata:
    """Metadata out of a discovery document, which must be that of ``issuer`` (section 4.3).

    Raises
    ------
    Unavailable
        When it is another issuer's, or an address is missing.
    """
    if found.get("issuer") != issuer:
        raise Unavailable(
            f"facility.yaml names the issuer {issuer!r}, but its discovery document is that of {found.get('issuer')!r:.120}"
        )
    names = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
    missing = [name for name in names if not isinstance(found.get(name), str)]
    if missing:
        raise Unavailable(f"the discovery document of {issuer} has no {', '.join(missing)}")
    return Metadata(issuer, **{name: found[name] for name in names})


class Discovery:
    """Addresses and keys of one issuer."""

    def __init__(
        self, issuer: str, url: str, clock: Callable[[], float] = time.monotonic, pause: float = PAUSE_SECONDS
    ) -> None:
        self.issuer, self.url = issuer, url
        self._clock, self._pause = clock, pause
        self._metadata: Metadata | None = None
        self._keys: dict[str, jwt.PyJWK] = {}
        self._keys_asked_at: float | None = None
        self._lock = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """The addresses, asked for once."""
        async with self._lock:
            if self._metadata is None:
                self._metadata = read_metadata(await fetch(self.url), self.issuer)
            return self._metadata

    async def key(self, kid: str) -> jwt.PyJWK:
        """The key that a token's header names.

        Raises
        ------
        TokenRejected
            When the issuer publishes no such key.
        """
        jwks_uri = (await self.metadata()).jwks_uri
        async with self._lock:
            if kid not in self._keys and self._may_ask():
                self._keys_asked_at = self._clock()
                self._keys = read_keys(await fetch(jwks_uri))
        if kid not in self._keys:
            raise TokenRejected(f"the token is signed with a key that {self.issuer} does not publish")
        return self._keys[kid]

    def _may_ask(self) -> bool:
        return not self._keys or self._keys_asked_at is None or self._clock() - self._keys_asked_at >= self._pause


def read_keys(found: dict[str, Any]) -> dict[str, jwt.PyJWK]:
    """Signing keys by key id; those of kinds that we do not take are left out.

    Raises
    ------
    Unavailable
        When there is no key that we could use.
    """
    try:
        keys = jwt.PyJWKSet.from_dict(found).keys
    except jwt.PyJWTError as error:
        raise Unavailable(f"the IAM's key set cannot be read ({type(error).__name__})") from error
    usable = (key for key in keys if key.public_key_use != "enc" and key.algorithm_name in ALGORITHMS)
    return {key.key_id: key for key in usable if key.key_id}
