"""What the restart tests share: killing one part of a running demo, and a person's notebook with a Dask cluster in it."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from af_hub.demo.check import jobs
from af_hub.demo.notebook import Kernel
from af_hub.session.processes import Identity, descendants
from af_hub.testing.process import comes_true
from tests.journey.conftest import Place

USER, SITE = "cms-analyst", "T2_A"
CELL_SECONDS = 120
BACK_SECONDS = 60

ACCESS_POINT, CENTRAL_MANAGER = "access-point/etc/condor_config", "central-manager/etc/condor_config"
# What stands in the command line of each part's process, and what in its environment (HTCondor's daemons are told there who they are).
PARTS: dict[str, tuple[str, str]] = {
    "hub": (" -m jupyterhub ", ""),
    "controller": (" -m af_hub.controller ", ""),
    "forwarder": (" -m af_hub.forwarder.server ", ""),
    "proxy": ("/traefik --", ""),
    "session agent": (" -m af_hub.session.agent ", f"HOME=[^\0]*/{USER}\0"),
    "access point: schedd": ("^condor_schedd ", ACCESS_POINT),
    "access point: shared port": ("^condor_shared_port ", ACCESS_POINT),
    "access point: master": ("^[^ ]*/condor_master ", ACCESS_POINT),
    "central manager: collector": ("^condor_collector ", CENTRAL_MANAGER),
    "central manager: negotiator": ("^condor_negotiator ", CENTRAL_MANAGER),
    "central manager: shared port": ("^condor_shared_port ", CENTRAL_MANAGER),
    "central manager: master": ("^[^ ]*/condor_master ", CENTRAL_MANAGER),
    "IAM": (" -m af_hub.testing.iam ", ""),
    "cache": ("/cache.cfg ", ""),
    "mapping": (" -m af_hub.condor.watch ", ""),
    "data rules": (" -m af_hub.xrootd.watch ", ""),
}


def find(place: Place, part: str) -> list[Identity]:
    """Its processes in this demo; not those that it forked for a moment, as HTCondor's daemons do to answer a question."""
    found = {pid for pid in descendants(place.pid) if is_one(pid, *PARTS[part])}
    forked = set().union(*map(descendants, found))
    return [one for pid in found - forked if (one := Identity.of(pid))]


