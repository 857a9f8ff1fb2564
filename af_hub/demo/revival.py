"""A part of the demo that dies is started again, as systemd or Kubernetes would do it in production.

Serves whoever watches over the demo. Promises: at once after a first death, then with longer and longer pauses; what the dead
part left running in its process group is ended before; one sentence for the first death and one when it is given up. Each part
comes back on its address with its state, since its daemon was told both (see :mod:`af_hub.demo.facility`). What became of its
work is for the other parts to put right.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from af_hub.backoff import backoff
from af_hub.errors import Unavailable
from af_hub.testing.process import Daemon, how_it_ended, kill_group

STABLE_SECONDS = 60.0
"""A part that ran for so long begins anew: its next death is a first one."""

DEATHS_AT_MOST = 6
"""In a row. About half a minute of trying."""

LEAST_PAUSE, MOST_PAUSE = 0.5, 15.0


def pause_before_restart(deaths: int) -> float | None:
    """Seconds to wait before a part is started again that has died so many times in a row; None when there is no use in it."""
    if deaths >= DEATHS_AT_MOST:
        return None
    return 0.0 if deaths <= 1 else backoff(deaths - 1, LEAST_PAUSE, MOST_PAUSE)


@dataclass
class Life:
    """What is remembered of one part."""

    born: float
    deaths: int = 0
    due: float | None = None
    given_up: bool = False


class Revival:
    """Starts dead parts again.

    Parameters
    ----------
    say
        Takes a sentence for the person at the console.
    clock
        Seconds.
    obstacle
        Why nothing can be started now, as a sentence; empty when it can. Deaths while there is one say nothing of a part.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        obstacle: Callable[[], str] = lambda: "",
    ) -> None:
        self._say, self._clock, self._obstacle = say, clock, obstacle
        self._lives: dict[str, Life] = {}
        self._hindered = False

    def look(self, parts: Iterable[Daemon]) -> None:
        """See who has died, and start those whose time has come; returns at once."""
        obstacle = self._obstacle()
        if obstacle and not self._hindered:
            self._say(f"[red]{obstacle}[/]. Parts that end now are started again afterwards.")
        self._hindered = bool(obstacle)
        for part in parts:
            life = self._lives.setdefault(part.name, Life(self._clock()))
            if not part.alive() and life.due is None and not life.given_up:
                self._note_death(part, life)
            if self._hindered:
                life.deaths = 0
            elif life.due is not None and self._clock() >= life.due:
                self._start(part, life)

    def _note_death(self, part: Daemon, life: Life) -> None:
        now = self._clock()
        life.deaths = 1 if now - life.born >= STABLE_SECONDS else life.deaths + 1
        assert part.process is not None
        ended = how_it_ended(part.process.returncode)
        kill_group(part.process.pid)
        pause = pause_before_restart(life.deaths)
        if pause is None:
            life.given_up = True
            self._say(
                f"[red]The {part.name} has ended {life.deaths} times in a row[/] ({ended}) and is not started again. "
                f"Its log says why: {part.log}. When that is mended, end the demo and start it again."
            )
            return
        life.due = now + pause
        if life.deaths == 1:
            self._say(f"[yellow]The {part.name} has ended[/] ({ended}); it is started again. Its log: {part.log}")

    def _start(self, part: Daemon, life: Life) -> None:
        life.due, life.born = None, self._clock()
        try:
            part.start()
        except Unavailable as error:
            self._say(f"[red]{error}[/]")
            life.given_up = True
