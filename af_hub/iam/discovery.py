"""What an IAM says of itself: addresses (OpenID Connect Discovery 1.0) and keys (RFC 7517).

Both are read when first needed and kept; at the beginning of a login the addresses are asked for again, since the browser is about to be
sent to one of them, and a browser says of a dead IAM only that it cannot be reached. Keys are read again when a token names one that we
do not know, but not more often than once in ``PAUSE_SECONDS``, so that forged key ids cannot make us storm the IAM, and after
``KEYS_SECONDS``. Whoever cannot be reached is asked again at the next call.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt

from af_hub.errors import TokenRejected, Unavailable
from af_hub.iam.http import fetch
from af_hub.iam.idtoken import ALGORITHMS

PAUSE_SECONDS = 30.0

KEYS_SECONDS = 6 * 3600.0
"""How long keys are trusted without looking whether the issuer still publishes them (WLCG token profile 1.3)."""

OPTIONAL = ("device_authorization_endpoint", "revocation_endpoint", "end_session_endpoint")
"""Addresses that an IAM need not have."""


@dataclass(frozen=True)
class Metadata:
    """The addresses that we use; those that the issuer does not have are empty."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    jwks_uri: str
    device_authorization_endpoint: str = ""
    revocation_endpoint: str = ""
    end_session_endpoint: str = ""
    says_who: bool = False
    """Whether the issuer names itself in the answer to a login (RFC 9207)."""


def read_metadata(found: dict[str, Any], issuer: str) -> Metadata:
    """Metadata out of a discovery document, which must be that of ``issuer`` (section 4.3).

    Raises
    ------
    Unavailable
        When it is another issuer's, or an address is missing.
    """
    if found.get("issuer") != issuer:
        raise Unavailable(
            f"facility.yaml names the issuer {issuer!r}, but its discovery document is that of {found.get('issuer')!r:.120}."
        )
    names = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
    wrong = [name for name in names if not _is_address(found.get(name))]
    if wrong:
        raise Unavailable(f"The discovery document of {issuer} has no address as {', '.join(wrong)}.")
    optional = [name for name in OPTIONAL if _is_address(found.get(name))]
    says_who = found.get("authorization_response_iss_parameter_supported") is True
    return Metadata(issuer, **{name: found[name] for name in (*names, *optional)}, says_who=says_who)


def _is_address(found: object) -> bool:
    """Whether this is something that we, or a browser, may be sent to."""
    try:
        parts = urlsplit(found if isinstance(found, str) else "")
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Discovery:
    """Addresses and keys of one issuer."""

    def __init__(
        self, issuer: str, url: str, clock: Callable[[], float] = time.monotonic, pause: float = PAUSE_SECONDS
    ) -> None:
        self.issuer, self.url = issuer, url
        self._clock, self._pause = clock, pause
        self._metadata: Metadata | None = None
        self._metadata_at = 0.0
        self._keys: dict[str, jwt.PyJWK] = {}
        self._keys_asked_at: float | None = None
        self._asking: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def metadata(self, max_age: float | None = None) -> Metadata:
        """The addresses, asked for once; or again, when ``max_age`` seconds have passed since.

        Raises
        ------
        Unavailable
            When the issuer does not answer, or not as it should.
        """
        too_old = max_age is not None and self._clock() - self._metadata_at > max_age
        if self._metadata is None or too_old:
            self._metadata = read_metadata(await self._ask(self.url), self.issuer)
            self._metadata_at = self._clock()
        return self._metadata

    @property
    def says_who(self) -> bool:
        """Whether the issuer names itself in the answer to a login, as far as it has been asked."""
        return self._metadata is not None and self._metadata.says_who

    async def key(self, kid: str) -> jwt.PyJWK:
        """The key that a token's header names; the issuer's only one when it names none (OpenID Connect Core 1.0, section 10.1).

        Raises
        ------
        TokenRejected
            When the issuer publishes no such key, or several and none is named.
        """
        jwks_uri = (await self.metadata()).jwks_uri
        wanted = kid not in self._keys or self._keys_are_old()
        if wanted and (self._may_ask() or jwks_uri in self._asking):
            self._keys_asked_at = self._clock()
            self._keys = read_keys(await self._ask(jwks_uri))
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if kid not in self._keys:
            raise TokenRejected(f"the token is signed with a key that {self.issuer} does not publish")
        return self._keys[kid]

    async def _ask(self, url: str) -> dict[str, Any]:
        """One request for all who want the same at one time: an issuer that is slow must not make them wait for each other."""
        if url not in self._asking:
            self._asking[url] = asyncio.create_task(fetch(url))
            self._asking[url].add_done_callback(lambda task: self._asked(url, task))
        return await asyncio.shield(self._asking[url])

    def _asked(self, url: str, task: asyncio.Task[dict[str, Any]]) -> None:
        del self._asking[url]
        if not task.cancelled():
            task.exception()  # seen, even when whoever asked has gone

    def _keys_are_old(self) -> bool:
        return self._keys_asked_at is None or self._clock() - self._keys_asked_at >= KEYS_SECONDS

    def _may_ask(self) -> bool:
        return not self._keys or self._keys_asked_at is None or self._clock() - self._keys_asked_at >= self._pause


def read_keys(found: dict[str, Any]) -> dict[str, jwt.PyJWK]:
    """Signing keys by key id; those of kinds that we do not take are left out.

    Raises
    ------
    Unavailable
        When there is no key that we could use.
    """
    keys = found.get("keys")
    usable = [key for one in (keys if isinstance(keys, list) else []) if (key := _read_key(one))]
    if not usable:
        raise Unavailable("The IAM's key set holds no key that can be used.")
    return {str(key.key_id): key for key in usable}


def _read_key(found: object) -> jwt.PyJWK | None:
    if not isinstance(found, dict) or not isinstance(found.get("kid"), str) or found.get("use") == "enc":
        return None
    try:
        key = jwt.PyJWK.from_dict(found)
    except (
        jwt.PyJWTError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
    ):  # PyJWT 2.15, for odd values
        return None
    return key if key.algorithm_name in ALGORITHMS else None
