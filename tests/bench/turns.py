"""Several things measured in turns, so that what the machine does meanwhile falls upon all of them."""

from collections.abc import Callable, Mapping
from typing import Any

Measure = Callable[[], dict[str, Any]]
Rounds = dict[str, list[dict[str, Any]]]


def in_turns(measures: Mapping[str, Measure], rounds: int, say: Callable[[str], None]) -> Rounds:
    """Each measure once a round, each round beginning with another one; without what the first round gave."""
    found: Rounds = {name: [] for name in measures}
    names = list(measures)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            run = measures[name]()
            say(f"round {number}: {name} {run['ended'] - run['began']:.2f} s")
            found[name].append(run)
    return {name: runs[1:] for name, runs in found.items()}


def times(rounds: Rounds) -> dict[str, list[float]]:
    """Seconds of each run."""
    return {name: [run["ended"] - run["began"] for run in runs] for name, runs in rounds.items()}
