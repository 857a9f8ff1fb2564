"""Files that nobody else may read, and files that are watched: what every process does the same way.

Promises: a private file is never readable by others, not even while it is made, and is whole or as before; nothing of a failed
write is left. Leaves to the caller what is in it.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

Stamp = tuple[int, int, int, int] | None

REST_SECONDS = 1.0
"""How long nobody may have written to a watched file before it is read."""


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


def make_way(path: Path) -> None:
    """Remove what is in the place of a file of ours, be it a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_log(path: Path) -> BinaryIO:
    """A log file to append to, made with mode 0600."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def stamp(path: Path) -> Stamp:
    """What changes when a file does; None while it is not there."""
    try:
        return _stamp_of(path.stat())
    except OSError:
        return None


def _stamp_of(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


class RestingFile:
    """A file that people edit, read again when it has changed and nobody writes to it any more.

    Editors save in different ways: a new file put in the old one's place, or the old one emptied and written. What is read in between
    may be empty or half, and half a file may well be a valid one. So a change counts when the file has rested for a second: by its own
    time of change, or, where another machine's clock sets that, by ours.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._taken: Stamp = (0, 0, 0, 0)
        self._content: bytes | None = None
        self._seen: Stamp = (0, 0, 0, 0)
        self._seen_at = 0.0

    def first(self) -> bytes:
        """What is in it now, whoever writes to it; OSError when it cannot be read. The next look reads it once more."""
        self._content = self.path.read_bytes()
        return self._content

    def news(self) -> bytes | None:
        """What is in it, when that is something new, told once; None else. OSError, once, when it can be read no longer."""
        found = stamp(self.path)
        if found == self._taken:
            return None
        if found != self._seen:
            self._seen, self._seen_at = found, self._clock()
        if not self._rested(found):
            return None
        try:
            with self.path.open("rb") as file:
                content, read = file.read(), _stamp_of(os.fstat(file.fileno()))
        except OSError:
            self._taken, self._content = found, None
            raise
        if not (read == found == stamp(self.path)):  # somebody wrote while we read, or put another in its place
            return None
        self._taken = found
        if content == self._content:
            return None
        self._content = content
        return content

    def _rested(self, found: Stamp) -> bool:
        now = self._clock()
        by_itself = found is not None and now - max(found[0], found[3]) / 10**9 >= REST_SECONDS
        return by_itself or now - self._seen_at >= REST_SECONDS
