"""What plain batch jobs read data with, from the session's side: their token lies at the access point before anybody submits.

Serves the hop session → controller, which brings the token (:mod:`af_hub.controller.batch`) and goes on doing so while there are jobs, also when
this session has ended.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from af_hub.errors import Unavailable
from af_hub.session.controller import ControllerRefused
from af_hub.session.freshness import seconds_until_retry

log = logging.getLogger(__name__)

AGAIN_SECONDS = 600.0
"""Much less than a token lives."""


async def keep_brought(
    bring: Callable[[], Awaitable[None]],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> None:
    """Ask for it for ever; ``bring`` asks once."""
    failures = 0
    while True:
        try:
            await bring()
        except (ControllerRefused, Unavailable) as error:
            failures += 1
            log.warning("batch jobs have no fresh token (%d times in a row): %s", failures, error)
            await sleep(seconds_until_retry(failures, uniform))
        else:
            failures = 0
            await sleep(AGAIN_SECONDS)
