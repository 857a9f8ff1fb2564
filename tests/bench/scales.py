"""What is put on the scales: the processes of a facility with one session and one Dask cluster, and those that people know."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from af_hub.testing.browser import xsrf_headers
from tests.bench.clusters import bare_parameters, our_parameters
from tests.bench.facility import Place
from tests.bench.logins import PLAIN, PlainHub, await_lab
from tests.bench.memory import weigh

AGENT, SCHEDULER = "af_hub.job.agent", "af_hub.job.scheduler"
FACILITY = {
    "hub": "hub_config/jupyterhub_config.py",
    "controller": "af_hub.controller --listen",
    "forwarder": "af_hub.forwarder.server",
    "proxy (traefik)": "hub/proxy/rules.toml",
    "mapping": "af_hub.condor.watch",
}
SESSION = {
    "supervisor": "af_hub.session.supervisor",
    "session agent": "af_hub.session.agent",
    "JupyterLab": "af_hub.session.supervisor > jupyterhub-singleuser",
    "kernel with a client": "jupyterhub-singleuser > ipykernel_launcher",
}
JOB = {
    "job agent": AGENT,
    "scheduler": f"{AGENT} > {SCHEDULER}",
    "nanny": f"{AGENT} > {SCHEDULER} > {SCHEDULER}",
    "worker": f"{AGENT} > {SCHEDULER} > {SCHEDULER} > {SCHEDULER}",
}
PLAIN_HUB = {"hub": "plain/config.py", "JupyterLab": "plain/config.py > jupyterhub-singleuser"}
BARE = {
    "scheduler": "distributed.cli.dask_scheduler",
    "nanny": "distributed.cli.dask_worker",
    "worker": "distributed.cli.dask_worker > multiprocessing.spawn",
}
CHILD = {"HTCondor operation (while it lasts)": "af_hub.condor.operation"}


def weigh_all(place: Place, hub: PlainHub) -> dict[str, dict[str, list[float]]]:
    """MiB, by table and kind of process."""
    with plain_session(hub), place.kept("bare", **bare_parameters(place)):
        reference = {"memory-plain": weigh(PLAIN_HUB), "memory-bare": weigh(BARE)}
    with heaviest(CHILD) as child, place.kept("ours", **our_parameters()):
        ours = {"memory-facility": weigh(FACILITY), "memory-session": weigh(SESSION), "memory-job": weigh(JOB)}
    ours["memory-facility"] |= child
    return ours | reference


@contextmanager
def plain_session(hub: PlainHub) -> Iterator[None]:
    """Somebody's JupyterLab at the plain hub."""
    with closing(hub.login()) as browser:
        browser.post(f"/hub/spawn/{PLAIN}", headers=xsrf_headers(browser)).raise_for_status()
        await_lab(browser, PLAIN)
        try:
            yield
        finally:
            headers = xsrf_headers(browser)
            browser.delete(f"/hub/api/users/{PLAIN}/server", headers=headers).raise_for_status()


@contextmanager
def heaviest(names: dict[str, str]) -> Iterator[dict[str, list[float]]]:
    """The heaviest of short-lived processes that were seen meanwhile."""
    found: dict[str, list[float]] = {name: [0.0] for name in names}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.03):
            for name, sizes in weigh(names).items():
                found[name] = [max([*sizes, *found[name]])]

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
