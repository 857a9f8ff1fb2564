"""Where and when figures were taken."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.facility import CHECKOUT


def describe(rounds: int, minutes: float) -> str:
    """Machine, cores, date, commit and rounds, as a list."""
    facts = {
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} cores, {memory():.0f} GiB, {platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[2]:.1f} in the 15 minutes that ended with the last round, these figures' own work included",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes",
        "commit": commit(),
        "rounds": f"{rounds}, after one that is not counted; all of a table in turns, in the same run",
    }
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())


def processor() -> str:
    """Its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory() -> float:
    """GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def commit() -> str:
    """The checkout's, and whether it has changes."""
    done = git("describe", "--always", "--abbrev=10", "--exclude=*", "--dirty= with changes")
    return done or "not known"


def git(*arguments: str) -> str:
    """What git says; nothing when it cannot."""
    # The owner of the checkout may be another user, as it is in a user namespace.
    argv = ["git", "-c", f"safe.directory={CHECKOUT}", *arguments]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
