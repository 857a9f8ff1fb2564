"""The program beside ``condor_credd`` that makes the tokens it took ready for jobs: ``CREDMON_OAUTH`` (hub_config/condor).

HTCondor's own "credmons" hold refresh tokens and fetch access tokens with them. Here the hub does that, and only short access tokens come
here; so a token is handed on as it is: what ``condor_credd`` stored as ``ACCOUNT/iam.top`` becomes ``ACCOUNT/iam.use``, which jobs
get. Standard library only, no import of ours, run with ``-I -S``, since it runs as what the access point runs as.

It promises that ``.use`` is whole, 0600, and there a moment after ``condor_credd`` said so (SIGHUP), at most :data:`PAUSE_SECONDS` later; and
that what was not replaced for :data:`KEEP_SECONDS` is removed, so that nothing is left of people who have no jobs any more. From HTCondor
25 on ``condor_credd`` can do the first by itself; it does no harm there.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

STORED, READY = ".top", ".use"
THE_END = (signal.SIGQUIT, signal.SIGTERM, signal.SIGINT)
PAUSE_SECONDS = 2.0
KEEP_SECONDS = 24 * 3600.0


def hand_on(folder: str, keep: float, now: float) -> list[str]:
    """One pass over all accounts; what was done, for the log."""
    done = []
    with os.scandir(folder) as found:
        accounts = [one.path for one in found if one.is_dir(follow_symlinks=False)]
    for account in accounts:
        try:
            done += hand_on_of(account, keep, now)
        except OSError as error:  # it went while we looked, or its disk is full; the next pass tries again
            done.append(f"failed: {error}")
    return done


def hand_on_of(account: str, keep: float, now: float) -> list[str]:
    """The tokens of one account."""
    done = []
    for name in sorted(os.listdir(account)):  # noqa: PTH208 (pathlib's import takes longer than all the rest)
        service, suffix = os.path.splitext(name)  # noqa: PTH122
        stored, ready = (f"{account}/{service}{kind}" for kind in (STORED, READY))
        if suffix != STORED:
            continue
        changed_at = os.stat(stored).st_mtime_ns  # noqa: PTH116
        if now - changed_at / 10**9 > keep:
            for path in (ready, stored):
                remove(path)
            done.append(f"removed {ready}")
        elif changed_at != made_from(ready):
            copy(stored, ready, changed_at)
            done.append(f"wrote {ready}")
    return done


def made_from(ready: str) -> int:
    """When that was stored which ``ready`` was made from; 0 when there is none."""
    try:
        return os.stat(ready).st_mtime_ns  # noqa: PTH116
    except FileNotFoundError:
        return 0


def copy(stored: str, ready: str, changed_at: int) -> None:
    """In one step, with the same time of change."""
    partial = ready + ".tmp"
    with open(stored, "rb") as source:  # noqa: PTH123
        content = source.read()
    remove(partial)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        target.write(content)
    os.utime(partial, ns=(changed_at, changed_at))
    os.replace(partial, ready)  # noqa: PTH105


def remove(path: str) -> None:
    """Remove it if it is there."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        pass


def serve(folder: str, keep: float) -> None:
    """Until told to end: tell ``condor_credd`` our process id, the access point that all is ready, and pass on what comes."""
    # condor_master ends us by SIGQUIT, which would leave an image of our memory, with tokens in it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, *THE_END])
    with open(f"{folder}/pid", "w") as file:  # noqa: PTH123
        file.write(str(os.getpid()))
    while True:
        for line in hand_on(folder, keep, time.time()):
            print(f"af-hub credmon: {line}", flush=True)
        with open(f"{folder}/CREDMON_COMPLETE", "w"):  # noqa: PTH123
            pass
        came = signal.sigtimedwait([signal.SIGHUP, *THE_END], PAUSE_SECONDS)
        if came and came.si_signo in THE_END:
            return


def main(argv: list[str]) -> None:
    """``credmon.py FOLDER``."""
    os.umask(0o077)
    serve(argv[1], KEEP_SECONDS)


if __name__ == "__main__":
    main(sys.argv)
