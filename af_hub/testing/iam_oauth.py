"""OAuth as the demo IAM takes it: clients, scopes, requests, grants, and what is wrong with a request. Pure but for reading the two files."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
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
SCIM_READ = "scim:read"
"""Only for clients whose admin allowed it."""

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANTS = ("authorization_code", "refresh_token", "client_credentials", EXCHANGE_GRANT, DEVICE_GRANT)


class Fault(Exception):
    """An answer of RFC 6749, section 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


@dataclass(frozen=True)
class DemoClient:
    """A program that may ask; redirect URIs are compared whole.

    Parameters
    ----------
    reuse_refresh_tokens
        A refresh gives no new refresh token, as IAM's box of that name says; it is ticked for clients that registered themselves.
    upscoping
        A token of this client may be exchanged for any scope of the client, not only for the token's own.
    """

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = SCOPES
    post_logout_redirect_uris: tuple[str, ...] = ()
    grants: tuple[str, ...] = GRANTS
    reuse_refresh_tokens: bool = False
    upscoping: bool = True


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
    before: str = field(default="", repr=False)
    rotated_at: float = 0.0


def is_within(scope: str, allowed: Iterable[str]) -> bool:
    """Whether one of ``allowed`` covers ``scope``: the same, its groups, or a path below (WLCG profile 1.0, sections 2.2.1 and 2.2.2)."""
    name, _, path = scope.partition(":")
    for one in allowed:
        if scope == one or (name, one) == ("wlcg.groups", "wlcg.groups"):
            return True
        if name.startswith("storage.") and one.startswith(f"{name}:/"):
            above = one.removeprefix(f"{name}:").rstrip("/")
            if (path == above or path.startswith(above + "/")) and ".." not in path.split("/"):
                return True
    return False


def check_scopes(wanted: Iterable[str], allowed: Iterable[str], whose: str) -> None:
    """Raise ``invalid_scope`` when something is wanted that is not within what ``whose`` may have."""
    allowed = tuple(allowed)
    if extra := sorted(scope for scope in set(wanted) if not is_within(scope, allowed)):
        raise Fault("invalid_scope", f"{whose} may not ask for {' '.join(extra)}")


def read_request(asked: Mapping[str, str], client: DemoClient, until: float) -> Request:
    """An authorization request, checked after client and redirect URI are known to be good."""
    scopes = tuple(asked.get("scope", "").split())
    if asked.get("response_type") != "code":
        raise Fault("unsupported_response_type", "only response_type=code is offered")
    if "openid" not in scopes:
        raise Fault("invalid_scope", "the scope openid is needed")
    check_scopes(scopes, client.scopes, "this client")
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
    except ValueError as error:  # no Base64, or no text in it
        raise Fault("invalid_client", "the Authorization header cannot be read", 401) from error
    return unquote_plus(client_id), unquote_plus(secret)


def read_client(found: Mapping[str, Any]) -> DemoClient:
    """One client of the file."""
    known = {one.name for one in fields(DemoClient)}
    if unknown := sorted(set(found) - known):
        raise ValueError(f"found {', '.join(unknown)} in a client, wanted some of {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return DemoClient(**given)


def read_clients(path: Path) -> list[DemoClient]:
    """Clients from a JSON list; refuses a file that others can read."""
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} holds client secrets, but others can read it; set its mode to 0600")
    return [read_client(client) for client in json.loads(path.read_text())]


def read_users(path: Path) -> list[DemoUser]:
    """Users from a YAML list of ``{username, subject, name, email, groups, about, active, signed}``."""
    return [
        DemoUser(**{**user, "groups": tuple(user.get("groups") or ())}) for user in yaml.safe_load(path.read_text())
    ]
