"""What a machine must have before anything is fetched for the demo, each as a sentence that says what to change.

Serves set-up: asked in a second, so that nobody waits minutes for the first "no". It promises nothing about what only shows while
it runs (the network, packages of an index); those errors are :mod:`af_hub.demo.environment`'s and :mod:`af_hub.testing.debian`'s.
``make`` runs it before anything is installed: standard library only.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.testing import debian, kube_needs

MACHINES = ("x86_64", "aarch64")
# MB, with what is needed only while it is made.
VENV_SIZE, IMAGES_SIZE, CACHE_SIZE = 1100, 1600, 600
PROBE_SECONDS = 10


@dataclass(frozen=True)
class Wishes:
    """What somebody wants to make, and where."""

    checkout: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    etc: Path = Path("/etc/apt")

    @property
    def cache(self) -> Path:
        """Where HTCondor, XRootD and data are kept."""
        return debian.cache_folder(self.environ)

    def missing(self) -> dict[Path, int]:
        """What is not there yet: its folder, and the MB it will take."""
        sizes = {self.checkout / ".venv": VENV_SIZE, self.checkout / ".images": IMAGES_SIZE}
        found = {folder: size for folder, size in sizes.items() if not folder.exists()}
        return found | ({self.cache: CACHE_SIZE} if self.wants_packages() else {})

    def wants_packages(self) -> bool:
        """Whether Debian's packages must be fetched."""
        names = ["xrootd-*"] + ([] if self.environ.get("AF_CONDOR_PREFIX") else ["condor-*"])
        return not all(any(self.cache.glob(f"{name}/{debian.MARKER}")) for name in names)


def lacks(wishes: Wishes, daemons: bool = True, kube: bool = False) -> list[str]:
    """Everything that this machine lacks, a sentence each.

    Parameters
    ----------
    daemons
        False when Python environments are enough, as for the quick tests.
    kube
        Whether there shall be a Kubernetes too.
    """
    more = kube_needs.lacks() if kube else []
    missing = wishes.missing()
    questions: list[Callable[[], str]] = []
    if missing.keys() - {wishes.cache}:
        questions += [venv_module, partial(folder_to_write, wishes.checkout, "git clone it there")]
    if daemons:
        questions += [machine, user_namespace]
    if daemons and wishes.wants_packages():
        change = "set XDG_CACHE_HOME to such a folder"
        questions += [partial(folder_to_write, wishes.cache, change), partial(debian_packages, wishes)]
    return more + [sentence for question in questions if (sentence := question())] or [*space(missing)]


def venv_module() -> str:
    """Python's own way to make environments; Debian has it in a package of its own."""
    if find_spec("venv") and find_spec("ensurepip"):
        return ""
    return (
        f"{sys.executable} has no module venv (or no ensurepip): on Debian and Ubuntu, apt install python3-venv; "
        "or name another Python, make PYTHON=/path/to/python3.11"
    )


def machine() -> str:
    """Debian's packages are for certain machines only."""
    if sys.platform == "linux" and platform.machine() in MACHINES:
        return ""
    return f"this is {sys.platform} on {platform.machine()}; the demo runs on Linux on {' or '.join(MACHINES)}"


def user_namespace() -> str:
    """Root becomes an ordinary user in a namespace; some machines and containers forbid that."""
    if os.geteuid() != 0:
        return ""
    try:
        done = subprocess.run(["unshare", "--user", "true"], capture_output=True, text=True, timeout=PROBE_SECONDS)
        reason = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    return (
        reason
        and f"you are root, HTCondor and XRootD want an ordinary user, and root can make no user namespace "
        f"here ({reason}): run make as an ordinary user"
    )


def folder_to_write(folder: Path, change: str) -> str:
    """A folder in which we make things; it need not be there yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror}), and a folder that can is wanted: {change}"


def debian_packages(wishes: Wishes) -> str:
    """All that unpacking Debian's packages takes, but the network."""
    found = []
    for find in (debian.find_programs, debian.find_keyring, partial(debian.find_archive, wishes.environ, wishes.etc)):
        try:
            find()
        except Unavailable as reason:
            found.append(str(reason))
    return "\n".join(found)


def space(missing: Mapping[Path, int]) -> Iterator[str]:
    """A sentence for each disk that has no room for what is missing on it."""
    wanted: dict[int, int] = {}
    places: dict[int, Path] = {}
    for folder, size in missing.items():
        place = next(parent for parent in [folder, *folder.parents] if parent.exists())
        device = place.stat().st_dev
        wanted[device] = wanted.get(device, 0) + size
        places[device] = place
    for device, place in places.items():
        if free(place) < wanted[device]:
            yield (
                f"the disk of {place} has {free(place)} MB free, {wanted[device]} MB are wanted: free some, or move the folder "
                "to another disk"
            )


def full_disk(folder: Path, wanted: int) -> str:
    """A sentence when fewer than ``wanted`` MB are free for a folder, which need not be there yet; else empty."""
    return "".join(space({folder: wanted}))


def free(place: Path) -> int:
    """MB that are free there."""
    return shutil.disk_usage(place).free // 1_000_000


def sentences(checkout: Path, daemons: bool, kube: bool = False) -> Iterator[str]:
    """For the terminal: a line for each thing that is missing."""
    yield from (f"cannot be done here: {sentence}" for sentence in lacks(Wishes(checkout), daemons, kube))


if __name__ == "__main__":
    found = list(sentences(Path.cwd(), daemons="--daemons" in sys.argv[1:], kube="--kube" in sys.argv[1:]))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    sys.exit(1 if found else 0)
