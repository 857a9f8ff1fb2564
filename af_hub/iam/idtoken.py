"""The id token, checked as OpenID Connect Core 1.0, section 3.1.3.7, wants; pure but for the key, which the caller fetched."""

from typing import Any

import jwt

from af_hub.errors import TokenRejected

ALGORITHMS = ("RS256", "ES256")
LEEWAY_SECONDS = 30


def key_id(token: str) -> str:
    """The ``kid`` of a token's header, nothing of which is trusted yet; empty when it has none.

    Raises
    ------
    TokenRejected
        When there is no such header, or the token is not signed.
    """
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenRejected("the IAM's id token is no signed JWT") from error
    if header.get("alg") not in ALGORITHMS:
        raise TokenRejected(f"the IAM's id token must be signed with {' or '.join(ALGORITHMS)}")
    return str(header.get("kid") or "")


def verify_id_token(token: str, key: jwt.PyJWK, issuer: str, client_id: str, nonce: str | None) -> dict[str, Any]:
    """The claims of ``token``, if ``issuer`` signed it for ``client_id`` in answer to ``nonce`` and it has not expired.

    A ``nonce`` of None is for logins that have none, since no browser carries their answer (RFC 8628).

    Raises
    ------
    TokenRejected
        In any other case; the message names the claim, never its value.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=issuer,
            audience=client_id,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, ArithmeticError, TypeError, RecursionError) as error:
        # PyJWT 2.15 lets the others through for odd claims, such as `"exp": Infinity`.
        raise TokenRejected(f"the IAM's id token is not good ({type(error).__name__})") from None
    if nonce is not None and (not nonce or claims.get("nonce") != nonce):
        raise TokenRejected("the IAM's id token answers another login (nonce)")
    if claims.get("azp", client_id) != client_id:
        raise TokenRejected("the IAM's id token was made for another client (azp)")
    return claims
