"""The states of a Dask cluster, in the order in which it goes through them."""

from enum import StrEnum


class State(StrEnum):
    """What a Dask cluster is doing; ``closed``, ``failed`` and ``lost`` are for good."""

    REQUESTED = "requested"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"
    LOST = "lost"

    @property
    def over(self) -> bool:
        """Whether it never changes again."""
        return self in (State.CLOSED, State.FAILED, State.LOST)


class Role(StrEnum):
    """What a batch job of a cluster runs; stands in its ad as ``AFRole``."""

    SCHEDULER = "scheduler"
    WORKER = "worker"
