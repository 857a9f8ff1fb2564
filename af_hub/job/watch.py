"""The job agent's view of its way to the forwarder, told where the controller reads it when there is no way: in the job's ad.

Serves whoever waits for the Dask cluster. Leaves dialling to :class:`af_hub.forwarder.link.Link`, and writing to :mod:`af_hub.job.start`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

LOOK_SECONDS = 1.0
QUIET_SECONDS = 3.0
"""A forwarder that restarts is back within that."""


class Way(Protocol):
    """A connection that is dialled again whenever it ends."""

    trouble: str


def worth_saying(trouble: str, away_for: float) -> str:
    """What to say of a way that has been down for so many seconds; nothing of one that is up, or has just gone."""
    return f"the job has no way to its users: {trouble}" if trouble and away_for >= QUIET_SECONDS else ""


async def watch(
    way: Way,
    patience: float,
    say: Callable[[str], object],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> str:
    """Say while there is no way, and take it back; returns why, once there never was one within ``patience`` seconds."""
    began = up_at = clock()
    ever, said = False, ""
    while True:
        await sleep(LOOK_SECONDS)
        now, trouble = clock(), way.trouble
        if not trouble:
            ever, up_at = True, now
        if not ever and now - began >= patience:
            return trouble
        if (words := worth_saying(trouble, now - up_at)) != said:
            await asyncio.to_thread(say, words)
            said = words
