"""Click to first result: ours, dask-jobqueue on the same pool, and what neither can do without."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dask_jobqueue

from af_hub.controller.keys import ClusterKeys, UserCA, new_cluster_id
from tests.bench import stamps
from tests.bench.facility import CHECKOUT, MEMORY, SITE, SITE_ADDRESS, USER, Place

FLOOR_SECONDS = 60


def our_parameters() -> dict[str, str]:
    """Of the program ``ours``."""
    return {"site": SITE, "memory": MEMORY}


def bare_parameters(place: Place) -> dict[str, str]:
    """Of the program ``bare``."""
    return {"folder": str(place.folder), "memory": MEMORY.replace(" ", "")}


def ours(place: Place) -> dict[str, Any]:
    """``RemoteHTCondor``, ``Client``, a task."""
    return place.run("ours", **our_parameters())


def jobqueue(place: Place) -> dict[str, Any]:
    """``HTCondorCluster``, ``Client``, a task."""
    modules = place.folder / "modules"
    if not modules.exists():
        modules.mkdir()
        (modules / "dask_jobqueue").symlink_to(Path(dask_jobqueue.__file__).parent)
    environment = place.condor_environment()
    where = {"folder": str(place.folder), "modules": str(modules), "environment": environment}
    return place.run("jobqueue", site=SITE, address=SITE_ADDRESS, memory=MEMORY, **where)


def bare(place: Place) -> dict[str, Any]:
    """``dask scheduler``, ``dask worker``, ``Client``, a task."""
    return place.run("bare", **bare_parameters(place))


def floor(place: Place) -> dict[str, Any]:
    """Submit a spooled job with a kit such as ours until its process runs."""
    files = place.folder / "kit"
    if not files.exists():
        keys = ClusterKeys(place.folder / "state", new_cluster_id())
        keys.make(UserCA(place.folder / "state"), until=2**31)
        keys.folder.rename(files)
    argv = [sys.executable, "-m", "tests.bench.floor", str(files), str(place.folder / "started"), SITE]
    argv.append(place.facts["schedd"])
    done = subprocess.run(
        argv, cwd=CHECKOUT, env=place.condor_environment(), capture_output=True, text=True, timeout=FLOOR_SECONDS
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


MEASURES: dict[str, Callable[[Place], dict[str, Any]]] = {
    "ours": ours,
    "jobqueue": jobqueue,
    "floor": floor,
    "bare": bare,
}


def settled(place: Place, name: str) -> Callable[[], dict[str, Any]]:
    """A measure that leaves an empty queue, so that no run disturbs the next."""

    def measure() -> dict[str, Any]:
        run = MEASURES[name](place)
        place.settle()
        return run

    return measure


def hops(place: Place, run: Mapping[str, Any]) -> dict[str, float]:
    """Milestones of one of our runs, seconds after the click."""
    folder, cluster = Path(place.facts["folder"]), run["cluster"]["id"]

    def of(log: str, wanted: Mapping[str, str], read: Callable[[str], list[tuple[float, str]]]) -> dict[str, float]:
        return stamps.first(read((folder / log).read_text(errors="replace")), wanted)

    controller = [line for line in stamps.lines((folder / "controller.log").read_text()) if cluster in line[1]]
    job = next(text.rpartition(" ")[2] for _, text in controller if ": submitted " in text)
    number = f"{int(job.partition('.')[0])}.{int(job.partition('.')[2])}"
    passed = (
        stamps.of_events(run["cluster"]["events"])
        | stamps.first(controller, stamps.CONTROLLER)
        | of(f"hub/log/session-{USER}.log", stamps.filled(stamps.SESSION, cluster=cluster), stamps.lines)
        | of("pool/access-point/log/SchedLog", stamps.filled(stamps.ACCESS_POINT, job=number), stamps.condor_lines)
        | of(
            "pool/central-manager/log/MatchLog", stamps.filled(stamps.CENTRAL_MANAGER, job=number), stamps.condor_lines
        )
        | stamps.of_job(run["logs"])
    )
    own = {"the notebook knows that it runs": run["runs"], "its client is connected": run["connected"]}
    return stamps.since(run["began"], passed | own | {"the first result is there": run["ended"]})
