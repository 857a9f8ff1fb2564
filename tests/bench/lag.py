"""How late an event loop is: of this process, or of a hub whose configuration calls :func:`begin`."""

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import quantiles

TICK_SECONDS = 0.005
LINE_SECONDS = 0.5
_tasks: set[asyncio.Task[None]] = set()


async def watch(lags: list[float]) -> None:
    """Measure how late a task comes to its turn."""
    while True:
        wanted = time.perf_counter() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        lags.append(max(0.0, time.perf_counter() - wanted))


def most_of(lags: Iterable[float]) -> float:
    """Seconds that a task came late, at most, in 99 of 100 cases."""
    return quantiles(lags, n=100)[98]


async def watch_work(works: list[float]) -> None:
    """Measure how much the loop's thread computes from one turn of a task to its next, whatever else the machine does."""
    while True:
        before = time.thread_time()
        await asyncio.sleep(TICK_SECONDS)
        works.append(time.thread_time() - before)


async def record(path: Path) -> None:
    """Write both into a file, a line of JSON each half second: when, and what was measured since the line before."""
    lags: list[float] = []
    works: list[float] = []
    watching = [asyncio.create_task(watch(lags)), asyncio.create_task(watch_work(works))]
    with path.open("a", buffering=1) as file:
        while not any(task.done() for task in watching):
            await asyncio.sleep(LINE_SECONDS)
            file.write(json.dumps({"at": time.time(), "late": lags, "work": works}) + "\n")
            lags.clear()
            works.clear()


def begin(path: str) -> None:
    """Record as long as the loop runs that runs now."""
    _tasks.add(asyncio.get_running_loop().create_task(record(Path(path))))


def recorded(path: Path, what: str, since: float, until: float) -> list[float]:
    """What was measured wholly in that time: ``late`` or ``work``."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [one for line in lines if since + 2 * LINE_SECONDS <= line["at"] <= until for one in line[what]]
