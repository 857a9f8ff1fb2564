"""Every way in which an id token can be wrong is a row."""

import time
from typing import Any

import jwt
import pytest

from af_hub.errors import TokenRejected
from af_hub.iam.discovery import read_keys
from af_hub.iam.idtoken import key_id, verify_id_token
from af_hub.testing.iam_tokens import SigningKeys

OURS, THEIRS = SigningKeys(), SigningKeys()
PUBLISHED = read_keys(OURS.published())
ISSUER = "https://iam.af-hub.test/"


def claims(**changed: object) -> dict[str, object]:
    """Good claims, but for those that are ``changed``; times count from now, in seconds."""
    good = {"iss": ISSUER, "aud": "hub", "sub": "s", "nonce": "n", "iat": 0, "exp": 86400}
    now = int(time.time())
    found = {name: value for name, value in {**good, **changed}.items() if value is not None}
    return {name: now + value if isinstance(value, int) else value for name, value in found.items()}


def verify(token: str) -> dict[str, Any]:
    key = PUBLISHED.get(key_id(token))
    if key is None:
        raise TokenRejected("unknown key")
    return verify_id_token(token, key, ISSUER, "hub", "n")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_good_one(algorithm: str) -> None:
    assert verify(OURS.sign(claims(), algorithm))["sub"] == "s"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"iss": "https://evil.test/"}, id="another issuer"),
        pytest.param({"iss": ISSUER.rstrip("/")}, id="issuer without its slash"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"aud": "other"}, id="for another client"),
        pytest.param({"aud": None}, id="for nobody"),
        pytest.param({"aud": ["hub", "other"], "azp": "other"}, id="made for another client"),
        pytest.param({"nonce": "m"}, id="another nonce"),
        pytest.param({"nonce": None}, id="no nonce"),
        pytest.param({"exp": -120}, id="expired"),
        pytest.param({"exp": None}, id="for ever"),
        pytest.param({"nbf": 600}, id="not yet good"),
        pytest.param({"sub": None}, id="of nobody"),
    ],
)
def test_wrong_claims(changed: dict[str, object]) -> None:
    with pytest.raises(TokenRejected):
        verify(OURS.sign(claims(**changed), "RS256"))


def other_key() -> str:
    kid = OURS.kids["RS256"]
    THEIRS.kids["RS256"] = kid
    return THEIRS.sign(claims(), "RS256")


def public_key_as_password() -> str:
    public = next(key for key in OURS.published()["keys"] if key["alg"] == "RS256")["n"]
    return jwt.encode(claims(), public, algorithm="HS256", headers={"kid": OURS.kids["RS256"]})


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(OURS.sign(claims(), "none"), id="unsigned"),
        pytest.param(other_key(), id="signed by somebody else under our key's name"),
        pytest.param(SigningKeys().sign(claims(), "ES256"), id="unknown key"),
        pytest.param(public_key_as_password(), id="HMAC with the public key"),
        pytest.param(OURS.sign(claims(), "RS256")[:-8] + "AAAAAAAA", id="broken signature"),
        pytest.param("", id="nothing"),
        pytest.param("a.b.c", id="no JWT"),
    ],
)
def test_wrong_signatures(token: str) -> None:
    with pytest.raises(TokenRejected):
        verify(token)


def test_rejection_says_no_values() -> None:
    with pytest.raises(TokenRejected) as caught:
        verify(OURS.sign(claims(nonce="secret-nonce"), "RS256"))
    assert "secret-nonce" not in str(caught.value)
