"""Looking at ``facility.yaml`` when nobody asks: so that a wrong edit is in the log of each process at once, and not when it is needed.

And so that the log has a line at the instant when an override comes into force or ends.
"""

import asyncio
import logging
import time

from prometheus_client import Gauge

from af_hub.policy.audit import OverrideLog
from af_hub.policy.load import PolicyFile

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

RIGHT = Gauge(
    "af_policy_right", "1 while facility.yaml is in force as it is, 0 when its last edit was wrong or it cannot be read"
)
OVERRIDES = Gauge("af_policy_overrides_in_force", "Overrides that count at this moment")


async def keep_current(file: PolicyFile, seconds: float = LOOK_SECONDS) -> None:
    """Look at the file for as long as the process runs."""
    overrides = OverrideLog()
    file.followed = True
    try:
        while True:
            try:
                await asyncio.to_thread(file.look)
                policy, now = file.current(), time.time()
                overrides.look(policy, now)
                RIGHT.set(not file.wrong)
                OVERRIDES.set(sum(one.in_force(now) for one in policy.overrides))
            except Exception:
                log.exception("the policy could not be looked at")  # it is kept, and looked at again
            await asyncio.sleep(seconds)
    finally:
        file.followed = False
