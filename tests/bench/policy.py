"""``python -m tests.bench.policy``, as ``make bench-policy`` runs it: how long a decision takes in a facility of two thousand groups.

Each of ten thousand people is decided once, by ours; a sample of them by the plain loop over all rules that an index spares, beside it.
Best of five for each person, since the machine may be busy and the function may not.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles

from rich.console import Console
from rich.markdown import Markdown

from af_hub.iam.claims import Claims
from af_hub.policy.decide import decide
from tests.bench.facility import CHECKOUT
from tests.bench.figures import table
from tests.policy.large import GROUPS, PEOPLE, large_policy, people, plain_limits, same

PAGE = CHECKOUT / "docs" / "_figures" / "policy.md"
REPEATS = 5
SAMPLE = 50
"""Of so many people one is decided by the plain loop."""


def milliseconds(act: Callable[[], object]) -> float:
    """Of the quickest of a few runs, in time of the processor."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time_ns()
        act()
        best = min(best, time.process_time_ns() - began)
    return best / 1e6


def row(name: str, taken: list[float]) -> list[str]:
    """One line of the table."""
    return [name, *(f"{value:.3f}" for value in (median(taken), quantiles(taken, n=100)[98], max(taken)))]


def main() -> None:
    """Measure, compare the answers too, print, and write the page when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(CHECKOUT)}")
    arguments = parser.parse_args()
    policy, everybody, now = large_policy(), list(people()), time.time()
    index = milliseconds(lambda: policy.model_copy().index)
    ours = [milliseconds(lambda claims=claims: decide(policy, claims, now)) for claims in everybody]
    some: list[Claims] = everybody[::SAMPLE]
    assert all(same(decide(policy, claims, now)) == plain_limits(policy, claims, now) for claims in some)
    plain = [milliseconds(lambda claims=claims: plain_limits(policy, claims, now)) for claims in some]
    rows = [row("`decide`", ours), row("a loop over all rules", plain)]
    text = (
        f"{GROUPS} groups, each with a rule; {PEOPLE} people, each in a few. Milliseconds of the processor for one person; the index is made once a "
        f"policy, in {index:.0f} ms.\n\n"
        + table(["", "median", "99 of 100", "most"], rows)
        + f"\nThe loop takes {median(plain) / median(ours):.0f} times as long.\n"
    )
    Console().print(Markdown(text))
    if arguments.write:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
