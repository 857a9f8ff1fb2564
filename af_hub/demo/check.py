"""``make demo-check``: a user's way through a demo of its own, hop by hop, without a person.

Real HTTP login, real spawn, the welcome notebook run in the spawned server's kernel, and a look at the pool, the dashboard and the
disk from outside. One line a hop; a hop that fails ends the way and shows why, and everything is taken down all the same.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nbformat
from rich.console import Console
from rich.markup import escape

from af_hub.demo.keyfiles import readable_keys
from af_hub.demo.notebook import Kernel, open_kernel
from af_hub.demo.people import demo_users
from af_hub.demo.run import saying_what_to_change
from af_hub.demo.why import explain
from af_hub.errors import AFError, Unavailable
from af_hub.session.processes import descendants, die_with
from af_hub.testing.browser import sign_in, xsrf_headers
from af_hub.testing.network import AS_USER
from af_hub.testing.process import Daemon, comes_true

USER, IMAGE, SITE = "cms-analyst", "python-analysis", "T2_A"
START_SECONDS, SPAWN_SECONDS, CELL_SECONDS, CLOSED_SECONDS = 120, 90, 150, 10
RESULT = "AF-HUB-RESULT "
PREFIX, KEPT = ".demo-check-", "hops.json"
OF_CLUSTERS = ("session", "controller", "forwarder", "access point", "sites")


class HopFailed(AFError):
    """A hop did not do what it promises."""


PROTECTED = """
import uproot
from af_hub.client.data import dataset

with uproot.open(dataset("protected")[0]) as file:
    print(file["Events"].num_entries, "events")
"""


@dataclass
class Hop:
    """One step of the way, and how it went."""

    name: str
    seconds: float = 0.0
    ok: bool = False
    says: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


@dataclass
class Way:
    """The hops so far; each is printed as it ends, and one that fails with what the parts concerned say.

    Parameters
    ----------
    folder
        The demo's.
    url, browser
        The hub's address and a browser that is logged in there, as soon as they are known.
    """

    console: Console
    folder: Path
    hops: list[Hop] = field(default_factory=list)
    url: str = ""
    browser: httpx.Client | None = field(default=None, repr=False)

    @contextmanager
    def hop(self, name: str, *concerned: str) -> Iterator[Hop]:
        """Do a hop: ok when the block ends, failed when it raises one of the errors that a hop may meet.

        ``concerned`` are the parts whose logs may say why, as :mod:`af_hub.demo.why` names them.
        """
        hop = Hop(name)
        self.hops.append(hop)
        began = time.monotonic()
        try:
            yield hop
            hop.ok = True
        except (AFError, OSError, httpx.HTTPError, AssertionError) as error:
            hop.says = str(error) or type(error).__name__
            raise HopFailed(hop.says) from error
        finally:
            hop.seconds = round(time.monotonic() - began, 2)
            mark = "[green]ok[/]    " if hop.ok else "[red]FAILED[/]"
            self.console.print(f"{hop.name:<34}{hop.seconds:7.2f} s  {mark}  {escape(hop.says)}")
            if hop.says and not hop.ok:
                self.tell_why(concerned)

    def tell_why(self, concerned: tuple[str, ...]) -> None:
        """What can be known from outside about a hop that failed."""
        for line in explain(self.folder, concerned, self.url, self.browser):
            self.console.print(f"  {line}", markup=False, style="dim")


def check(checkout: Path, keep: bool, with_parent: bool = False) -> list[Hop]:
    """Go the whole way in a new folder, which is taken away afterwards unless ``keep`` or a hop failed.

    Raises
    ------
    Unavailable
        When the folder cannot be made; the message says what to change.
    """
    if with_parent:
        die_with(os.getppid(), signal.SIGINT)
    remove_left_behind(checkout)
    with saying_what_to_change(checkout), own_folder(checkout) as folder:
        way = Way(Console(highlight=False, soft_wrap=True), folder / "demo")
        began = time.monotonic()
        go_and_come_back(way)
        whole = all(hop.ok for hop in way.hops)
        if keep or not whole:
            (folder / KEPT).write_text(json.dumps([hop.as_dict() for hop in way.hops], indent=1) + "\n")
            way.console.print(f"Logs and all files: {folder}")
        way.console.print(
            f"{'All hops hold' if whole else 'NOT all hops hold'}: {time.monotonic() - began:.0f} s in all."
        )
    return way.hops


@contextmanager
def own_folder(checkout: Path) -> Iterator[Path]:
    """A new folder in the checkout, so that it is found; taken away at the end when it was not marked as kept."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=checkout))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            if not (folder / KEPT).exists():
                shutil.rmtree(folder, ignore_errors=True)


