"""Attacks on id tokens that are known by name: each header that a verifier may be talked into believing, each mix-up of algorithms."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from af_hub.errors import TokenRejected, Unavailable
from af_hub.iam.discovery import read_keys
from af_hub.iam.idtoken import key_id, verify_id_token
from af_hub.testing.iam_tokens import SigningKeys

OURS = SigningKeys()
PUBLISHED = read_keys(OURS.published())
RSA, EC = OURS.kids["RS256"], OURS.kids["ES256"]
ISSUER = "https://iam.af-hub.test/"
EVIL = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EVIL_JWK = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(EVIL.public_key()))


def claims(**changed: object) -> dict[str, object]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": "hub", "sub": "s", "nonce": "n", "iat": now, "exp": now + 600, **changed}


def verify(token: str) -> dict[str, Any]:
    key = PUBLISHED.get(key_id(token))
    if key is None:
        raise TokenRejected("unknown key")
    return verify_id_token(token, key, ISSUER, "hub", "n")


def pack(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def made(header: dict[str, object], sign: Callable[[bytes], bytes]) -> str:
    """A token with any header, which libraries would not write."""
    signed = f"{pack(json.dumps(header).encode())}.{pack(json.dumps(claims()).encode())}"
    return f"{signed}.{pack(sign(signed.encode()))}"


def evil(content: bytes) -> bytes:
    """Signed with the attacker's own key."""
    return jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(content, EVIL)


def public_forms() -> list[bytes]:
    """Every way to write our public RSA key, any of which might be taken for a password."""
    key = PUBLISHED[RSA].key
    forms = [
        key.public_bytes(encoding, form)
        for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
        for form in (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1)
    ]
    published = next(one for one in OURS.published()["keys"] if one["kid"] == RSA)
    return [*forms, json.dumps(published).encode(), published["n"].encode(), b""]


@pytest.mark.parametrize("password", public_forms(), ids=["PEM", "PEM PKCS1", "DER", "DER PKCS1", "JWK", "n", "empty"])
@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_public_key_is_no_password(password: bytes, algorithm: str) -> None:
    with pytest.raises(TokenRejected):
        verify(
            made({"alg": algorithm, "kid": RSA}, lambda content: hmac.new(password, content, hashlib.sha256).digest())
        )


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"jwk": EVIL_JWK}, id="brings its key along"),
        pytest.param({"jku": "https://evil.test/jwk"}, id="says where its keys are"),
        pytest.param({"x5u": "https://evil.test/cert"}, id="says where its certificate is"),
        pytest.param({"x5c": ["MIIB"]}, id="brings its certificate along"),
        pytest.param({"kid": "../../../../dev/null"}, id="kid is a path"),
        pytest.param({"kid": "' UNION SELECT 'x"}, id="kid is SQL"),
        pytest.param({"kid": "https://evil.test/jwk"}, id="kid is an address"),
        pytest.param({"kid": [RSA]}, id="kid is a list"),
        pytest.param({"kid": {"kid": RSA}}, id="kid is an object"),
        pytest.param({"kid": None}, id="kid is null"),
        pytest.param({"kid": RSA + "\x00"}, id="kid ends early"),
        pytest.param({"kid": EC}, id="kid of a key of another kind"),
        pytest.param({"alg": "none"}, id="none"),
        pytest.param({"alg": "None"}, id="None"),
        pytest.param({"alg": "nOnE"}, id="nOnE"),
        pytest.param({"alg": ["RS256"]}, id="a list of algorithms"),
        pytest.param({"alg": "RS512"}, id="an algorithm that we do not take"),
        pytest.param({"alg": "PS256"}, id="another padding"),
        pytest.param({"alg": "RSA-OAEP", "enc": "A256GCM"}, id="encrypted"),
        pytest.param({"crit": ["exp"], "exp": 1}, id="critical"),
        pytest.param({"b64": False, "crit": ["b64"]}, id="not packed"),
    ],
)
@pytest.mark.parametrize("signature", ["evil", "none"])
def test_header_is_not_believed(header: dict[str, object], signature: str) -> None:
    sign = evil if signature == "evil" else lambda content: b""
    with pytest.raises(TokenRejected):
        verify(made({"alg": "RS256", "kid": RSA, "typ": "JWT", **header}, sign))


@pytest.mark.parametrize("kid, algorithm", [(RSA, "ES256"), (EC, "RS256")], ids=["RSA as ES256", "EC as RS256"])
def test_key_of_one_kind_verifies_no_other(kid: str, algorithm: str) -> None:
    signed = OURS.sign(claims(), algorithm).split(".")
    header = pack(json.dumps({"alg": algorithm, "kid": kid, "typ": "JWT"}).encode())
    with pytest.raises(TokenRejected):
        verify(".".join([header, *signed[1:]]))


def test_elliptic_signature_of_zeros() -> None:
    """CVE-2022-21449: r = s = 0 fits every key where nobody looks."""
    with pytest.raises(TokenRejected):
        verify(made({"alg": "ES256", "kid": EC}, lambda content: bytes(64)))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"iss": ISSUER + "\x00"}, id="issuer ends early"),
        pytest.param({"iss": ISSUER.upper()}, id="issuer in capitals"),
        pytest.param({"aud": ["HUB"]}, id="audience in capitals"),
        pytest.param({"aud": {"hub": 1}}, id="audience is an object"),
        pytest.param({"aud": []}, id="no audience in the list"),
        pytest.param({"aud": ["hub", 5]}, id="audience is a number"),
        pytest.param({"azp": ["hub"]}, id="made for a list"),
        pytest.param({"sub": 5}, id="subject is a number"),
        pytest.param({"sub": None}, id="subject is null"),
        pytest.param({"nonce": ["n"]}, id="nonces in a list"),
        pytest.param({"nonce": ""}, id="empty nonce"),
        pytest.param({"exp": "9999999999x"}, id="end is a text"),
        pytest.param({"exp": float("nan")}, id="end is no number"),
        pytest.param({"exp": None}, id="end is null"),
        pytest.param({"iat": 9999999999}, id="issued in the future"),
        pytest.param({"nbf": "never"}, id="not before is a text"),
    ],
)
def test_odd_claims_that_are_well_signed(changed: dict[str, object]) -> None:
    with pytest.raises(TokenRejected):
        verify(OURS.sign(claims(**changed), "RS256"))


@given(
    st.text(max_size=30)
    | st.lists(st.text(max_size=12), min_size=3, max_size=5).map(".".join)
    | st.binary(max_size=40).map(pack)
)
@settings(max_examples=60, deadline=None)
def test_whatever_else_is_rejected(token: str) -> None:
    with pytest.raises(TokenRejected):
        verify(token)


header_values = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=4), max_size=2)
)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "zip", "b64", "x5t"]), header_values, max_size=4
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_header_says_is_rejected(header: dict[str, object]) -> None:
    with pytest.raises(TokenRejected):
        verify(made({"alg": "RS256", "kid": RSA, **header}, evil))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"kty": "oct", "k": pack(b"password" * 4), "alg": "HS256"}, id="a password"),
        pytest.param({"use": "enc"}, id="for encryption"),
        pytest.param({"kid": 5}, id="kid is a number"),
        pytest.param({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "HS256"}, id="an RSA key for HMAC"),
    ],
)
def test_key_set_with_keys_that_are_not_for_this(changed: dict[str, object]) -> None:
    with pytest.raises(Unavailable):
        read_keys({"keys": [{**EVIL_JWK, "kid": "evil", **changed}]})
