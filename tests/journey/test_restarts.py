"""Each part of the facility killed (``kill -9``) once while a Dask cluster computes and once while one is being made.

After it the person is logged in with the same cookie and has the same server; the cluster is there; the jobs in the queue are those
that the rows want, none without a row and none twice; and the work ends right. The forwarder and the session agent hold the data
path: when they go, the client's error says so, and the next client works.

In ``make test`` each part dies once, where it hurts most; ``make test-long`` has every part, every daemon of HTCondor's, both times.
"""

import time
from collections.abc import Callable

import pytest

from af_hub.demo.check import spawn, stop_session, wait_until
from af_hub.demo.notebook import open_kernel
from af_hub.session.probes import xrootd_answers
from af_hub.testing.browser import sign_in
from af_hub.testing.process import comes_true
from tests.journey.conftest import Place
from tests.journey.dask_cluster import wait_for
from tests.journey.restarting import (
    CELL_SECONDS,
    PARTS,
    PREPARE,
    SITE,
    USER,
    Notebook,
    calls_under_way,
    find,
    jobs_that_arrived,
    kill,
    logged_in,
    server,
    until,
)

pytestmark = pytest.mark.real

SUM = str(sum(number**2 for number in range(20)))
DATA_PATH = ("forwarder", "session agent")
# What Dask's error says, and what the notebook prints beside it.
WORDS = "Please check your connection and re-run your work."
SAID = {
    "forwarder": "broke: the connection to the forwarder broke. The cluster lives on",
    "session agent": "broke: the session agent was started anew. The cluster lives on",
}
POOL = [part for part in PARTS if part.startswith(("access point", "central manager"))]
ALL = ["hub", "controller", "forwarder", "proxy", "session agent", *POOL]
COMPUTING = ["forwarder", "session agent"]
CREATING = ["hub", "controller", "proxy", "access point: schedd", "central manager: collector"]


def cases(often: list[str]) -> list:
    """All parts, those that are not in ``often`` for long runs only."""
    return [pytest.param(part, marks=() if part in often else pytest.mark.long) for part in ALL]


@pytest.fixture(scope="module")
def notebook(place, session, tmp_path_factory):
    """A kernel in the session of the CMS analyst."""
    with open_kernel(session, f"/user/{USER}/") as kernel, place.controller(place.token(USER)) as rest:
        yield Notebook(place, session, kernel, rest, tmp_path_factory.mktemp("flags"))


@pytest.fixture(scope="module")
def cluster(notebook):
    """A Dask cluster with two workers, which survives all of it."""
    notebook.create(workers=2)
    made = notebook.created()
    notebook.run("cluster, client = made, made_client\nclient.wait_for_workers(2, timeout=60)")
    yield made
    notebook.run("client.close(); cluster.close()")
    wait_until(lambda: not notebook.jobs(), lambda: f"{notebook.jobs()}, {notebook.row(made)}", 30)


@pytest.fixture
def unharmed(notebook):
    """What must be as before, and how to look; whatever the test did, its clusters are gone afterwards."""
    before = server(notebook.browser)
    known = {row["id"] for row in notebook.rows()}
    yield lambda: check_unharmed(notebook, before)
    for row in notebook.rows():
        if row["id"] not in known:
            notebook.rest.delete(f"api/clusters/{row['id']}")


def check_unharmed(notebook: Notebook, before: dict) -> None:
    """Logged in, same server, jobs as the rows want them, one agent for each cluster."""
    assert logged_in(notebook.browser)
    assert server(notebook.browser) == before
    wait_until(lambda: notebook.jobs() == notebook.wanted_jobs(), lambda: f"{notebook.jobs()}, {notebook.rows()}", 30)
    running = sorted(row["id"] for row in notebook.rows() if row["state"] == "running")
    wait_until(lambda: notebook.agents() == running, lambda: f"agents {notebook.agents()}, running {running}", 30)


def usable(notebook: Notebook, part: str) -> Callable[[], bool]:
    """How to see that a part serves again."""

    def pool_takes_jobs() -> bool:
        return bool(find(notebook.place, part)) and all(
            site["cores"] is not None for site in notebook.rest.get("api/sites").raise_for_status().json()
        )

    if part == "controller":
        return lambda: notebook.rest.get("api/clusters").status_code == 200
    if part in POOL:
        return pool_takes_jobs
    if part in DATA_PATH:
        return lambda: bool(find(notebook.place, part))
    return lambda: logged_in(notebook.browser)


