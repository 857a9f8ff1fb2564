"""What the job agent and the scheduler process say to each other: lines of JSON on an inherited pair of sockets.

Serves the agent API. The agent asks (``{"id": n, "call": …}``), the scheduler answers under the same number; nobody else on the node can reach
it, and the agent needs no Dask for it. The end of either tells the other that it is dead.
"""

import asyncio
import itertools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from af_hub.errors import Unavailable

LINE_LIMIT = 16 << 20
ANSWER_SECONDS = 30

Handle = Callable[..., Awaitable[dict[str, Any]]]


class Control:
    """The agent's end."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, patience: float) -> dict[str, Any]:
        """Wait until the scheduler says that it is ready; returns what it says.

        Raises
        ------
        Unavailable
            When it ended first, or needs longer than ``patience`` seconds.
        """
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=LINE_LIMIT)
        try:
            line = await asyncio.wait_for(reader.readline(), patience)
        except (TimeoutError, OSError) as error:
            raise Unavailable(f"the Dask scheduler was not ready in {patience:g} s") from error
        if not line:
            raise Unavailable("the Dask scheduler ended before it was ready")
        self._reading = asyncio.create_task(self._read(reader))
        ready: dict[str, Any] = json.loads(line)
        return ready

    async def ask(self, call: str, patience: float = ANSWER_SECONDS, **arguments: object) -> dict[str, Any]:
        """Ask the scheduler; raises Unavailable when it does not answer in ``patience`` seconds."""
        if self._writer is None or self._reading is None or self._reading.done():
            raise Unavailable("the Dask scheduler has ended, or is not ready yet")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(json.dumps({"id": number, "call": call, **arguments}).encode() + b"\n")
            return await asyncio.wait_for(answer, patience)
        except TimeoutError as error:
            raise Unavailable(f"the Dask scheduler did not answer in {patience:g} s") from error
        finally:
            del self._waiting[number]

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                answer = json.loads(line)
                waiting = self._waiting.get(answer.pop("id"))
                if waiting and not waiting.done():
                    waiting.set_result(answer)
        except OSError:
            pass
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Unavailable("the Dask scheduler has ended"))

    def close(self) -> None:
        """Ask no more; the scheduler ends."""
        if self._writer:
            self._writer.close()
        else:
            self._socket.close()


async def serve_control(fd: int, ready: dict[str, Any], handle: Handle) -> None:
    """The scheduler's end: say that it is ready, then answer with what ``handle(call, **arguments)`` returns, until the agent is gone."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd), limit=LINE_LIMIT)
    writer.write(json.dumps(ready).encode() + b"\n")
    answering: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(_answer(json.loads(line), writer, handle))
        answering.add(task)
        task.add_done_callback(answering.discard)


async def _answer(question: dict[str, Any], writer: asyncio.StreamWriter, handle: Handle) -> None:
    number = question.pop("id")
    answer = await handle(question.pop("call"), **question)
    writer.write(json.dumps({"id": number, **answer}).encode() + b"\n")
