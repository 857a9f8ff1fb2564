"""How often one person may have registries asked about images that are not in the facility's list.

Registries count by address, and the hub often shares its address with the nodes: without this, one person who types many names would close
a registry for everybody. What counts is a question that is really asked; whether it is one is for :mod:`af_hub.registry.prover` to say.
Decides only, and remembers.
"""

import math
from collections.abc import Callable

from af_hub.allowances import Allowance, Limiter
from af_hub.errors import ImageRefused
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import Reference

PERSON = "person"


class Askers:
    """Who has had what asked lately; ``clock`` is in seconds, only ever forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._limiter = Limiter({}, clock)

    def count(self, username: str, image: Reference, per_hour: int) -> None:
        """Count one question: ``per_hour`` at once, and as many an hour in the long run.

        Raises
        ------
        ImageRefused
            When it is one too many, which is then not counted.
        """
        self._limiter.allow(PERSON, Allowance(per_hour / 3600, per_hour))
        if seconds := self._limiter.ask(PERSON, username):
            raise ImageRefused(
                f"You have had registries asked about many images lately ({per_hour} an hour are allowed). "
                f"{image} can be tried again in {math.ceil(seconds)} s.",
                ImageReason.TOO_MANY,
            )
