"""How an IAM does, and when to ask it again after it failed: pure but for what it remembers. Instants in Unix seconds.

Two kinds of failure are told apart. What concerns one person makes the hub wait longer and longer for that person. What concerns the whole
IAM (nobody listens, too slow, 429, 5xx), a few times in a row with nothing good in between, makes it wait for everybody: then one request at
a time asks whether the IAM is back, a different person's each time, and when it is, everybody's waiting is over. So an outage costs the IAM
a handful of requests a minute, however many people there are, and its end is noticed soon.
"""

from dataclasses import dataclass
from math import inf

from af_hub.backoff import backoff
from af_hub.errors import IAMAway, Unavailable

FAILURES = 3
"""So many in a row, of whomever, and the IAM counts as down."""

PROBE_SECONDS = (2.0, 15.0)
"""Between two looks whether it is back: after the first ones, and at most. Two of the longest and a slow answer still fit into a minute."""

PERSON_SECONDS = (5.0, 300.0)
LONGEST_PAUSE = 300.0
"""However long an IAM wants to be left alone (``Retry-After``)."""


@dataclass
class Trouble:
    """How often in a row the IAM failed for somebody, since when, and when to ask again."""

    failures: int = 0
    at: float = 0.0
    again_at: float = 0.0
    why: str = ""


class Health:
    """How one issuer does, and what it has failed whom."""

    def __init__(self) -> None:
        self._whole = Trouble()
        self._down_since: float | None = None
        self._up_since = -inf
        self._people: dict[str, Trouble] = {}

    @property
    def down_since(self) -> float | None:
        """Since when the whole IAM is away; None while it is not."""
        return self._down_since

    def why(self, username: str) -> str:
        """What went wrong last for this user; empty when all is well."""
        return self._whole.why if self._down_since is not None else self._trouble(username).why

    def failures(self, username: str) -> tuple[float | None, int]:
        """Something that changes when the IAM fails this user, or goes down."""
        return self._down_since, self._trouble(username).failures

    def again_at(self, username: str) -> float:
        """From when this user's IAM may be asked for them again; 0 when it may be now."""
        if self._down_since is not None:
            return self._whole.again_at
        return self._trouble(username).again_at

    def tried_at(self, username: str) -> float:
        """When this user's last failure was; who was tried longest ago is the best probe."""
        found = self._people.get(username)
        return found.at if found else 0.0

    def ask(self, username: str, now: float) -> None:
        """Say that somebody is about to ask; while the IAM is away, that is the one probe for a while.

        Raises
        ------
        Unavailable
            When it is too early to ask.
        """
        if now < self.again_at(username):
            raise Unavailable(self.why(username))
        if self._down_since is not None:
            self._whole.again_at = now + PROBE_SECONDS[1]

    def failed(self, username: str, error: Unavailable, now: float) -> bool:
        """Remember a failure; True when the IAM counts as down from now on."""
        trouble = self._trouble(username)
        failures, pause = trouble.failures + 1, 0.0
        if isinstance(error, IAMAway):
            pause = min(LONGEST_PAUSE, max(0.0, error.pause))
            self._whole = _worse(self._whole, now, str(error), pause, *PROBE_SECONDS)
        self._people[username] = _worse(Trouble(failures - 1), now, str(error), pause, *PERSON_SECONDS)
        if self._down_since is None and self._whole.failures >= FAILURES:
            self._down_since = now
            return True
        return False

    def served(self, now: float) -> bool:
        """Remember that the IAM gave somebody an answer, whatever it was; True when it was down until now."""
        was_down = self._down_since is not None
        if was_down:
            self._up_since, self._down_since = now, None
        self._whole = Trouble()
        return was_down

    def forget(self, username: str) -> None:
        """Whatever failed for this user is over, or was another login."""
        self._people.pop(username, None)

    def _trouble(self, username: str) -> Trouble:
        """This user's trouble; what came before or in an outage of the whole IAM went with it."""
        found = self._people.get(username)
        return found if found and found.at > self._up_since else Trouble()


def _worse(before: Trouble, now: float, why: str, pause: float, least: float, most: float) -> Trouble:
    failures = before.failures + 1
    return Trouble(failures, now, now + max(pause, backoff(failures, least, most)), why)