def remove_left_behind(checkout: Path) -> None:
    """Take away the folders of earlier checks that were killed; nobody has asked to keep them."""
    for folder in checkout.glob(f"{PREFIX}*"):
        locks = [folder / "lock", folder / "demo" / "lock"]
        if locks[0].exists() and not (folder / KEPT).exists() and not any(map(is_held, locks)):
            shutil.rmtree(folder, ignore_errors=True)


def is_held(lock: Path) -> bool:
    """Whether somebody holds the lock file."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def go_and_come_back(way: Way) -> None:
    """Start the facility, go, and take it down whatever happened."""
    argv = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(way.folder), "--port", "0", "--with-parent"]
    facility = Daemon("demo", [*argv, "--ready-fd", "{ready_fd}"], way.folder.with_name("demo.log"))
    try:
        with way.hop("facility starts") as hop:
            facts = facility.start().ready(START_SECONDS)
            way.url = facts["url"]
            hop.says = f"hub at {way.url}"
        # A long path makes the demo choose a folder of its own.
        way.folder = Path(facts["folder"])
        go(way, facts)
    except HopFailed:
        pass
    finally:
        _take_down(way, facility)


def go(
    way: Way,
    facts: dict[str, Any],
    in_session: Callable[[Kernel], None] | None = None,
    left: Callable[[], list[str]] | None = None,
) -> None:
    """The way of the CMS analyst through the facility at ``facts["url"]``.

    Parameters
    ----------
    in_session
        What more is done in the session, after the notebook.
    left
        What is still there of a session that is over; its folder, where it is none of a pod.
    """
    left = left or (lambda: [str(path) for path in Path(facts["folder"], "hub", "run").glob("*/*")])
    with way.hop("outsider is refused", "hub", "IAM") as hop:
        hop.says = refusal(facts["url"], "outsider")
    with way.hop("login by IAM", "hub", "IAM") as hop:
        browser = sign_in(facts["url"], USER)
        hop.says = f"{USER} is logged in"
    way.browser = browser
    with closing(browser):
        with way.hop("session starts", "hub", "session") as hop:
            spawn(browser, USER, IMAGE)
            hop.says = f"JupyterLab of {IMAGE} answers"
        with open_kernel(browser, f"/user/{USER}/") as kernel:
            run_notebook(way, facts, browser, kernel)
            if in_session:
                in_session(kernel)
        with way.hop("session ends", "hub", "session"):
            stop_session(browser, USER)
            wait_until(lambda: not left(), lambda: f"still there: {', '.join(left())}")


def run_notebook(way: Way, facts: dict[str, Any], browser: httpx.Client, kernel: Kernel) -> None:
    """All cells of the welcome notebook; a look from outside just before the cell that closes the cluster."""
    cells = welcome_cells()
    closing = next(index for index, cell in enumerate(cells) if "cluster.close()" in cell)
    first_of_analysis = next(index for index, cell in enumerate(cells) if "dimuon_spectrum" in cell)
    with way.hop("notebook: token, cache, data, sites", "session", "cache", "origin", "controller"):
        kernel.run(cells[0], CELL_SECONDS)
        assert kernel.run("print(report.ok)", CELL_SECONDS).strip() == "True", kernel.run("print(report)", CELL_SECONDS)
    with way.hop("notebook: protected data", "session", "cache", "origin", "data rules", "IAM") as hop:
        hop.says = kernel.run(PROTECTED, CELL_SECONDS).strip()
        assert hop.says.endswith(" events"), hop.says
    with way.hop(f"notebook: Dask cluster at {SITE}", *OF_CLUSTERS) as hop:
        kernel.run(cells[1], CELL_SECONDS)
        hop.says = kernel.run("print(client.submit(lambda: 1 + 1).result(timeout=60))", CELL_SECONDS).strip()
        assert hop.says == "2", f"1 + 1 gave {hop.says}"
    with way.hop("notebook: two workers", *OF_CLUSTERS):
        for cell in cells[2:first_of_analysis]:
            kernel.run(cell, CELL_SECONDS)
    with way.hop("notebook: data, spectrum, plot", "cache", "origin", *OF_CLUSTERS):
        for cell in cells[first_of_analysis:closing]:
            kernel.run(cell, CELL_SECONDS)
    with way.hop("dashboard through the hub", "proxy", "controller", "forwarder") as hop:
        hop.says = see_dashboard(browser, kernel.run("print(cluster.dashboard_link)", CELL_SECONDS).strip())
    with way.hop("jobs are hers, and charged right", "access point") as hop:
        hop.says = judge_jobs(jobs(facts))
    with way.hop("keys lie in 0600 files only"):
        loose = readable_keys(Path(facts["folder"]))
        assert not loose, f"others may read {', '.join(map(str, loose))}"
    with way.hop("notebook: close", *OF_CLUSTERS):
        printed = "".join(kernel.run(cell, CELL_SECONDS) for cell in cells[closing:])
    with way.hop("results") as hop:
        hop.says = judge_result(printed, facts)
    with way.hop("sandbox, spool and keys are gone", "controller", "access point", "sites"):
        wait_until(lambda: not jobs(facts), "the queue is empty")
        wait_until(lambda: not list(leftovers(facts)), lambda: f"still there: {', '.join(map(str, leftovers(facts)))}")


def welcome_cells() -> list[str]:
    """The code of the welcome notebook, cell by cell."""
    notebook = nbformat.read(Path(__file__).with_name("Welcome.ipynb"), as_version=4)  # type: ignore[no-untyped-call]
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def refusal(url: str, username: str) -> str:
    """The sentence with which the hub refuses somebody.

    Raises
    ------
    HopFailed
        When it does not, or does not say why.
    """
    try:
        sign_in(url, username).close()
    except PermissionError as error:
        if "is in none of the groups" in str(error):
            return str(error)
    raise HopFailed(f"{username} was not refused with the group that is missing")


def spawn(browser: httpx.Client, username: str, image: str, size: str = "small") -> None:
    """Fill in the spawn page and wait until the server answers."""
    page = browser.get(f"/hub/spawn/{username}")
    page.raise_for_status()
    form = {"image": image, "size": size}
    browser.post(f"/hub/spawn/{username}", headers=xsrf_headers(browser), data=form).raise_for_status()

    def serves() -> bool:
        lab = browser.get(f"/user/{username}/lab")
        return lab.status_code == 200 and lab.url.path.startswith(f"/user/{username}/lab")

    wait_until(serves, "JupyterLab answers", SPAWN_SECONDS)


def stop_session(browser: httpx.Client, username: str) -> None:
    """Stop the server, as the hub's home page does."""
    browser.delete(f"/hub/api/users/{username}/server", headers=xsrf_headers(browser)).raise_for_status()

    def gone() -> bool:
        user = browser.get(f"/hub/api/users/{username}")
        return user.status_code == 200 and not user.json().get("servers")

    wait_until(gone, "the server has stopped", SPAWN_SECONDS)


