"""OAuth as the demo IAM takes it: clients, requests, grants, and what is wrong with a request. Pure but for reading the two files."""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import yaml

from af_hub.testing.iam_tokens import DemoUser

SCOPES = (
    "openid",
    "profile",
    "email",
    "offline_access",
    "wlcg",
    "iam",
    "wlcg.groups",
    "compute.read",
    "compute.modify",
    "compute.create",
    "compute.cancel",
    "storage.read:/",
)


class Fault(Exception):
    """An answer of RFC 6749, section 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


@dataclass(frozen=True)
class DemoClient:
    """A program that may ask; redirect URIs are compared whole."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = SCOPES


@dataclass(frozen=True)
class Request:
    """What somebody was asked to log in for; becomes a code."""

    client: DemoClient
    redirect_uri: str
    scopes: tuple[str, ...]
    state: str
    nonce: str
    challenge: str
    until: float
    user: DemoUser | None = None


@dataclass
class Grant:
    """A family of refresh tokens: one is good, any older one betrays a thief."""

    client: DemoClient
    username: str
    scopes: tuple[str, ...]
    good: str = field(repr=False)
    revoked: bool = False


def read_request(asked: Mapping[str, str], client: DemoClient, until: float) -> Request:
    """An authorization request, checked after client and redirect URI are known to be good."""
    scopes = tuple(asked.get("scope", "").split())
    if asked.get("response_type") != "code":
        raise Fault("unsupported_response_type", "only response_type=code is offered")
    if "openid" not in scopes:
        raise Fault("invalid_scope", "the scope openid is needed")
    if extra := sorted(set(scopes) - set(client.scopes)):
        raise Fault("invalid_scope", f"this client may not ask for {' '.join(extra)}")
    if asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43:
        raise Fault("invalid_request", "PKCE with code_challenge_method=S256 is needed")
    state, nonce, challenge = asked.get("state", ""), asked.get("nonce", ""), asked["code_challenge"]
    return Request(client, asked["redirect_uri"], scopes, state, nonce, challenge, until)


def challenge_of(verifier: str) -> str:
    """RFC 7636, section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def client_credentials(authorization: str, form: Mapping[str, str]) -> tuple[str, str]:
    """Id and secret from the header (``client_secret_basic``) or the form (``client_secret_post``)."""
    if not authorization:
        return form.get("client_id", ""), form.get("client_secret", "")
    kind, _, packed = authorization.partition(" ")
    try:
        client_id, _, secret = base64.b64decode(packed if kind == "Basic" else "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Fault("invalid_client", "the Authorization header cannot be read", 401) from error
    return unquote_plus(client_id), unquote_plus(secret)


def read_client(found: Mapping[str, Any]) -> DemoClient:
    """One client of the file."""
    redirect_uris, scopes = tuple(found.get("redirect_uris", ())), tuple(found.get("scopes", SCOPES))
    return DemoClient(found["client_id"], found["client_secret"], redirect_uris, scopes)


def read_clients(path: Path) -> list[DemoClient]:
    """Clients from a JSON list; refuses a file that others can read."""
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} holds client secrets, but others can read it; set its mode to 0600")
    return [read_client(client) for client in json.loads(path.read_text())]


def read_users(path: Path) -> list[DemoUser]:
    """Users from a YAML list of ``{username, subject, name, email, groups, about}``."""
    return [
        DemoUser(**{**user, "groups": tuple(user.get("groups") or ())}) for user in yaml.safe_load(path.read_text())
    ]
