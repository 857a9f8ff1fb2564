"""What people are told of a session that starts, or that is over: the shapes of it, whoever says it; pure."""

from dataclasses import dataclass

from af_hub.session.options import Reason


@dataclass(frozen=True)
class Step:
    """How far a session is, of 100, and what it does now."""

    percent: int
    sentence: str


@dataclass(frozen=True)
class Ended:
    """Why a session is over, or cannot come up."""

    reason: Reason
    sentence: str


@dataclass(frozen=True)
class Chosen:
    """What people know of the pod's image and size: names, and bytes to pull (0 when not known)."""

    image: str
    image_bytes: int = 0
    memory: int = 0


TAKEN = Ended(
    Reason.DIED,
    "Your session was taken from its node, as happens when a node is emptied for maintenance. Start it again; it finds another node.",
)
"""Of a pod that somebody else removes, or has removed."""


def last_line(text: str) -> str:
    """Of what a program printed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return plain(lines[-1]) if lines else "nothing"


def plain(text: str) -> str:
    """What others said, at most 300 characters of it, without those that a terminal or a page would obey."""
    return "".join(one if one.isprintable() else " " for one in text[:300])
