"""What must not be seen, and a search that finds it in whatever form: text, percent-encoded, base64, or cut short."""

import base64
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import httpx
import jwt
from cryptography.fernet import Fernet, InvalidToken

from af_hub.demo.keyfiles import JWT, PRIVATE_KEY
from af_hub.testing.hub import RealHub
from af_hub.testing.iam import DemoIAM
from af_hub.tokens.keys import fernet

SEALED = re.compile(rb"gAAAA[A-Za-z0-9_-]{60,}={0,2}")
SECRET_KEYS = {"token", "access_token", "refresh_token", "secret", "client_secret", "auth_state", "password", "code"}
OURS = re.compile("/hub/(api/af/|oauth|log|af/refused)")
"""Routes that never fail; some of JupyterHub 6.1.1 do, such as ``authorizations/token`` without a token."""

SHOWN = 14
"""So many characters of a secret's beginning or end are enough to know it by."""


@cache
def forms(secret: str) -> frozenset[bytes]:
    """The ways in which a text may stand somewhere; cut short where it is long, since logs cut."""
    raw = secret.encode()
    packed = [base64.b64encode(raw[start:]).rstrip(b"=")[2:-2] for start in range(3)]
    texts = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], raw.hex()}
    ends = {end.encode() for text in texts for end in (text[:SHOWN], text[-SHOWN:])}
    return frozenset(ends | {form for form in packed if len(form) > SHOWN})


@dataclass
class Secrets:
    """Named secrets of one facility, and the keys that open what is sealed."""

    named: dict[str, str] = field(default_factory=dict, repr=False)
    keys: list[Fernet] = field(default_factory=list, repr=False)
    iam: DemoIAM | None = None

    def add(self, name: str, secret: str) -> str:
        """One more; hands it back."""
        assert len(secret) >= SHOWN, name
        self.named[name] = secret
        return secret

    def all(self) -> dict[str, str]:
        """By name, with everything that the IAM has given by now."""
        given = self.iam.refresh_tokens() if self.iam else ()
        return {**self.named, **{f"refresh token {number}": token for number, token in enumerate(given)}}

    def within(self, content: bytes, mine: Iterable[str] = (), subject: str = "") -> list[str]:
        """The names of those that stand in ``content``.

        Parameters
        ----------
        mine
            Names of secrets that may be there.
        subject
            Whose signed tokens may be there; nobody's when empty.
        """
        found = [
            name
            for name, secret in self.all().items()
            if name not in mine and any(form in content for form in forms(secret))
        ]
        if PRIVATE_KEY.search(content):
            found.append("a private key")
        for match in JWT.finditer(content):
            claims = jwt.decode(match[0], options={"verify_signature": False})
            if not subject or claims.get("sub") != subject:
                found.append(f"a token of {claims.get('sub')}")
        for match in SEALED.finditer(content):
            opened = self.opened(match[0])
            found.append("something sealed" + (f", in it {self.within(opened)}" if opened else ""))
        return found

    def opened(self, sealed: bytes) -> bytes:
        """What a key of the hub makes of it; nothing when none opens it."""
        for key in self.keys:
            try:
                return key.decrypt(sealed)
            except InvalidToken:
                continue
        return b""


def secrets_of(hub: RealHub, iam: DemoIAM) -> Secrets:
    """Those that a hub begins with."""
    plan = hub.plan
    keys = (plan.folder / "crypt_key").read_text().split()
    found = Secrets(keys=[fernet(bytes.fromhex(key)) for key in keys], iam=iam)
    for name in ("iam_client_secret", "controller_token", "proxy_password"):
        found.add(name, (plan.folder / name).read_text().strip())
    found.add("cookie secret", (plan.folder / "cookie_secret").read_text().strip())
    found.add("client's password", quote_plus(plan.client_id) + ":" + quote_plus(plan.client_secret))
    for number, key in enumerate(keys):
        found.add(f"key {number}", key)
    return found


def rows(database: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every row of every table."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            yield from ((table, dict(row)) for row in connection.execute(f'SELECT * FROM "{table}"'))  # noqa: S608


def cell(value: object) -> bytes:
    """What stands in a cell."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def texts(location: str) -> bytes:
    """An address as it is, and as it reads."""
    return location.encode() + b" " + unquote(location).encode(errors="replace")


def secret_keys(found: Any) -> Iterator[str]:
    """Keys of secrets that are not empty, in JSON of any depth."""
    if isinstance(found, dict):
        yield from (key for key, value in found.items() if key in SECRET_KEYS and value)
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            yield from secret_keys(one)


def meant(answer: httpx.Response) -> bool:
    """Whether the hub wanted to answer so: a 503 has a sentence."""
    if answer.status_code == 503 and answer.headers.get("Content-Type") == "application/json":
        return str(answer.json()["message"]).endswith(".")
    return answer.status_code < 500 or not OURS.match(answer.url.path)
