"""The token endpoint and userinfo of one IAM, as the hub's client: codes, refresh, narrower tokens.

What is handed back are values; who keeps them, and when to ask, is the business of :mod:`af_hub.tokens.keeper`.
"""

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from urllib.parse import quote_plus

from af_hub.errors import LoginRequired, TokenRejected, Unavailable
from af_hub.iam.device import DEVICE_GRANT, DeviceStart, read_device_start
from af_hub.iam.discovery import Discovery
from af_hub.iam.http import SECONDS, fetch, forgetful
from af_hub.iam.idtoken import key_id, verify_id_token

TOKEN = re.compile(r"[\x21-\x7e]+\Z")
"""What may stand in a header (RFC 6749, appendix A.12)."""

EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105

LONGEST_SECONDS = 10 * 366 * 86400


@dataclass(frozen=True)
class TokenAnswer:
    """What the token endpoint gave (RFC 6749, section 5.1); instants in Unix seconds.

    Parameters
    ----------
    refresh_token
        Empty when the IAM gave none: the old one stays good.
    ends_at
        When the IAM will take ``refresh_token`` no longer; None when it does not say.
    """

    access_token: str = field(repr=False)
    issued_at: float
    expires_at: float
    scope: str = ""
    refresh_token: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)
    ends_at: float | None = None


def read_token_answer(found: dict[str, Any], now: float) -> TokenAnswer:
    """A token answer; its lifetime counts from ``now``, the moment before it was asked for.

    Raises
    ------
    Unavailable
        When it holds no access token, or no lifetime.
    """
    token, seconds = found.get("access_token"), found.get("expires_in")
    if not isinstance(token, str) or isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise Unavailable("The IAM's token answer lacks access_token or expires_in.")
    if not TOKEN.match(token):
        raise Unavailable("The IAM's token answer has an access_token that cannot be one.")
    texts = {name: found[name] for name in ("scope", "refresh_token", "id_token") if isinstance(found.get(name), str)}
    ends_at = read_ends_at(found, texts.get("refresh_token", ""), now)
    return TokenAnswer(token, now, now + min(max(0, seconds), LONGEST_SECONDS), **texts, ends_at=ends_at)


def read_ends_at(found: Mapping[str, Any], refresh_token: str, now: float) -> float | None:
    """When a refresh token ends, as far as anybody can know.

    No standard says it: Keycloak has ``refresh_expires_in``, others ``refresh_token_expires_in``, and INDIGO IAM's refresh tokens are JWTs
    (unsigned) with ``exp``. What ends at 0, or in the past, has no end (Keycloak's offline tokens).
    """
    for name in ("refresh_expires_in", "refresh_token_expires_in"):
        if _is_number(seconds := found.get(name)):
            return now + min(seconds, LONGEST_SECONDS) if seconds > 0 else None
    try:
        packed = refresh_token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (IndexError, ValueError, binascii.Error, RecursionError):
        return None
    end = said.get("exp") if isinstance(said, dict) else None
    return min(end, now + LONGEST_SECONDS) if _is_number(end) and end > now else None


def _is_number(found: Any) -> TypeGuard[float]:
    return isinstance(found, int | float) and not isinstance(found, bool) and found == found


