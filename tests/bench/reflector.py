"""``python -m tests.bench.reflector``, as ``make bench-reflector`` runs it: how late the hub's event loop is while a hundred pods start.

A real hub with AFSpawner has one session, and watches pods and events of a simulated API (:mod:`tests.bench.busy_kube`). A task in the hub's own
loop, which the hub's configuration begins, sleeps 5 ms again and again and writes down how late it came back. In turns: nothing happens in the
cluster; a hundred pods start, each with ten changes and ten events. The first round is not counted.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from af_hub.testing.hub import RealHub
from af_hub.testing.iam import in_thread
from af_hub.testing.process import comes_true
from tests.bench.busy_kube import BusyKube
from tests.bench.facility import CHECKOUT, IMAGE, USER
from tests.bench.figures import table
from tests.bench.lag import LINE_SECONDS, most_of, recorded
from tests.bench.turns import in_turns

PAGE = CHECKOUT / "docs" / "_figures" / "reflector.md"
PODS = 100
AIM_SECONDS = 0.005
START_SECONDS = 60
NAMES = {"quiet": "nothing happens", "busy": f"{PODS} pods start"}
CONFIG = """
import sys
sys.path.insert(0, {checkout!r})
from tests.bench.lag import begin
begin({lags!r})
c.JupyterHub.cleanup_servers = True
c.AFSpawner.namespace = "sessions"
c.AFSpawner.port = {port}
c.AFSpawner.agent_image = "af-hub.test/agent:1"
c.AFSpawner.delete_grace_period = 0
"""


@contextmanager
def watching_hub(folder: Path, kube: BusyKube, lags: Path) -> Iterator[RealHub]:
    """A hub with one session, so that it watches."""
    config = CONFIG.format(checkout=str(CHECKOUT), lags=str(lags), port=kube.server_port)
    environ = {"AF_SPAWNER": "af_hub.spawner.AFSpawner", "KUBECONFIG": str(kube.kubeconfig(folder))}
    with RealHub(folder / "hub", environ=environ, extra_config=config) as hub:
        api = hub.api(hub.token_for(USER))
        api.post(f"/users/{USER}/server", json={"image": IMAGE, "size": "small"}).raise_for_status()

        def ready() -> bool:
            return bool(api.get(f"/users/{USER}").json()["servers"].get("", {}).get("ready"))

        if not comes_true(ready, START_SECONDS):
            sys.exit(f"the session does not start; see {hub.hub.log}")
        yield hub


def measure(folder: Path, rounds: int, seconds: float, say: Any) -> tuple[str, float]:
    """The table, and how much later the loop is with load."""
    lags = folder / "lags"
    with in_thread(BusyKube()) as kube, watching_hub(folder, kube, lags):

        def run(what: str) -> dict[str, Any]:
            began = time.time()
            if what == "busy":
                kube.let_start(PODS, seconds)
            else:
                time.sleep(seconds)
            ended = time.time()
            time.sleep(2 * LINE_SECONDS)
            measured = {kind: recorded(lags, kind, began, ended) for kind in ("late", "work")}
            return {"began": began, "ended": ended, **measured}

        found = in_turns({name: lambda name=name: run(name) for name in NAMES}, rounds, say)  # type: ignore[misc]
        changes = kube.changes / (rounds + 1)
    late = {name: [most_of(one["late"]) for one in runs] for name, runs in found.items()}
    work = {name: median(most_of(one["work"]) for one in runs) for name, runs in found.items()}
    more = median(late["busy"]) - median(late["quiet"])
    rows = [
        [
            NAMES[name],
            milliseconds(median(lag for run in runs for lag in run["late"])),
            milliseconds(median(late[name])),
            f"{milliseconds(min(late[name]))} to {milliseconds(max(late[name]))}",
            milliseconds(max(lag for run in runs for lag in run["late"])),
            milliseconds(work[name]),
            milliseconds(max(one for run in runs for one in run["work"])),
        ]
        for name, runs in found.items()
    ]
    head = [
        "the hub's event loop comes late",
        "median",
        "99 %",
        "99 %, of the rounds",
        "latest",
        "its own work, 99 %",
        "most",
    ]
    took = median(run["ended"] - run["began"] for run in found["busy"])
    return (
        table(head, rows)
        + f"\nThe load adds {milliseconds(more)} at 99 % (aim: ≤ {milliseconds(AIM_SECONDS)}). {rounds} rounds; {changes:.0f} changes of pods "
        f"and events in {took:.0f} s each, {changes / took:.0f} a second.\n",
        more,
    )


def milliseconds(value: float) -> str:
    """With one digit behind the point."""
    return f"{value * 1000:.1f} ms"


def main() -> None:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reflector", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="that count; one more comes first")
    parser.add_argument("--seconds", type=float, default=30, help="in which all pods start")
    parser.add_argument("--write", action="store_true", help="write the table into docs/_figures")
    parser.add_argument("--check", action="store_true", help="exit status 1 when the aim is not met")
    asked = parser.parse_args()
    console = Console(width=140)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=CHECKOUT, ignore_cleanup_errors=True) as folder:
        text, more = measure(Path(folder), asked.rounds, asked.seconds, lambda line: console.print(f"[dim]{line}[/]"))
    console.print(Markdown(text))
    if asked.write:
        PAGE.write_text(text)
    if asked.check and more > AIM_SECONDS:
        sys.exit("the hub's loop is too late")


if __name__ == "__main__":
    main()
