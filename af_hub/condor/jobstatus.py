"""HTCondor's numbers for jobs, in our words. No other module knows them (HTCondor manual, "Job ClassAd Attributes")."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

SPOOLING_INPUT = 16


class JobState(StrEnum):
    """What a job is doing."""

    SPOOLING = "spooling"
    IDLE = "idle"
    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"


_STATES = {
    1: JobState.IDLE,
    2: JobState.RUNNING,
    3: JobState.ENDED,  # removed
    4: JobState.ENDED,  # completed
    5: JobState.HELD,
    6: JobState.RUNNING,  # transferring its output
    7: JobState.RUNNING,  # suspended
}


def job_state(ad: Mapping[str, Any]) -> JobState:
    """The state of the job that ``ad`` describes; ``SPOOLING`` while its input files are not all there."""
    if ad["JobStatus"] == 5 and ad.get("HoldReasonCode") == SPOOLING_INPUT:
        return JobState.SPOOLING
    return _STATES[ad["JobStatus"]]
