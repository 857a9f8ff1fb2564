"""A bare ``dask scheduler`` and ``dask worker``, begun at once on this machine, to the first result."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dask.distributed import Client

SCHEDULER = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
WORKER = ("--host", "127.0.0.1", "--nthreads", "1")


def measured(folder: str, memory: str) -> Iterator[dict[str, float]]:
    """Begin and end; both end when this is asked to go on."""
    with tempfile.TemporaryDirectory(dir=folder) as private:
        began = time.time()
        running = [begin(private, "scheduler", *SCHEDULER), begin(private, "worker", *WORKER, "--memory-limit", memory)]
        client = Client(scheduler_file=f"{private}/scheduler.json")
        assert client.submit(lambda: 1 + 1).result() == 2
        yield {"began": began, "ended": time.time()}
        client.shutdown()
        for process in running:
            process.wait(20)


def begin(folder: str, part: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """One of the two."""
    argv = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--scheduler-file", f"{folder}/scheduler.json"]
    with Path(folder, f"{part}.log").open("wb") as log:
        return subprocess.Popen([*argv, *arguments], cwd=folder, stdout=log, stderr=log)
