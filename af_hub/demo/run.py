"""``af-hub demo``: the facility at a terminal, in a folder of its own, until somebody ends it.

Serves the person who typed it. Promises: they are told where to go, what does not hold here, and what to change when it cannot start; what
dies meanwhile is started again; at the end nothing of it runs. Leaves the parts to :mod:`af_hub.demo.facility`.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console

from af_hub.demo.facility import Facility
from af_hub.demo.machine import full_disk
from af_hub.demo.people import USERS_FILE
from af_hub.demo.pods import PodSessions
from af_hub.demo.processes import be_guarded
from af_hub.demo.revival import Revival
from af_hub.demo.site import FACTS
from af_hub.errors import Unavailable
from af_hub.files import write_private
from af_hub.ready import say_ready
from af_hub.session.processes import die_with
from af_hub.testing.hub import FACILITY
from af_hub.testing.process import free_port, hold_port

# A Unix socket's path has at most 107 bytes, and the longest below our folder needs about 50 of them.
LONGEST_FOLDER = 55
LOOK_SECONDS = 0.25
# MB: what a demo needs, its cache and logs; what two jobs of a Dask cluster ask for beside; what is as good as none.
LEAST_SPACE, SPACE_FOR_JOBS, NO_SPACE = 300, 2500, 2


@dataclass(frozen=True)
class Place:
    """A folder that is ours alone while ``lock`` is open; ``brief`` when it is taken away at the end."""

    folder: Path
    lock: TextIO
    brief: bool

    def leave(self) -> None:
        """Take away what should not stay."""
        if self.brief:
            shutil.rmtree(self.folder, ignore_errors=True)


def take_place(wanted: Path) -> Place:
    """``wanted``, or the next free one beside it when a demo runs there; a short one elsewhere when its path is too long.

    Raises
    ------
    Unavailable
        When a hundred demos run.
    """
    if len(str(wanted.resolve())) > LONGEST_FOLDER:
        short = Path(tempfile.mkdtemp(prefix="af-hub-"))
        return Place(short, (short / "lock").open("w"), brief=True)
    for number in range(1, 100):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Place(folder, lock, brief=False)
        except BlockingIOError:
            lock.close()
    raise Unavailable(f"a demo runs in {wanted} and in each of the 98 folders after it")


def run(
    checkout: Path,
    folder: Path,
    port: int,
    ready_fd: int | None = None,
    with_parent: bool = False,
    facility_file: Path = FACILITY,
    users_file: Path = USERS_FILE,
    pods: PodSessions | None = None,
) -> None:
    """The demo until somebody ends it: Ctrl-C, SIGTERM, the terminal's end, and the end of our parent when ``with_parent``.

    Raises
    ------
    Unavailable
        When it cannot start; the message says why. Nothing is left running.
    """
    if with_parent:
        die_with(os.getppid(), signal.SIGTERM)
    with saying_what_to_change(folder):
        place = take_place(folder)
    be_guarded(place.leave)
    console = Console(highlight=False, soft_wrap=True)
    # SIGINT too: a shell starts what it puts in the background with SIGINT ignored, and Python leaves it so.
    _on_ending_signals(_as_interrupt)
    with saying_what_to_change(place.folder):
        in_pods = pods.facility() if pods else {}
        facility = Facility(checkout, place.folder, port_or_free(port), facility_file, users_file, **in_pods)
    began = time.monotonic()
    try:
        with saying_what_to_change(place.folder):
            console.print("Starting IAM, XRootD, HTCondor, forwarder, hub, controller ...")
            facility.start()
            write_private(place.folder / FACTS, json.dumps(facility.facts()))
        if port not in (0, facility.port):
            console.print(f"Port {port} is taken by another program; the hub has {facility.port} instead.")
        describe(console, facility, time.monotonic() - began)
        say_ready(ready_fd, **facility.facts())
        watch(console, facility)
    except KeyboardInterrupt:
        console.print("\nStopping ...")
    finally:
        _on_ending_signals(signal.SIG_IGN)
        (place.folder / FACTS).unlink(missing_ok=True)
        facility.stop()
        place.leave()
    console.print("Everything is stopped.")


@contextmanager
def saying_what_to_change(folder: Path) -> Iterator[None]:
    """Tell what the disk has to do with an error, also when a part whose log could not be written does not know.

    Raises
    ------
    Unavailable
        For every error of the disk.
    """
    try:
        if full := full_disk(folder, LEAST_SPACE):
            raise Unavailable(full)
        yield
    except OSError as error:
        raise Unavailable(
            f"{error.filename or folder} cannot be used ({error.strerror or error}); a folder that can be written is wanted: "
            "af-hub demo --folder FOLDER"
        ) from error
    except Unavailable as error:
        raise Unavailable(f"{error}\n{full_disk(folder, NO_SPACE)}".rstrip()) from error


def watch(console: Console, facility: Facility) -> None:
    """Until interrupted: start again what ends by itself, and say so."""
    revival = Revival(console.print, obstacle=lambda: full_disk(facility.folder, NO_SPACE))
    terminal = sys.stdin is not None and sys.stdin.isatty()
    while True:
        time.sleep(LOOK_SECONDS)
        # When make leads the terminal's session (ssh -t host make demo), it alone hears that the terminal is gone.
        if terminal and not sys.stdin.isatty():
            raise KeyboardInterrupt
        revival.look(facility.parts())


def describe(console: Console, facility: Facility, seconds: float) -> None:
    """Where to go, who one may be, what does not hold here, how to end it."""
    console.print(
        f"\nThe facility runs after {seconds:.0f} s. Open  [bold]{facility.plan.url}[/]  and sign in as one of\n"
    )
    for user in facility.users:
        console.print(f"  [bold]{user['username']:<16}[/]{' '.join(user['groups']):<20}{user['about']}")
    sessions = (
        "sessions are pods, which a real Kubernetes keeps apart; everything else runs as one user"
        if facility.pods
        else "everything runs as your own user, so code in one session can read the others'"
    )
    console.print(
        f"\nLimits of this demo: {sessions};\n"
        f"the sites ({', '.join(facility.sites or ())}) are addresses of this machine without a firewall; "
        f"all data but those in /protected are read without a token.\n"
        f"Files and logs: {facility.folder}\n\n[bold]Ctrl-C[/] ends all of it."
    )
    if short := full_disk(facility.folder, SPACE_FOR_JOBS):
        console.print(f"\n[yellow]Each job asks for 1 GB of disk[/]; others will wait for ever: {short}.")


def port_or_free(port: int) -> int:
    """``port`` while nobody has it, else one that is free."""
    try:
        with hold_port(port) as held:
            return int(held.getsockname()[1])
    except OSError:
        return free_port()


def _as_interrupt(*_: object) -> None:
    # Once: a terminal's hang-up reaches us directly and again through our guard, and the second one must not cut the stopping short.
    _on_ending_signals(signal.SIG_IGN)
    raise KeyboardInterrupt


def _on_ending_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)
