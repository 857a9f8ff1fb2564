"""Files that nobody else may read, and files that are watched: what every process does the same way.

Promises: a private file is never readable by others, not even while it is made, and is whole or as before; nothing of a failed
write is left. Leaves to the caller what is in it.
"""

import os
import secrets
from pathlib import Path
from typing import BinaryIO

Stamp = tuple[int, int, int] | None


def private_folder(path: Path) -> Path:
    """Make the folder where there is none, with those above it; its owner alone may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: bytes | str, mode: int = 0o600) -> Path:
    """Give the file this content in one step (rename in the same folder); never with more rights than ``mode``."""
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
        raise
    return path


def open_log(path: Path) -> BinaryIO:
    """A log file to append to, made with mode 0600."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def stamp(path: Path) -> Stamp:
    """What changes when a file does; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
