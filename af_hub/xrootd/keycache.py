"""An issuer's public keys, put where XRootD's SciTokens library looks before it asks the issuer.

Serves the hop "data". The library asks an issuer by HTTPS at the address that its tokens name, and trusts the system's authorities; where
that cannot be (a demo on loopback, an IAM behind a private authority, a server that may not connect out) somebody else has to bring the
keys. Promises: a key set is replaced in one transaction, while daemons read; it holds for the next token. HTTP and time are for
:mod:`af_hub.xrootd.watch`.

Source: scitokens-cpp, ``src/scitokens_cache.cpp`` (1.1.3 of Debian 13): ``$XDG_CACHE_HOME/scitokens/scitokens_cpp.sqllite``, one row an issuer,
JSON of ``jwks``, ``next_update`` (from when on the issuer is asked) and ``expires`` (until when its silence is borne), in Unix seconds.
After ``next_update`` the tokens of an issuer that cannot be reached are refused at once, so both are the same here.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from af_hub.files import private_folder

BUSY_SECONDS = 10
TABLE = "CREATE TABLE IF NOT EXISTS keycache (issuer text UNIQUE PRIMARY KEY NOT NULL,keys text NOT NULL)"


def write_keys(folder: Path, issuer: str, jwks: dict[str, Any], until: float) -> None:
    """Have the daemon whose ``XDG_CACHE_HOME`` is ``folder`` take these keys for those of the issuer.

    Parameters
    ----------
    jwks
        The whole key set (RFC 7517); keys that are not in it count no longer.
    until
        Unix seconds; from then on the daemon asks the issuer itself.
    """
    row = json.dumps({"jwks": jwks, "expires": int(until), "next_update": int(until)})
    database = private_folder(folder / "scitokens") / "scitokens_cpp.sqllite"
    with closing(sqlite3.connect(database, timeout=BUSY_SECONDS)) as connection, connection:
        connection.execute(TABLE)
        connection.execute("INSERT OR REPLACE INTO keycache VALUES (?, ?)", (issuer, row))