def see_dashboard(browser: httpx.Client, link: str) -> str:
    """Open the dashboard in the browser that is logged in; a stranger must not see it."""
    page = browser.get(link)
    assert page.status_code == 200 and "Dask" in page.text, f"{link} answered {page.status_code}"
    stranger = httpx.get(link, follow_redirects=True, timeout=20)
    assert "Sign in with IAM" in stranger.text, f"a stranger got {stranger.status_code} and no login at {link}"
    return link


def jobs(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What the queue says of all jobs."""
    wanted = ["Owner", "AccountingGroup", "AuthTokenSubject", "AFRole", "AFCluster", "RemoteHost"]
    pool = Path(facts["pool_folder"])
    path = f"{facts['condor_prefix']}/usr/bin"
    environment = {
        "PATH": f"{path}:{os.defpath}",
        "HOME": str(pool),
        "CONDOR_CONFIG": str(pool / "operator/etc/condor_config"),
    }
    # As root, HTCondor's tools become another user, who may not read the pool's folder.
    argv = [
        *(AS_USER if os.geteuid() == 0 else ()),
        f"{path}/condor_q",
        "-allusers",
        "-json",
        "-attributes",
        ",".join(wanted),
    ]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise Unavailable(f"condor_q failed: {done.stderr.strip()}")
    found: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return found


def judge_jobs(found: list[dict[str, str]]) -> str:
    """One sentence when all jobs run under the account, the accounting group and the token of the CMS analyst."""
    subject = next(user["subject"] for user in demo_users() if user["username"] == USER)
    account = f"u-cms-{USER}"
    wanted = {"Owner": account, "AccountingGroup": f"cms.itcms.{account}", "AuthTokenSubject": subject}
    assert found, "the queue is empty"
    for job in found:
        for name, value in wanted.items():
            assert job.get(name) == value, f"a job's {name} is {job.get(name)!r}, wanted {value!r}"
    return f"{len(found)} jobs, owner {account}, group cms.itcms"


def judge_result(printed: str, facts: dict[str, Any]) -> str:
    """One sentence when the notebook's summary says that everything was read through the cache and the peaks are right."""
    line = next((line for line in printed.splitlines() if line.startswith(RESULT)), None)
    assert line, "the notebook printed no result"
    result = json.loads(line.removeprefix(RESULT))
    cache = facts["cache"].removeprefix("root://")
    assert result["data_servers"] == [cache], f"data came from {result['data_servers']}, not from the cache {cache}"
    for name, known in result["known"].items():
        assert abs(result["peaks"][name] / known - 1) < 0.005, f"{name} at {result['peaks'][name]} GeV, wanted {known}"
    peaks = ", ".join(f"{name} {mass:.2f}" for name, mass in result["peaks"].items())
    return f"{result['pairs']} pairs by {len(result['workers'])} workers through the cache; {peaks} GeV"


def leftovers(facts: dict[str, Any]) -> Iterator[Path]:
    """What a closed cluster should have taken along: sandboxes, spooled files, key files of the cluster."""
    pool, folder = Path(facts["pool_folder"]), Path(facts["folder"])
    yield from pool.glob("T2_*/execute/dir_*")
    yield from pool.glob("access-point/spool/[0-9]*/*")
    yield from folder.glob("controller/clusters/*")
    yield from folder.glob("hub/run/*/clusters/*")


def wait_until(holds: Callable[[], bool], what: str | Callable[[], str], seconds: float = CLOSED_SECONDS) -> None:
    """Ask until it holds.

    Raises
    ------
    HopFailed
        When it does not within ``seconds``.
    """
    if not comes_true(holds, seconds, pause=0.1):
        raise HopFailed(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")


def _take_down(way: Way, facility: Daemon) -> None:
    """End the facility as Ctrl-C does; nothing of it may be left running."""
    try:
        with way.hop("facility stops, nothing is left", "demo"):
            leader = facility.process.pid if facility.process else 0
            below = descendants(leader) if leader else set()
            facility.stop(grace=40)
            left = [pid for pid in below if Path(f"/proc/{pid}").exists()]
            assert not left, f"processes {left} are still there"
    except HopFailed:
        pass
