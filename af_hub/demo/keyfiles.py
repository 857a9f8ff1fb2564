"""Where keys and tokens lie below a folder: everything that looks like one must be readable by its owner only."""

import re
from collections.abc import Iterator
from pathlib import Path

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
# Header and payload of a JSON Web Token (RFC 7519): two base64url texts of JSON objects, and a signature.
JWT = re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}")
LARGEST = 4 * 2**20


def secret_files(folder: Path) -> Iterator[Path]:
    """Files below ``folder`` that hold a private key or a token."""
    for path in folder.rglob("*"):
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
                continue
            content = path.read_bytes()
        except OSError:
            continue  # taken away while we looked
        if PRIVATE_KEY.search(content) or JWT.search(content):
            yield path


def readable_keys(folder: Path) -> list[Path]:
    """Those of :func:`secret_files` that group or others may read."""
    found = []
    for path in secret_files(folder):
        try:
            if path.stat().st_mode & 0o077:
                found.append(path)
        except OSError:
            continue
    return found
