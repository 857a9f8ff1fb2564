"""What the demo IAM must not forget when it is started anew: its signing keys and the refresh tokens that it gave.

One file of mode 0600, written whole before an answer goes out that depends on it. Logins that are under way are not in it: whoever
is at the login page then begins again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from af_hub.files import write_private
from af_hub.testing.iam_oauth import DemoClient, Grant
from af_hub.testing.iam_tokens import SigningKeys

Grants = dict[str, Grant]
"""Each grant, under every refresh token that it ever had."""


def read_state(path: Path | None, clients: Mapping[str, DemoClient]) -> tuple[SigningKeys, Grants]:
    """What the file holds; new keys when there is none. A client that is gone takes its grants along."""
    if path is None or not path.exists():
        return SigningKeys(), {}
    found = json.loads(path.read_text())
    grants: Grants = {}
    for family in found["grants"]:
        if family["client"] in clients:
            grants |= dict.fromkeys(family["tokens"], _grant(family, clients))
    return SigningKeys(found["keys"]), grants


def write_state(path: Path, keys: SigningKeys, grants: Grants) -> None:
    """Write it down."""
    families: dict[int, tuple[Grant, list[str]]] = {}
    for token, grant in grants.items():
        families.setdefault(id(grant), (grant, []))[1].append(token)
    written = [_as_json(grant, tokens) for grant, tokens in families.values()]
    write_private(path, json.dumps({"keys": keys.dump(), "grants": written}))


def _as_json(grant: Grant, tokens: list[str]) -> dict[str, Any]:
    plain = {"username": grant.username, "scopes": grant.scopes, "good": grant.good, "revoked": grant.revoked}
    return {**plain, "client": grant.client.client_id, "tokens": tokens}


def _grant(family: Mapping[str, Any], clients: Mapping[str, DemoClient]) -> Grant:
    client, scopes = clients[family["client"]], tuple(family["scopes"])
    return Grant(client, family["username"], scopes, family["good"], family["revoked"])
