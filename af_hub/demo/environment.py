"""A Python environment made from a lock file by pip: whole or not there, with progress, and a sentence when it cannot be made.

Serves set-up: the checkout's ``.venv`` and the images. ``make`` runs ``python -m af_hub.demo.environment FOLDER LOCK`` before anything
is installed, so what this module imports needs the standard library only. A folder without its marker is made anew; two who want
the same one wait for each other. Leaves to pip that every file has the hash that the lock file names.
"""

import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.session.processes import die_with
from af_hub.testing.debian import Progress, locked

MARKER, PROJECT_MARKER = "lock.sha256", "project.sha256"
PIP_SECONDS = 1800
SAY_SECONDS = 15
VENV = ["-m", "venv"]
# Without --quiet pip says what it does, a line a package; we count them.
PIP = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--retries", "2"]
INTERRUPTED = 130
AS_GOOD_AS_NONE = 5_000_000

# What pip says, and what that means.
NO_NETWORK = re.compile(
    r"NewConnectionError|name resolution|Network is unreachable|Connection refused|ConnectTimeout|ReadTimeout|ProxyError"
)
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")
OTHER_FILE = re.compile(r"DO NOT MATCH THE HASHES")


# --- decides ---------------------------------------------------------------------------------------------------------


@dataclass
class Count:
    """How far pip is, by the lines that it has printed."""

    wanted: int
    got: int = 0
    installs: bool = False
    waits: bool = False

    def take(self, line: str) -> None:
        """Note one line of pip's."""
        self.waits = "Retrying" in line
        self.got += line.startswith("Collecting ")
        self.wanted -= line.startswith("Ignoring ")
        self.installs |= line.startswith("Installing collected packages")

    def sentence(self) -> str:
        """What to tell whoever waits."""
        if self.waits:
            return "the package index does not answer; trying again"
        if self.installs:
            return f"installing {self.got} packages"
        return f"{self.got} of {self.wanted} packages are there"


def why_it_failed(output: str, folder: Path, free: Iterable[tuple[Path, int]]) -> str:
    """A sentence from what venv or pip printed; ``free`` is the bytes that are free at the places where they write."""
    free = list(free)
    # venv keeps to itself what happened to its own pip.
    if NO_SPACE.search(output) or any(size < AS_GOOD_AS_NONE for _, size in free):
        places = ", ".join(f"{path} has {size / 1e6:.0f} MB" for path, size in free)
        return f"a disk got full while {folder} was made ({places} free); an environment needs about 1000 MB: free some there"
    if NO_NETWORK.search(output):
        return (
            "pip reaches no package index. Is this machine online? If it needs a proxy, set https_proxy; "
            "if it has an index of its own, set PIP_INDEX_URL"
        )
    if OTHER_FILE.search(output):
        return "a package that pip got is not the one that the lock file names: try again, or use another package index"
    return "venv or pip failed:\n" + "\n".join(output.strip().splitlines()[-6:])


def made_of(lock: Path, settings: bytes = b"") -> str:
    """What the marker of an environment says that was made of this lock file, by this Python."""
    return hashlib.sha256(lock.read_bytes() + settings + sys.version.encode()).hexdigest()


def is_whole(folder: Path, lock: Path, settings: bytes = b"") -> bool:
    """Whether the environment is there, all of it and as the lock file says now."""
    marker = folder / MARKER
    return marker.is_file() and marker.read_text() == made_of(lock, settings)


# --- acts ------------------------------------------------------------------------------------------------------------