@pytest.mark.parametrize("part", cases(COMPUTING))
def test_while_a_cluster_computes(notebook, cluster, unharmed, part, record_testsuite_property):
    flag = notebook.start_computing()
    at = kill(notebook.place, part)
    back = until(usable(notebook, part), f"{part} is usable again", at)
    if part == "proxy":
        notebook.kernel.connect()
    outcome = notebook.result(flag)
    if part in DATA_PATH:
        assert outcome.endswith(WORDS), outcome
        address = notebook.run("print(cluster.scheduler_address)")
        assert (
            notebook.run(f"client = Client({address!r}); print(client.submit(sum, [20, 22]).result(timeout=60))")
            == "42"
        )
        back = time.monotonic() - at
        flag = notebook.start_computing()
        assert notebook.result(flag) == SUM
        assert SAID[part] in notebook.told()
    else:
        assert outcome == SUM
    record_testsuite_property(f"computing, {part} usable again after seconds", round(back, 1))
    assert notebook.row(cluster)["state"] == "running"
    assert notebook.row(cluster)["workers_wanted"] == 2
    unharmed()


def moment(notebook: Notebook, part: str, known: set[str]) -> Callable[[], bool]:
    """The worst moment for a part to die while a cluster is made: its own work on it has begun and is not done."""
    arrived = jobs_that_arrived(notebook.place)

    def new() -> list[str]:
        return [row["state"] for row in notebook.rows() if row["id"] not in known]

    if part == "controller" or part.startswith("access point"):
        return lambda: jobs_that_arrived(notebook.place) > arrived
    if part.startswith("central manager"):
        return lambda: calls_under_way(notebook.place)
    return (lambda: new() == ["starting"]) if part in DATA_PATH else (lambda: bool(new()))


@pytest.mark.parametrize("part", cases(CREATING))
def test_while_a_cluster_is_made(notebook, unharmed, part, record_testsuite_property):
    known = {row["id"] for row in notebook.rows()}
    now = moment(notebook, part, known)
    notebook.create()
    assert comes_true(now, 20, pause=0.002), "its work has begun"
    at = kill(notebook.place, part)
    back = until(usable(notebook, part), f"{part} is usable again", at)
    record_testsuite_property(f"creating, {part} usable again after seconds", round(back, 1))
    if part == "proxy":
        notebook.kernel.connect()
    made = notebook.created()
    assert {row["id"] for row in notebook.rows()} - known == {made}
    unharmed()
    notebook.close_made()
    wait_for(notebook.rest, made, "closed")


def test_a_new_session_reaches_the_cluster_of_the_one_before(place):
    user = "cms-colleague"
    browser = place.browser(user)
    try:
        spawn(browser, user, "python-analysis")
        with open_kernel(browser, f"/user/{user}/") as kernel:
            kernel.run(f"{PREPARE}\nRemoteHTCondor({SITE!r}, name='mine', quiet=True)", CELL_SECONDS)
        stop_session(browser, user)
        spawn(browser, user, "python-analysis")
        with open_kernel(browser, f"/user/{user}/") as kernel:
            code = (
                "client = Client(RemoteHTCondor.reach('mine'))\nprint(client.submit(sum, [20, 22]).result(timeout=60))"
            )
            assert kernel.run(f"{PREPARE}\n{code}", CELL_SECONDS).strip().endswith("42")
    finally:
        with place.controller(place.token(user)) as rest:
            for row in rest.get("api/clusters").json():
                rest.delete(f"api/clusters/{row['id']}")
        stop_session(browser, user)


@pytest.mark.parametrize("part", ["IAM", "cache", "mapping", "data rules"])
def test_the_others_come_back_as_they_were(place, part, record_testsuite_property):
    """Everybody can log in, data are read through the cache, and an account of the pool is what the policy says."""
    at = kill(place, part)
    back = until(lambda: bool(find(place, part)) and serves(place, part), f"{part} is usable again", at)
    record_testsuite_property(f"{part} usable again after seconds", round(back, 1))


def serves(place: Place, part: str) -> bool:
    """Whether it answers where it did before."""
    if part == "IAM":
        sign_in(place.url, "icsc-analyst").close()
    if part == "cache":
        host, _, port = place.facts["cache"].removeprefix("root://").rpartition(":")
        return xrootd_answers(host, int(port))
    return True
