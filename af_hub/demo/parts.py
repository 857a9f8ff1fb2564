"""What must be on the machine once, before a demo or the real tests can run.

Images (Python environments made from their locks), HTCondor and XRootD (Debian's signed packages, unpacked without root into the
user's cache), and the data. Each part says what it does; all are got at the same time, and a second call only looks.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from af_hub.demo.data import make_dataset
from af_hub.errors import Unavailable
from af_hub.testing.condor_prefix import find_condor
from af_hub.testing.debian import cache_folder
from af_hub.testing.xrootd import xrootd_folder

PIP_SECONDS = 1800
IMAGES = ("python-analysis", "python-base")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """One thing to have; ``get`` returns where it is."""

    name: str
    get: Callable[[Progress], Path]


def parts(checkout: Path) -> list[Part]:
    """All of them, the slow ones first."""
    images = [Part(f"image {name}", partial(image, checkout, name)) for name in IMAGES]
    return [
        *images,
        Part("HTCondor", find_condor),
        Part("XRootD", xrootd_folder),
        Part("data", data_folder),
    ]


def get_parts(checkout: Path) -> list[str]:
    """Get what is missing, two at a time, and say so line by line; the names of those that could not be had."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    began = time.monotonic()

    def get(part: Part) -> bool:
        def say(what: str) -> None:
            console.print(f"[dim]{time.monotonic() - began:5.0f} s[/]  {part.name}: {what}")

        try:
            part.get(say)
        except (Unavailable, OSError) as error:
            say(f"[red]cannot be had[/]: {error}")
            return False
        return True

    wanted = parts(checkout)
    with ThreadPoolExecutor(max_workers=2) as pool:
        return [part.name for part, there in zip(wanted, pool.map(get, wanted), strict=True) if not there]


def images_folder(checkout: Path) -> Path:
    """Where the images' Python environments are."""
    return checkout / ".images"


def image(checkout: Path, name: str, say: Progress) -> Path:
    """The Python environment of one image, as its lock file says, with this checkout's ``af_hub`` on its path."""
    lock = checkout / "images" / name / "requirements.lock"
    folder = images_folder(checkout) / name
    settings = checkout / "images" / "lab-overrides.json"
    made_of = lock.read_bytes() + settings.read_bytes() + sys.version.encode()
    stamp, wanted = folder / "lock.sha256", hashlib.sha256(made_of).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return folder
    say("installing from its lock file ...")
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin" / "python")
    _run([sys.executable, "-m", "venv", str(folder)])
    _run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
    )
    packages = next((folder / "lib").glob("python3.*/site-packages"))
    (packages / "af_hub.pth").write_text(f"{checkout}\n")
    lab_settings = folder / "share" / "jupyter" / "lab" / "settings"
    lab_settings.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(settings, lab_settings / "overrides.json")
    stamp.write_text(wanted)
    say("ready")
    return folder


def data_folder(say: Progress) -> Path:
    """The demo's events, in the user's cache: the folder that the origin exports."""
    folder = cache_folder() / "data"
    make_dataset(folder, progress=say)
    return folder


def _run(argv: list[str]) -> None:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=PIP_SECONDS, env={**os.environ, "PIP_NO_INPUT": "1"}
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(argv[:5])} ... took more than {PIP_SECONDS} s") from error
    if done.returncode:
        raise Unavailable(f"{' '.join(argv[:5])} ... failed:\n{done.stderr.strip()[-2000:]}")
