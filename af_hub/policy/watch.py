"""Looking at ``facility.yaml`` when nobody asks: so that a wrong edit is in the log of each process at once, and not when it is needed.

And so that the log has a line at the instant when an override comes into force or ends.
"""

import asyncio
import logging
import time

from af_hub.policy.audit import OverrideLog
from af_hub.policy.load import PolicyFile

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


async def keep_current(file: PolicyFile, seconds: float = LOOK_SECONDS) -> None:
    """Look at the file for as long as the process runs."""
    overrides = OverrideLog()
    file.followed = True
    try:
        while True:
            try:
                await asyncio.to_thread(file.look)
                overrides.look(file.current(), time.time())
            except Exception:
                log.exception("the policy could not be looked at")  # it is kept, and looked at again
            await asyncio.sleep(seconds)
    finally:
        file.followed = False