def is_one(pid: int, command_line: str, environment: str = "") -> bool:
    """Whether both are found in the process."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        variables = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return False
    return bool(re.search(command_line, arguments) and re.search(environment, variables))


def kill(place: Place, part: str) -> float:
    """``kill -9``; returns when it happened."""
    found = find(place, part)
    assert len(found) == 1, f"{part}: {found}"
    assert found[0].send(signal.SIGKILL)
    at = time.monotonic()
    assert comes_true(lambda: not found[0].alive(), 5)
    return at


@dataclass
class Notebook:
    """A kernel of the person's session, and what the facility says of the cluster in it."""

    place: Place
    browser: httpx.Client
    kernel: Kernel
    rest: httpx.Client
    folder: Path
    _flags: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def __post_init__(self) -> None:
        self.run(PREPARE)

    def run(self, code: str, seconds: float = CELL_SECONDS) -> str:
        """Run a cell; the last line that it printed. Before it may stand warnings of earlier cells."""
        return self.kernel.run(code, seconds).strip().rpartition("\n")[2]

    def told(self) -> str:
        """All that the client has said so far, on one line."""
        return self.run("print(' | '.join(told))")

    def create(self, **asked: int) -> None:
        """Ask for a cluster as the person does, without waiting for it."""
        more = "".join(f", {name}={value}" for name, value in asked.items())
        self.run(f"making = in_thread(lambda: RemoteHTCondor({SITE!r}, quiet=True, user_memory='512 MiB'{more}))")

    def created(self) -> str:
        """Wait for what :meth:`create` asked for, and compute with it; the cluster's id. In the kernel it is ``made``."""
        self.run("made = making()\nmade_client = Client(made, set_as_default=False)")
        assert self.run("print(made_client.submit(lambda: 6 * 7).result(timeout=60))") == "42"
        return self.run("print(made.cluster_id)")

    def close_made(self) -> None:
        """Give it back."""
        self.run("made_client.close(); made.close()")

    def start_computing(self) -> Path:
        """Begin tasks on all workers that end when the file that this returns is there."""
        flag = self.folder / f"go-{next(self._flags)}"
        self.run(f"futures = client.map(wait_for, [{str(flag)!r}] * 20, range(20), pure=False)")
        assert comes_true(lambda: len(list(flag.parent.glob(f"{flag.name}.*"))) >= 2, 30), "two tasks have begun"
        return flag

    def result(self, flag: Path) -> str:
        """Let the tasks end; the sum of what they gave, or the error in words."""
        flag.touch()
        return self.run("print(outcome(lambda: sum(client.gather(futures))))")

    def row(self, cluster: str) -> dict:
        """What the controller says of it."""
        answer = self.rest.get(f"api/clusters/{cluster}")
        answer.raise_for_status()
        return answer.json()

    def rows(self) -> list[dict]:
        """Clusters that are not over."""
        found = self.rest.get("api/clusters").raise_for_status().json()
        return [row for row in found if row["state"] not in ("closed", "failed", "lost")]

    def jobs(self) -> list[str]:
        """What the queue has of this person, as ``role cluster``."""
        account = f"u-cms-{USER}"
        return sorted(
            f"{job['AFRole']} {job['AFCluster']}" for job in jobs(self.place.facts) if job["Owner"] == account
        )

    def wanted_jobs(self) -> list[str]:
        """What the rows say that the queue should have: the first worker runs in the scheduler's job."""
        roles = [
            (row, role) for row in self.rows() for role in ["scheduler"] + ["worker"] * (row["workers_wanted"] - 1)
        ]
        return sorted(f"{role} {row['id']}" for row, role in roles)

    def agents(self) -> list[str]:
        """The clusters whose job agents run at sites."""
        found = []
        for pid in descendants(self.place.pid):
            if is_one(pid, r" af_hub\.job\.agent( |$)"):
                try:
                    found.append(json.loads(Path(f"/proc/{pid}/cwd/job.json").read_text())["cluster"])
                except OSError:
                    continue
        return sorted(found)


PREPARE = """
import logging, threading, time
from pathlib import Path
from dask.distributed import Client
from af_hub.client.remote import RemoteHTCondor

told = []
handler = logging.Handler()
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger("af_hub.client").addHandler(handler)

def wait_for(flag, number):
    Path(f"{flag}.{number}").touch()
    while not Path(flag).exists():
        time.sleep(0.05)
    return number ** 2

def outcome(ask):
    try:
        return ask()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def in_thread(make):
    made = {}
    def run():
        made["outcome"] = outcome(make)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    def wait():
        thread.join(100)
        found = made.get("outcome", "still under way")
        assert isinstance(found, RemoteHTCondor), found
        return found
    return wait
"""


def logged_in(browser: httpx.Client) -> bool:
    """Whether the cookies that this browser has are still a login."""
    try:
        home = browser.get("/hub/home")
    except httpx.HTTPError:
        return False
    return home.status_code == 200 and home.url.path == "/hub/home"


def server(browser: httpx.Client) -> dict:
    """The person's server, as the hub tells it; when it was started says which one it is."""
    found = browser.get(f"/hub/api/users/{USER}").raise_for_status().json()["servers"][""]
    return {key: found[key] for key in ("started", "url", "ready")}


def until(holds: Callable[[], bool], what: str, since: float, seconds: float = BACK_SECONDS) -> float:
    """Wait; seconds since then."""

    def quietly() -> bool:
        try:
            return holds()
        except (httpx.HTTPError, OSError):
            return False

    assert comes_true(quietly, seconds, pause=0.05), f"not within {seconds:g} s: {what}"
    return time.monotonic() - since


def calls_under_way(place: Place) -> bool:
    """Whether the controller has begun to submit."""
    return any((place.folder / "controller" / "calls").glob("*/files/*"))


def jobs_that_arrived(place: Place) -> int:
    """How many scheduler jobs the access point has ever taken, as its log of the queue says before anybody is answered."""
    log = Path(place.facts["pool_folder"], "access-point/spool/job_queue.log")
    return log.read_bytes().count(b' AFRole "scheduler"')
