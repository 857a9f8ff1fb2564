"""Debian's signed packages in a folder, without root, on any Linux that has apt and Debian's keyring.

It serves the real daemons of tests and demo (HTCondor, XRootD). It promises that what it unpacks was signed by Debian's
archive keys, that a folder is whole or not there, and that nothing of a call that failed or was killed is left after the next one.

The archive's address comes from this machine's own apt sources, or from ``AF_DEBIAN_MIRROR``.
"""

import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.session.processes import die_with

Progress = Callable[[str], None]

# Suites of Debian's own archive; Ubuntu's and most vendors' have others.
RELEASES = frozenset(
    {"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid", "bookworm", "trixie", "forky"}
)
KEYRINGS = tuple(Path("/usr/share/keyrings") / f"debian-archive-keyring.{end}" for end in ("gpg", "pgp"))
PROGRAMS = ("apt-get", "dpkg-deb")
MARKER = ".complete"
UPDATE_SECONDS = 300
DOWNLOAD_SECONDS = 1200
UNPACK_SECONDS = 300
LOCK_SECONDS = 1800
# What apt and dpkg say of a disk and of a network.
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large|enough free space")
NO_NETWORK = re.compile(
    r"failure resolving|Could not resolve|Could not connect|Cannot initiate|onnection (?:timed out|refused|failed)|unreachable"
)


@dataclass(frozen=True)
class AptSource:
    """One entry of apt's sources: ``deb`` line or deb822 paragraph."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``af-hub`` under the user's cache (XDG base directory specification)."""
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "af-hub"


def read_deb_lines(text: str) -> Iterator[AptSource]:
    """The binary entries of a ``sources.list`` (sources.list(5), one-line style)."""
    for line in text.splitlines():
        entry = re.match(
            r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)", line
        )
        if entry:
            signed = re.search(r"signed-by=(\S+)", entry["options"] or "")
            components = tuple(entry["components"].split())
            yield AptSource(entry["uri"], (entry["suite"],), components, signed[1] if signed else "")


def read_deb822(text: str) -> Iterator[AptSource]:
    """The enabled binary entries of a ``*.sources`` file (sources.list(5), deb822 style)."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", lines):
        pairs = re.findall(r"(?m)^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", paragraph)
        fields = {name.lower(): value.split() for name, value in pairs}
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        signed = " ".join(fields.get("signed-by", []))
        for uri in fields.get("uris", []):
            yield AptSource(uri, tuple(fields.get("suites", [])), tuple(fields.get("components", [])), signed)


def choose_archive(sources: Iterable[AptSource]) -> str | None:
    """The address of Debian's archive among ``sources``, or None; never that of the security archive."""
    ours = [
        source
        for source in sources
        if "main" in source.components
        and RELEASES.intersection(source.suites)
        and "security" not in source.uri
        and not source.uri.startswith("cdrom:")
    ]
    ours.sort(key=lambda s: ("debian-archive" in s.signed_by, s.uri.rstrip("/").endswith("/debian")), reverse=True)
    return ours[0].uri if ours else None


def read_sources(etc: Path = Path("/etc/apt")) -> Iterator[AptSource]:
    """Every entry of this machine's apt sources, apt's own order."""
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            yield from read_deb_lines(path.read_text(errors="replace"))
        elif path.suffix == ".sources":
            yield from read_deb822(path.read_text(errors="replace"))


def find_archive(environ: Mapping[str, str] = os.environ, etc: Path = Path("/etc/apt")) -> str:
    """The address of a Debian archive: ``AF_DEBIAN_MIRROR``, else this machine's own.

    Raises
    ------
    Unavailable
        When there is neither.
    """
    archive = environ.get("AF_DEBIAN_MIRROR") or choose_archive(read_sources(etc))
    if not archive:
        raise Unavailable(
            f"{etc} names no Debian archive. Set AF_DEBIAN_MIRROR to the address of one near you (the folder that "
            "holds dists/), or AF_CONDOR_PREFIX to a folder whose usr/sbin holds condor_master."
        )
    return archive


def find_programs() -> None:
    """See that apt and dpkg are here.

    Raises
    ------
    Unavailable
        When one is not; the message is for people with another Linux too.
    """
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        raise Unavailable(
            f"{' and '.join(missing)} missing on this machine ({system_name()}). HTCondor and XRootD are Debian's packages, which "
            "apt-get fetches and dpkg-deb unpacks into your cache. On Debian and Ubuntu: apt install apt dpkg "
            "debian-archive-keyring. Many other Linuxes have packages apt, dpkg and Debian's keyring too; set AF_DEBIAN_MIRROR "
            "there. Else use a machine or a container with Debian; make test-fast needs none of this."
        )


def system_name() -> str:
    """What this Linux calls itself (os-release(5))."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()


def find_keyring() -> Path:
    """Debian's archive keys, against which apt checks what it gets."""
    for path in KEYRINGS:
        if path.exists():
            return path
    raise Unavailable(
        f"{KEYRINGS[0]} is missing; on Debian and Ubuntu it comes with: apt install debian-archive-keyring"
    )


