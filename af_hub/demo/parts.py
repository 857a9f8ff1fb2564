"""What must be on the machine once, before a demo or the real tests can run.

HTCondor and XRootD (Debian's signed packages, unpacked without root into the user's cache), images (Python environments made from
their locks), and the data. What the machine lacks is said before anything is fetched. Then two parts at a time are got, each says what it
does, and a second call only looks. The packages come first: they are quick, and where they fail, they fail within seconds.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from af_hub.demo.data import make_dataset
from af_hub.demo.environment import make_environment
from af_hub.demo.machine import Wishes, lacks
from af_hub.errors import Unavailable
from af_hub.files import write_private
from af_hub.session.processes import descendants
from af_hub.testing.condor_prefix import find_condor
from af_hub.testing.debian import cache_folder
from af_hub.testing.xrootd import xrootd_folder

IMAGES = ("python-analysis", "python-base")
PAUSE_SECONDS = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """One thing to have; ``get`` returns where it is."""

    name: str
    get: Callable[[Progress], Path]


def parts(checkout: Path) -> list[Part]:
    """All of them: what may fail first, then what takes long."""
    images = [Part(f"image {name}", partial(image, checkout, name)) for name in IMAGES]
    return [Part("HTCondor", find_condor), Part("XRootD", xrootd_folder), *images, Part("data", data_folder)]


def get_parts(checkout: Path, keep_going: bool = False) -> list[str]:
    """Get what is missing, two at a time, and say so line by line.

    Parameters
    ----------
    keep_going
        Get the others though one part cannot be had.

    Returns
    -------
    What could not be had, one name for each part; empty when all is there.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    missing = lacks(Wishes(checkout))
    for sentence in missing:
        console.print(f"[red]cannot be done here[/]: {sentence}")
    if missing and not keep_going:
        return ["the demo"]
    return _get_all(parts(checkout), keep_going, console)


def _get_all(wanted: Iterable[Part], keep_going: bool, console: Console) -> list[str]:
    began, failed = time.monotonic(), list[str]()
    over = False

    def get(part: Part) -> None:
        def say(what: str) -> None:
            if not over:  # what parts say that are told to end is of no use
                console.print(f"[dim]{time.monotonic() - began:5.0f} s[/]  {part.name}: {what}")

        if failed and not keep_going:
            return
        try:
            part.get(say)
        except (Unavailable, OSError) as error:
            if not over:
                failed.append(part.name)
                say(f"[red]cannot be had[/]: {error}")
            raise

    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = [pool.submit(get, part) for part in wanted]
        try:
            wait(futures, return_when=ALL_COMPLETED if keep_going else FIRST_EXCEPTION)
        finally:
            over = True
            _end(futures)
    for future in futures:
        if not future.cancelled() and not isinstance(future.exception(), Unavailable | OSError | None):
            future.result()
    return failed


def _end(futures: list[Future[None]]) -> None:
    """Nobody waits for the rest: what runs takes away what it has half made, what has not begun does not."""
    for future in futures:
        future.cancel()
    while wait(futures, timeout=PAUSE_SECONDS).not_done:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGINT)
            except ProcessLookupError:
                pass


COMMAND = """#!/bin/sh
exec "$(dirname "$0")/python" -m af_hub.client.command "$@"
"""


def images_folder(checkout: Path) -> Path:
    """Where the images' Python environments are."""
    return checkout / ".images"


def image(checkout: Path, name: str, say: Progress) -> Path:
    """The Python environment of one image, as its lock file says, with this checkout's ``af_hub`` on its path."""
    folder = images_folder(checkout) / name
    settings = checkout / "images" / "lab-overrides.json"

    def finish(folder: Path) -> None:
        packages = next((folder / "lib").glob("python3.*/site-packages"))
        (packages / "af_hub.pth").write_text(f"{checkout}\n")
        lab_settings = folder / "share" / "jupyter" / "lab" / "settings"
        lab_settings.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(settings, lab_settings / "overrides.json")

    make_environment(folder, checkout / "images" / name / "requirements.lock", say, settings.read_bytes(), finish)
    lend_command(folder)
    return folder


def lend_command(folder: Path) -> None:
    """``af`` in the image's environment, as pip makes it where ``af_hub`` is installed; in those too that were made before."""
    command = folder / "bin" / "af"
    if not command.is_file() or command.read_text() != COMMAND:
        write_private(command, COMMAND, 0o755)


def data_folder(say: Progress) -> Path:
    """The demo's events, in the user's cache: the folder that the origin exports."""
    folder = cache_folder() / "data"
    make_dataset(folder, progress=say)
    return folder
