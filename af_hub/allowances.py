"""How often somebody may ask for something: a bucket of tokens for each caller; pure but for what it remembers.

Serves the hub's endpoints (:mod:`af_hub.tokens.endpoint`) and its questions to registries (:mod:`af_hub.registry.askers`). A caller may ask
``burst`` times at once, and ``rate`` times a second in the long run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_CALLERS = 4096
"""Whoever has a full bucket is forgotten when there are more."""


@dataclass(frozen=True)
class Allowance:
    """How much one kind of caller may ask."""

    rate: float
    burst: int


@dataclass
class Bucket:
    """How many requests are left, as counted at the instant ``at``."""

    left: float
    at: float


class Limiter:
    """Buckets of callers by kind and name."""

    def __init__(self, allowances: dict[str, Allowance], clock: Callable[[], float] = time.monotonic) -> None:
        self._allowances, self._clock = dict(allowances), clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def allow(self, kind: str, allowance: Allowance) -> None:
        """What callers of this kind may ask from now on."""
        self._allowances[kind] = allowance

    def ask(self, kind: str, name: str) -> float:
        """Count one request; 0 when it may be served, else the seconds until another may be."""
        allowance, now = self._allowances[kind], self._clock()
        bucket = self._buckets.get((kind, name))
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[kind, name] = Bucket(allowance.burst, now)
        bucket.left, bucket.at = _left(bucket, allowance, now), now
        if bucket.left < 1:
            return (1 - bucket.left) / allowance.rate
        bucket.left -= 1
        return 0.0

    def _make_room(self, now: float) -> None:
        if len(self._buckets) >= MOST_CALLERS:
            self._buckets = {
                caller: bucket
                for caller, bucket in self._buckets.items()
                if _left(bucket, self._allowances[caller[0]], now) < self._allowances[caller[0]].burst
            }


def _left(bucket: Bucket, allowance: Allowance, now: float) -> float:
    return min(float(allowance.burst), bucket.left + allowance.rate * max(0.0, now - bucket.at))