@dataclass
class IAMClient:
    """The hub as a client of one IAM; ``client_secret_basic``, which every IAM must offer (RFC 6749, section 2.3.1)."""

    discovery: Discovery
    client_id: str
    client_secret: str = field(repr=False)
    clock: Callable[[], float] = time.time

    @forgetful
    async def redeem(self, code: str, redirect_uri: str, code_verifier: str) -> TokenAnswer:
        """Tokens for the code of a login."""
        return await self._ask(
            SECONDS, grant_type="authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=code_verifier
        )

    @forgetful
    async def refresh(
        self, refresh_token: str, scope: str = "", audience: str = "", seconds: float = SECONDS
    ) -> TokenAnswer:
        """A new access token, with fewer scopes or for one audience if said so; ``seconds`` is how long to wait for it.

        Raises
        ------
        LoginRequired
            When the IAM takes the refresh token no longer.
        Unavailable
            When it does not answer, or does not want to serve us.
        """
        return await self._ask(
            seconds, grant_type="refresh_token", refresh_token=refresh_token, scope=scope, audience=audience
        )

    @forgetful
    async def exchange(self, access_token: str, scope: str, audience: str = "") -> TokenAnswer:
        """Another access token for the owner of ``access_token`` (RFC 8693).

        Raises
        ------
        LoginRequired
            When the IAM takes ``access_token`` no longer.
        Unavailable
            When it does not answer, or gives the hub no such token.
        """
        return await self._ask(
            SECONDS,
            grant_type=EXCHANGE_GRANT,
            subject_token=access_token,
            subject_token_type=ACCESS_TOKEN_TYPE,
            scope=scope,
            audience=audience,
        )

    @forgetful
    async def begin_device(self, scope: str) -> DeviceStart:
        """Begin a login by code (RFC 8628).

        Raises
        ------
        Unavailable
            When the IAM has no such login, or does not give one to the hub.
        """
        address = (await self.discovery.metadata()).device_authorization_endpoint
        if not address:
            raise Unavailable("The IAM offers no login by code (device flow); sign in with a browser.")
        return read_device_start(await self._post(address, SECONDS, {"scope": scope}))

    @forgetful
    async def redeem_device(self, device_code: str) -> TokenAnswer:
        """Tokens for a login by code.

        Raises
        ------
        IAMRefused
            With the code ``authorization_pending`` or ``slow_down`` while nobody has said yes or no.
        """
        return await self._ask(SECONDS, grant_type=DEVICE_GRANT, device_code=device_code)

    @forgetful
    async def revoke(self, refresh_token: str) -> bool:
        """Tell the IAM that nobody needs this refresh token any more (RFC 7009); False when it has no place for that.

        Raises
        ------
        Unavailable
            When it does not answer, or does not want to hear it.
        """
        url = (await self.discovery.metadata()).revocation_endpoint
        if url:
            await self._post(url, SECONDS, {"token": refresh_token, "token_type_hint": "refresh_token"})
        return bool(url)

    @forgetful
    async def userinfo(self, access_token: str) -> dict[str, Any]:
        """What the IAM says about the token's owner (OpenID Connect Core 1.0, section 5.3)."""
        metadata = await self.discovery.metadata()
        return await fetch(metadata.userinfo_endpoint, headers={"Authorization": f"Bearer {access_token}"})

    @forgetful
    async def person(self, answer: TokenAnswer, nonce: str | None) -> dict[str, Any]:
        """All claims about who just logged in: the verified id token's, and userinfo's on top.

        Raises
        ------
        TokenRejected
            When the id token is wrong, or userinfo speaks of somebody else.
        """
        key = await self.discovery.key(key_id(answer.id_token))
        signed = verify_id_token(answer.id_token, key, self.discovery.issuer, self.client_id, nonce)
        try:
            told = await self.userinfo(answer.access_token)
        except LoginRequired as error:
            raise Unavailable("The IAM's userinfo refuses the token that the IAM just gave.") from error
        if told.get("sub") != signed["sub"]:
            raise TokenRejected("userinfo and id token of the IAM speak of different people")
        return {**signed, **told}

    async def _ask(self, seconds: float, **form: str) -> TokenAnswer:
        """An answer of the token endpoint; what is empty in ``form`` is left out of it."""
        metadata, now = await self.discovery.metadata(), self.clock()
        given = {name: value for name, value in form.items() if value}
        return read_token_answer(await self._post(metadata.token_endpoint, seconds, given), now)

    async def _post(self, url: str, seconds: float, form: Mapping[str, str]) -> dict[str, Any]:
        # Both parts are form-encoded before they are packed (RFC 6749, section 2.3.1).
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}".encode()
        headers = {"Authorization": "Basic " + base64.b64encode(pair).decode(), "Accept": "application/json"}
        return await fetch(url, form, headers, seconds)
