"""The job agent's child processes, watched and ended.

Serves the agent. Promises: each child leads its own process group and writes to a log file of its own, and nothing of the group is left
after ``stop``. Leaves to :mod:`af_hub.job.begin` how they come to be.
"""

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import suppress

from af_hub.job.begin import begin

GRACE_SECONDS = 5


class SchedulerProcess:
    """The Dask scheduler's process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    async def wait(self) -> int:
        """Wait until it ends; returns its exit status, negative for a signal."""
        return await asyncio.to_thread(self._process.wait)

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Give it ``grace`` seconds to end by itself, then kill what is left of its group; may be called again."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, grace)
        kill_group(self._process.pid)
        await self.wait()


class FirstWorker:
    """The worker beside the scheduler, known by the socket that leads to it.

    It is not always our own child (the scheduler's process gives birth to the first one), so its end is the end of that socket.
    """

    def __init__(self, end: socket.socket, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self._socket = end
        self._process = process  # kept, so that Python takes leave of it
        self._pid = 0

    async def start(self, pid: int) -> "FirstWorker":
        """Begin to watch it."""
        self._pid = pid
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        self._gone = asyncio.create_task(_end_of(reader))
        return self

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self._gone.done()

    def tell(self, text: str) -> None:
        """Write it a line."""
        self._writer.write(text.encode() + b"\n")

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Give it ``grace`` seconds to end by itself, then kill what is left of its group; may be called again.

        A worker ends when its scheduler does. Its socket is closed last: told to end twice, nanny and worker wait for each other.
        """
        if self._pid:
            await asyncio.wait([self._gone], timeout=grace)
            kill_group(self._pid)
            self._writer.close()
            await self._gone
        else:
            self._socket.close()


async def _end_of(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        await reader.read()


async def begin_worker() -> FirstWorker:
    """A worker beside the scheduler in the place of one that was retired."""
    end, its = socket.socketpair()
    process = begin("worker", ["--agent-fd", str(its.fileno())], its)
    return await FirstWorker(end, process).start(process.pid)


def kill_group(leader: int) -> None:
    """Kill what is left of a process group."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