def fetch(packages: Sequence[str], suite: str, into: Path, progress: Progress = lambda _: None) -> Path:
    """Have ``packages`` of ``suite`` with all they depend on unpacked in the folder ``into``, and return it.

    The second call with the same packages returns at once; ``into`` is replaced when they differ.

    Raises
    ------
    Unavailable
        When apt, dpkg or the archive cannot be had; the message says what to do.
    """
    wanted = json.dumps({"suite": suite, "packages": sorted(packages)})
    with whole_folder(into, wanted, progress) as building:
        if building:
            with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as apt:
                for package in download(packages, suite, Path(apt), progress):
                    run(["dpkg-deb", "-x", str(package), str(building)], UNPACK_SECONDS)
    return into


@contextmanager
def whole_folder(into: Path, wanted: str, progress: Progress = lambda _: None) -> Iterator[Path | None]:
    """Give a folder to fill, which becomes ``into`` when the block ends well; None when ``into`` holds ``wanted`` already.

    A lock beside ``into`` makes a second process wait for the first one's folder. What a killed process left, all that begins with
    ``.NAME-`` beside ``into``, is taken away.

    Raises
    ------
    Unavailable
        When the folder cannot be written.
    """
    marker = into / MARKER
    try:
        if marker.exists() and marker.read_text() == wanted:
            yield None
            return
        into.parent.mkdir(parents=True, exist_ok=True)
        with locked(into.parent / f".{into.name}.lock", progress):
            if marker.exists() and marker.read_text() == wanted:
                yield None
                return
            yield from _build(into, wanted)
    except OSError as error:
        raise Unavailable(
            f"{into} cannot be made ({error.strerror or error}); a folder that can be written is wanted, with 500 MB free: "
            "set XDG_CACHE_HOME to one"
        ) from error


def _build(into: Path, wanted: str) -> Iterator[Path]:
    for left in into.parent.glob(f".{into.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    building = Path(tempfile.mkdtemp(dir=into.parent, prefix=f".{into.name}-"))
    try:
        yield building
        (building / MARKER).write_text(wanted)
        building.chmod(0o755)
        shutil.rmtree(into, ignore_errors=True)
        building.rename(into)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file; waits for another process at most half an hour."""
    deadline, told = time.monotonic() + LOCK_SECONDS, False
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Unavailable(f"another process has held {path} for {LOCK_SECONDS} s") from error
                if not told:
                    progress("waiting for another process that gets the same packages")
                    told = True
                time.sleep(0.2)
        yield


def download(packages: Sequence[str], suite: str, folder: Path, progress: Progress) -> list[Path]:
    """Download and verify ``packages`` and all that they depend on, as if nothing were installed here."""
    find_programs()
    source = f"deb [signed-by={find_keyring()}] {find_archive()} {suite} main\n"
    for name in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "state"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    (folder / "sources.list").write_text(source)
    apt_get = ["apt-get", "-qq", "-y", *(f"-o{option}" for option in private_apt(folder))]
    progress(f"reading the package lists of Debian {suite}")
    run([*apt_get, "update"], UPDATE_SECONDS)
    progress(f"downloading {' '.join(packages)} of Debian {suite}")
    run([*apt_get, "--download-only", "install", *packages], DOWNLOAD_SECONDS)
    found = sorted((folder / "cache/archives").glob("*.deb"))
    progress(f"unpacking {len(found)} packages")
    return found


def private_apt(folder: Path) -> list[str]:
    """Options that keep apt to ``folder``; what the machine says about proxies stays in force."""
    return [
        f"Dir::Etc={folder}/etc",
        f"Dir::Etc::sourcelist={folder}/sources.list",
        "Dir::Etc::sourceparts=-",
        f"Dir::State={folder}/state",
        f"Dir::State::status={folder}/state/status",
        f"Dir::State::lists={folder}/lists",
        f"Dir::Cache={folder}/cache",
        "APT::Install-Recommends=false",
        "Acquire::Languages=none",
        "Acquire::Retries=3",
        "Acquire::http::Timeout=15",
        "APT::Sandbox::User=",
        "Debug::NoLocking=1",
        "APT::Update::Error-Mode=any",
    ]


def run(argv: Sequence[str], timeout: float) -> str:
    """Run a program for at most ``timeout`` seconds and return what it says; :class:`Unavailable` when it fails."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{argv[0]} could not finish: {error}") from error
    if done.returncode:
        raise Unavailable(why_it_failed(argv[0], done.returncode, (done.stderr or done.stdout).strip()))
    return done.stdout


def why_it_failed(program: str, status: int, output: str) -> str:
    """A sentence from what apt or dpkg printed; all of it when we do not know better."""
    if line := next((line for line in output.splitlines() if NO_SPACE.search(line)), None):
        return f"a disk got full ({line.strip()}); free 500 MB, or set XDG_CACHE_HOME to a folder on another disk"
    if line := next((line for line in output.splitlines() if NO_NETWORK.search(line)), None):
        return (
            f"{program} reaches no Debian archive ({line.strip()}). Is this machine online? A proxy is set in apt's configuration; "
            "AF_DEBIAN_MIRROR names another archive"
        )
    return f"{program} failed with status {status}:\n{output[-2000:]}"
