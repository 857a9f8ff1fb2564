"""What an IAM answers to a program that wants to log somebody in without a browser (RFC 8628, section 3.2); pure.

Both code and address are shown in a terminal, so that nothing but plain text and plain addresses is taken.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from af_hub.errors import Unavailable

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PENDING, SLOW_DOWN = "authorization_pending", "slow_down"
"""The two refusals that mean: ask again (section 3.5)."""

INTERVAL_SECONDS = 5.0
LONGEST_INTERVAL = 60.0
LONGEST_SECONDS = 1800.0
CODE = re.compile(r"[0-9A-Za-z-]{4,40}\Z")
ADDRESS = re.compile(r"https?://[!-~]{1,500}\Z")
SECRET = re.compile(r"[!-~]{1,4000}\Z")


@dataclass(frozen=True)
class DeviceStart:
    """One login that began at the IAM.

    Parameters
    ----------
    device_code
        What the hub asks with; whoever has it and the hub's client secret gets the tokens.
    user_code, address
        What the person types, and where.
    whole_address
        The address with the code in it; empty when the IAM gives none.
    seconds, interval
        How long the code is good, and how long to leave between two questions.
    """

    device_code: str = field(repr=False)
    user_code: str
    address: str
    whole_address: str
    seconds: float
    interval: float


def read_device_start(found: Mapping[str, Any]) -> DeviceStart:
    """The IAM's answer.

    Raises
    ------
    Unavailable
        When it lacks something, or holds what should not be shown to anybody.
    """
    patterns = {"device_code": SECRET, "user_code": CODE, "verification_uri": ADDRESS}
    wrong = [name for name, pattern in patterns.items() if not _matches(found.get(name), pattern)]
    if wrong:
        raise Unavailable(f"The IAM's answer for a login by code has no good {', '.join(wrong)}.")
    whole = found.get("verification_uri_complete")
    return DeviceStart(
        found["device_code"],
        found["user_code"],
        found["verification_uri"],
        str(whole) if _matches(whole, ADDRESS) else "",
        _number(found.get("expires_in"), LONGEST_SECONDS, LONGEST_SECONDS),
        max(1.0, _number(found.get("interval"), INTERVAL_SECONDS, LONGEST_INTERVAL)),
    )


def _matches(found: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(found, str) and bool(pattern.match(found))


def _number(found: object, default: float, most: float) -> float:
    """A number of seconds up to ``most``; the default when it is none."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < math.inf:
        return default
    return float(min(found, most))
