"""The key file: what seals the tokens in the keeper's database, one key of 32 bytes in hex a line, the first of which seals.

Keys are changed in three steps, none of which logs anybody out: :func:`rotate` puts a new key first, the hub is started anew and seals
everything with it (:meth:`af_hub.tokens.store.Store.reseal`), :func:`prune` drops the others when nothing needs them any more.
"""

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet

from af_hub.errors import PolicyError, Refused
from af_hub.files import write_private
from af_hub.tokens.store import Store

KEY = re.compile(r"[0-9a-fA-F]{64}\Z")


def new_key() -> str:
    """A key, as a line of the file."""
    return secrets.token_hex(32)


def fernet(key: bytes) -> Fernet:
    """What seals with a key of 32 bytes."""
    return Fernet(base64.urlsafe_b64encode(key))


def mark(key: str) -> str:
    """What a person may see of a key, to tell it from others."""
    return hashlib.sha256(bytes.fromhex(key)).hexdigest()[:8]


def read_keys(path: Path) -> list[str]:
    """The keys in the file.

    Raises
    ------
    PolicyError
        When there is none, or a line is no key, or others may read it.
    """
    try:
        found, mode = path.read_text().split(), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PolicyError(
            f"the key file {path} cannot be read ({cause}); `af-hub keys new --file {path}` makes one"
        ) from error
    if not found:
        raise PolicyError(f"the key file {path} is empty; remove it, and `af-hub keys new --file {path}` makes one")
    wrong = [number for number, key in enumerate(found, 1) if not KEY.match(key)]
    if wrong:
        raise PolicyError(f"{path}: key {wrong[0]} is no key; 64 hexadecimal digits were wanted")
    if mode & 0o077:
        raise PolicyError(f"{path} holds keys, but others can read it; set its mode to 0600")
    return found


def make(path: Path) -> str:
    """Make a key file with one key; hands back the key.

    Raises
    ------
    Refused
        When the file is there.
    """
    if path.exists():
        raise Refused(f"{path} is there already; `af-hub keys rotate` puts a new key into it")
    key = new_key()
    _write(path, [key])
    return key


def rotate(path: Path) -> str:
    """Put a new key first; the others go on opening what they sealed. Hands back the new key."""
    keys = [new_key(), *read_keys(path)]
    _as_its_owner(path)
    _write(path, keys)
    return keys[0]


def count(path: Path, database: Path) -> list[tuple[str, int]]:
    """How many logins each key of the file sealed in the database; at last, with an empty key, how many none of them opens."""
    keys = read_keys(path)
    if not database.exists():
        return [*((key, 0) for key in keys), ("", 0)]
    store = Store(database, [fernet(bytes.fromhex(key)) for key in keys])
    try:
        return list(zip([*keys, ""], store.sealed_by(), strict=True))
    finally:
        store.close()


def prune(path: Path, database: Path) -> list[str]:
    """Drop all keys but the first; hands back those that went.

    Raises
    ------
    Refused
        While another than the first still seals something, or nobody can know because the database is not there.
    """
    if not database.exists():
        raise Refused(
            f"There is no {database}, so nobody knows what is sealed with the older keys; name the keeper's database with --database "
            "or AF_HUB_RECORDS."
        )
    counted = count(path, database)
    first, *others = [key for key, _ in counted if key]
    needed = [(key, logins) for key, logins in counted[1:] if key and logins]
    if needed:
        told = ", ".join(f"{mark(key)}: {logins}" for key, logins in needed)
        raise Refused(
            f"Logins are still sealed with older keys ({told}). Start the hub anew, which seals them with {mark(first)}, then try again."
        )
    if others:
        _as_its_owner(path)
        _write(path, [first])
    return others


def _as_its_owner(path: Path) -> None:
    """A file that is written anew belongs to who wrote it: the hub could read it no more."""
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise Refused(f"{path} belongs to uid {owner}, and this is uid {os.geteuid()}; run this as the hub's user")


def _write(path: Path, keys: Sequence[str]) -> None:
    try:
        write_private(path, "".join(f"{key}\n" for key in keys))
    except OSError as error:
        raise PolicyError(
            f"the key file {path} cannot be written ({error.strerror}); its folder must be there, and belong to the hub's user"
        ) from error
