"""Looking at ``facility.yaml`` when nobody asks: so that a wrong edit is in the log of each process at once, and not when it is needed."""

import asyncio
import logging

from af_hub.policy.load import PolicyFile

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


async def keep_current(file: PolicyFile, seconds: float = LOOK_SECONDS) -> None:
    """Look at the file for as long as the process runs."""
    while True:
        await asyncio.sleep(seconds)
        try:
            file.current()
        except Exception:
            log.exception("the policy could not be looked at")  # it is kept, and looked at again
