"""``python -m tests.bench``, as ``make bench`` runs it: measure, print, and write the tables into docs.

Each table's things are measured in turns, in the same run; the order changes from round to round, and the first round is not counted. Nothing
is started ahead: the demo, the plain JupyterHub and one session run, no Dask cluster, no job, no kernel.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from af_hub.demo import check
from tests.bench import clusters, logins, machine, scales
from tests.bench.facility import CHECKOUT, USER, Place, running
from tests.bench.figures import Ratio, describe_hops, describe_memory, describe_ratios, describe_rounds
from tests.bench.turns import in_turns, times

PAGES = CHECKOUT / "docs" / "_figures"
CLUSTERS = {
    "ours": "AF Hub: `RemoteHTCondor`, scheduler and worker at the site",
    "jobqueue": "dask-jobqueue: `HTCondorCluster`, worker at the site",
    "floor": "pool's floor: submit to process of a spooled job",
    "bare": "bare `dask scheduler` and `dask worker`",
}
CLUSTER_RATIOS = (Ratio("ours", ("jobqueue",), 1.0), Ratio("ours", ("floor", "bare"), 1.25))
LOGINS = {"ours": "AF Hub", "plain": "plain JupyterHub, simple local spawner"}
LOGIN_RATIOS = (Ratio("ours", ("plain",), 1.25),)


def cluster_pages(place: Place, rounds: int, say: Callable[[str], None]) -> dict[str, str]:
    """Click to first result."""
    found = in_turns({name: clusters.settled(place, name) for name in CLUSTERS}, rounds, say)
    taken = times(found)
    hops = [clusters.hops(place, run) for run in found["ours"]]
    return {
        "clusters": describe_rounds(taken, CLUSTERS),
        "cluster-ratios": describe_ratios(taken, CLUSTER_RATIOS, CLUSTERS),
        "cluster-hops": describe_hops(hops),
    }


def login_pages(place: Place, hub: logins.PlainHub, rounds: int, say: Callable[[str], None]) -> dict[str, str]:
    """Login to JupyterLab."""
    found = in_turns({"ours": lambda: logins.ours(place), "plain": lambda: logins.plain(hub)}, rounds, say)
    taken = times(found)
    return {
        "logins": describe_rounds(taken, LOGINS),
        "login-ratios": describe_ratios(taken, LOGIN_RATIOS, LOGINS),
        "login-hops": describe_hops([logins.hops(run) for run in found["ours"]]),
        "login-plain-hops": describe_hops([logins.hops(run) for run in found["plain"]]),
    }


def measure(folder: Path, rounds: int, parts: list[str], say: Callable[[str], None]) -> dict[str, str]:
    """The tables, by name."""
    began, pages = time.monotonic(), dict[str, str]()
    with (
        running(folder) as place,
        logins.plain_hub(folder / "plain", logins.image_python()) as hub,
    ):
        if "clusters" in parts:
            pages |= cluster_pages(place, rounds, say)
        if "memory" in parts:
            pages |= {name: describe_memory(found) for name, found in scales.weigh_all(place, hub).items()}
            say("memory")
        if "logins" in parts:
            check.stop_session(place.browser, USER)
            pages |= login_pages(place, hub, rounds, say)
    return pages | {"machine": machine.describe(rounds, (time.monotonic() - began) / 60)}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Figures beside what people know.")
    parser.add_argument("--rounds", type=int, default=5, help="that count; one more comes first")
    parser.add_argument("--only", action="append", choices=["clusters", "logins", "memory"], help="may be repeated")
    parser.add_argument(
        "--write", action="store_true", help="write the tables into docs/_figures; all parts are needed"
    )
    asked = parser.parse_args()
    if asked.write and asked.only:
        sys.exit("--write wants all parts, or tables of two runs would stand side by side")
    console = Console(width=140)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=CHECKOUT, ignore_cleanup_errors=True) as folder:
        parts = asked.only or ["clusters", "logins", "memory"]
        pages = measure(Path(folder), asked.rounds, parts, lambda text: console.print(f"[dim]{text}[/]"))
    for name, text in pages.items():
        console.print(f"\n[bold]{name}[/]")
        console.print(Markdown(text))
        if asked.write:
            PAGES.mkdir(exist_ok=True)
            (PAGES / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