def make_environment(
    folder: Path,
    lock: Path,
    say: Progress,
    settings: bytes = b"",
    finish: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Have the environment; returns at once when it is whole.

    Parameters
    ----------
    settings
        What else is in it: when this differs, it is made anew.
    finish
        Called with the folder when all packages are installed.

    Raises
    ------
    Unavailable
        When it cannot be made; the message says why. Nothing of it is left.
    """
    if is_whole(folder, lock, settings):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_file(folder), say):
            if not is_whole(folder, lock, settings):
                _make(folder, lock, say, finish)
                (folder / MARKER).write_text(made_of(lock, settings))
    except OSError as error:
        raise Unavailable(f"{folder} cannot be made: {error.strerror or error}") from error


def install_project(folder: Path, project: Path, say: Progress) -> None:
    """Install a checkout into the environment, so that its commands and plugins are there and follow its files.

    Raises
    ------
    Unavailable
        When pip fails; the message says why.
    """
    wanted = hashlib.sha256((project / "pyproject.toml").read_bytes()).hexdigest()
    marker = folder / PROJECT_MARKER
    with locked(lock_file(folder), say):
        if not marker.is_file() or marker.read_text() != wanted:
            _pip(folder, ["--no-deps", "--no-build-isolation", "--editable", str(project)], Count(1), say)
            marker.write_text(wanted)


def lock_file(folder: Path) -> Path:
    """What is held while somebody makes the environment: ``.venv.lock`` beside ``.venv``."""
    return folder.with_name(f".{folder.name.lstrip('.')}.lock")


def _make(folder: Path, lock: Path, say: Progress, finish: Callable[[Path], None]) -> None:
    say("making it from its lock file ...")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        made = subprocess.run([sys.executable, *VENV, str(folder)], capture_output=True, text=True)
        if made.returncode:
            raise Unavailable(why_it_failed(made.stdout + made.stderr, folder, _free(folder.parent)))
        wanted = len(re.findall(r"(?m)^[A-Za-z0-9]", lock.read_text()))
        _pip(folder, ["--require-hashes", "-r", str(lock)], Count(wanted), say)
        finish(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    say("ready")


def _pip(folder: Path, arguments: list[str], count: Count, say: Progress) -> None:
    """Run pip to its end, saying now and then how far it is."""
    argv = [str(folder / "bin/python"), *PIP, *arguments]
    # SIGINT lets pip take its temporary files away, should we be killed.
    in_child = partial(die_with, os.getpid(), signal.SIGINT)
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=in_child
    ) as pip:
        try:
            output = _follow(pip, count, say)
        except BaseException:
            pip.send_signal(signal.SIGINT)
            raise
    if pip.returncode:
        raise Unavailable(why_it_failed(output, folder, _free(folder.parent)))


def _follow(pip: "subprocess.Popen[bytes]", count: Count, say: Progress) -> str:
    """All that pip prints until it closes its output."""
    assert pip.stdout is not None
    output, rest = b"", b""
    began = said = time.monotonic()
    while True:
        readable, _, _ = select.select([pip.stdout], [], [], 1)
        chunk = os.read(pip.stdout.fileno(), 65536) if readable else None
        if chunk == b"":
            return output.decode(errors="replace")
        output += chunk or b""
        *lines, rest = (rest + (chunk or b"")).split(b"\n")
        for line in lines:
            count.take(line.decode(errors="replace"))
        now = time.monotonic()
        if now - began > PIP_SECONDS:
            raise Unavailable(f"pip took more than {PIP_SECONDS} s")
        if now - said > SAY_SECONDS:
            said = now
            say(count.sentence())


def _free(checkout: Path) -> list[tuple[Path, int]]:
    """Where pip writes, and what is free there, each disk once."""
    places = [checkout, Path(tempfile.gettempdir())]
    return list({path.stat().st_dev: (path, shutil.disk_usage(path).free) for path in reversed(places)}.values())


def main(arguments: list[str]) -> int:
    """``FOLDER LOCK`` makes an environment; ``FOLDER --editable PROJECT`` installs the project into it."""
    folder, what = Path(arguments[0]).absolute(), arguments[1]
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {folder.name}: {text}", file=sys.stderr, flush=True)

    try:
        if what == "--editable":
            install_project(folder, Path(arguments[2]), say)
        else:
            make_environment(folder, Path(what), say)
    except Unavailable as error:
        say(f"cannot be had: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; nothing half-made is left")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
