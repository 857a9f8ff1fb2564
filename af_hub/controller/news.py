"""Whoever waits for something to happen to a Dask cluster, and is told at once, so that nobody need ask again and again.

Serves ``GET api/clusters/{id}?after=…``. Only one process writes rows, so what it does itself is all there is to be told.
"""

import asyncio
from collections import defaultdict

WAITING_AT_MOST = 16
"""For one cluster; whoever comes after them does not wait. Each takes one of the connections that the process may have."""


class News:
    """Who waits, by cluster."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._over = False

    def tell(self, cluster: str) -> None:
        """Something happened to it."""
        for event in self._waiting.get(cluster, ()):
            event.set()

    async def wait(self, cluster: str, seconds: float) -> None:
        """Wait until something happens to it, at most so long."""
        waiting = self._waiting[cluster]
        if self._over or len(waiting) >= WAITING_AT_MOST:
            return
        event = asyncio.Event()
        waiting.add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(cluster, None)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._over = True
        for cluster in list(self._waiting):
            self.tell(cluster)
