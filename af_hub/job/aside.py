"""A signpost in a thread of its own, for a process whose event loop runs the user's code.

Serves the Dask scheduler: what a client has it run (``run_on_scheduler``) holds its event loop, and could wait for ever for a signpost in
it. Leaves what a signpost is to :mod:`af_hub.session.signpost`.
"""

import asyncio
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from af_hub.session.signpost import signpost_before

SECONDS = 5


@contextmanager
def signpost_aside(environ: MutableMapping[str, str]) -> Iterator[None]:
    """As :func:`~af_hub.session.signpost.signpost_before`; not to be entered before a fork, which threads do not outlive."""
    loop, way = asyncio.new_event_loop(), signpost_before(environ)
    thread = threading.Thread(target=loop.run_forever, name="signpost", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(way.__aenter__(), loop).result(SECONDS)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(way.__aexit__(None, None, None), loop).result(SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
