"""Numbers of several rounds as tables: medians, ratios, shares. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """One thing beside another, by the medians of the same rounds, and what it should not exceed."""

    ours: str
    theirs: tuple[str, ...]
    aim: float | None

    def of(self, rounds: Mapping[str, Sequence[float]]) -> float:
        """The ratio; several references are added up."""
        return median(rounds[self.ours]) / sum(median(rounds[name]) for name in self.theirs)


def seconds(value: float) -> str:
    """With two digits behind the point."""
    return f"{value:.2f} s"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def describe_rounds(rounds: Mapping[str, Sequence[float]], names: Mapping[str, str]) -> str:
    """Median, least and most of each."""
    return table(
        ["", "median", "least", "most"],
        [[names[name], *map(seconds, (median(times), min(times), max(times)))] for name, times in rounds.items()],
    )


def describe_ratios(rounds: Mapping[str, Sequence[float]], ratios: Iterable[Ratio], names: Mapping[str, str]) -> str:
    """Each ratio with its aim."""
    return table(
        ["", "ratio", "aim"],
        [
            [
                f"{names[one.ours]} / {' + '.join(names[name] for name in one.theirs)}",
                f"{one.of(rounds):.2f}",
                "" if one.aim is None else f"≤ {one.aim:g}",
            ]
            for one in ratios
        ],
    )


def describe_hops(rounds: Sequence[Mapping[str, float]]) -> str:
    """Milestones in the order of their medians, each with the share of the time since the one before it.

    Parameters
    ----------
    rounds
        For each round when every milestone was passed, seconds after the click. One that a round lacks is left out of it.
    """
    names = {name for passed in rounds for name in passed}
    medians = sorted((median(passed[name] for passed in rounds if name in passed), name) for name in names)
    whole = medians[-1][0]
    steps = zip([0.0, *(at for at, _ in medians)], medians, strict=False)
    return table(
        ["milestone", "after the click", "since the one before", "share"],
        [[name, seconds(at), seconds(at - before), f"{(at - before) / whole:.0%}"] for before, (at, name) in steps],
    )


def describe_memory(parts: Mapping[str, Sequence[float]]) -> str:
    """PSS of each kind of process, MiB; several of a kind are added up, and counted."""
    return table(
        ["process", "MiB", "processes"],
        [[name, f"{sum(sizes):.0f}", str(len(sizes))] for name, sizes in parts.items()],
    )
