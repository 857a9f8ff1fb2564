"""When to dial the forwarder again: a function of how often it failed, and why.

Serves jobs, sessions and the controller after a lost connection. Promises: never in step with others (full jitter), soon after a
first failure, rarely when the forwarder itself said no.
"""

from collections.abc import Callable

from af_hub.backoff import backoff

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0
REFUSED_SECONDS = 20.0
"""A certificate that was refused, or a newer connection that took over: asking again soon helps nobody."""


def seconds_until_dial(failures: int, refused: bool, uniform: Callable[[float, float], float]) -> float:
    """How long to leave the forwarder alone after ``failures`` vain attempts in a row."""
    if refused:
        return uniform(REFUSED_SECONDS / 4, REFUSED_SECONDS)
    return uniform(0, backoff(failures + 1, FIRST_SECONDS, LONGEST_SECONDS))
