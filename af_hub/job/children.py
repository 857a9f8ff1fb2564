"""The job agent's child processes.

Serves the agent. Promises: a child is the leader of its own process group, writes to a log file of its own, and nothing of the group is left
after :meth:`Child.stop`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from af_hub.files import open_log

GRACE_SECONDS = 5


class Child:
    """One running child; made by :func:`start_child`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, lifeline: int | None) -> None:
        self.name = name
        self._process = process
        self._lifeline = lifeline

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait until it ends; returns its exit status, negative for a signal."""
        return await self._process.wait()

    def tell(self, text: str) -> None:
        """Write a line to its lifeline."""
        assert self._lifeline is not None
        with suppress(BrokenPipeError):
            os.write(self._lifeline, text.encode() + b"\n")

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Give it ``grace`` seconds to end by itself, then kill what is left of its group; may be called again.

        A worker ends when its scheduler does. Its lifeline is closed last: told to end twice, nanny and worker wait for each other.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), grace)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        await self._process.wait()


async def start_child(name: str, arguments: Sequence[str], fd: int, lifeline: int | None = None) -> Child:
    """Start ``python -m af_hub.job.<name>`` with the same Python; ``fd`` is inherited and closed here, output goes to ``<name>.log``."""
    try:
        with open_log(Path(f"{name}.log")) as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"af_hub.job.{name}", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[fd],
                start_new_session=True,
            )
    finally:
        os.close(fd)
    return Child(name, process, lifeline)
