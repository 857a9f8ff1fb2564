"""Folders and files of a session where there are no pods: the person's home, and the session's own folder, gone when it ends."""

import hashlib
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from af_hub.errors import AFError
from af_hub.files import write_private
from af_hub.session.fragments import AGENT_SOCKET

PLAIN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._]|-(?!-)){0,62}\Z")
# unix(7): sun_path has 108 bytes, the last is a zero.
LONGEST_SOCKET_PATH = 107


class FolderUnusable(AFError):
    """A folder of ours cannot serve; the message names the setting."""


def safe_name(name: str) -> str:
    """A file name for a hub user's or server's name; two names never share one."""
    if PLAIN_NAME.match(name):
        return name
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30] or "x"
    return f"{readable}--{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def make_home(homes: Path, username: str, welcome: Path | None) -> Path:
    """The person's home, made at the first start, when ``welcome`` is copied into it."""
    home = homes / safe_name(username)
    if not home.is_dir():
        homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = homes / f".{safe_name(username)}.{secrets.token_hex(4)}"
        new.mkdir(mode=0o700)
        if welcome is not None:
            shutil.copyfile(welcome, new / welcome.name)
        new.rename(home)
    return home


def new_session_folder(run: Path) -> Path:
    """An empty folder, 0700, with a name that nobody can guess and that leaves room for a socket in it.

    Raises
    ------
    FolderUnusable
        When ``run`` is so long that the agent's socket would not fit into a socket address.
    """
    folder = run / secrets.token_hex(8)
    length = len(str(folder / AGENT_SOCKET).encode())
    if length > LONGEST_SOCKET_PATH:
        raise FolderUnusable(
            f"The session's socket would be {folder / AGENT_SOCKET}, {length} bytes long; Linux takes {LONGEST_SOCKET_PATH}. "
            "Give LocalAFSpawner.state_dir a shorter path."
        )
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    return folder


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """A fragment's files below the session's folder, each 0600."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, content)
