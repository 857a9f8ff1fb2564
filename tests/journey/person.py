"""The CMS analyst at a machine of the centre: does what they are told, a line of JSON for each order and each answer.

``python person.py FACTS``, which are those of :class:`~af_hub.demo.facility.Facility`; it ends with its standard input. An order is the
name of a method and its arguments.
"""

import json
import socket
import sys
import textwrap
import traceback
from contextlib import ExitStack
from pathlib import Path

from af_hub.demo.check import jobs, see_dashboard, spawn, stop_session
from af_hub.demo.notebook import Kernel, open_kernel
from af_hub.testing.browser import sign_in
from af_hub.testing.condor import RealPool

USER, IMAGE = "cms-analyst", "python-analysis"
CELL_SECONDS, DIAL_SECONDS = 90, 1

PREPARE = """
    import json
    from dask.distributed import Client
    from af_hub.client.data import dataset
    from af_hub.client.remote import RemoteHTCondor

    clusters, clients = {}, {}

    def data_server(url):
        from XRootD import client

        with client.File() as file:
            status, _ = file.open(url, timeout=30)
            return file.get_property("DataServer").rpartition("@")[2] if status.ok else status.message

    def facts(client):
        found = client.scheduler_info(n_workers=-1)
        print(json.dumps({"scheduler": found["address"], "workers": list(found["workers"])}))
"""
CREATE = """
    clusters[site] = RemoteHTCondor(site, user_memory="512 MiB", start_timeout="60 s", quiet=True)
    clients[site] = Client(clusters[site])
    assert clients[site].submit(lambda: 6 * 7).result(timeout=60) == 42
    facts(clients[site])
"""
SCALE = """
    clusters[site].scale(2)
    clients[site].wait_for_workers(2, timeout=60)
    assert sum(clients[site].gather(clients[site].map(abs, range(-100, 0)))) == 5050
    facts(clients[site])
"""
READ = """
    print(json.dumps(clients[site].submit(data_server, dataset("dimuon")[0]).result(timeout=60)))
"""
CLOSE = """
    clients[site].close()
    clusters[site].close()
    print("null")
"""


class Person:
    """Logged in from the start; everything else when told."""

    def __init__(self, facts: dict, notebook: ExitStack) -> None:
        self._facts = facts
        self._browser = sign_in(facts["url"], USER)
        self._notebook = notebook
        self._kernel: Kernel | None = None

    def start_session(self) -> None:
        """Have a session and a notebook in it."""
        spawn(self._browser, USER, IMAGE)
        self._kernel = self._notebook.enter_context(open_kernel(self._browser, f"/user/{USER}/"))
        self._kernel.run(textwrap.dedent(PREPARE), CELL_SECONDS)

    def end_session(self) -> None:
        """Give it back."""
        self._notebook.close()
        stop_session(self._browser, USER)

    def create(self, site: str) -> dict:
        """A Dask cluster that computes: the addresses of its parts."""
        return self._run(CREATE, site)

    def scale(self, site: str) -> dict:
        """The same with two workers."""
        return self._run(SCALE, site)

    def read(self, site: str) -> str:
        """Which server gave a worker its data."""
        return self._run(READ, site)

    def dashboard(self, site: str) -> str:
        """The dashboard's address, after a look at it."""
        return see_dashboard(self._browser, self._run("print(json.dumps(clusters[site].dashboard_link))", site))

    def close(self, site: str) -> None:
        """The Dask cluster is given back."""
        return self._run(CLOSE, site)

    def jobs(self) -> list[dict]:
        """What the queue holds of anybody."""
        return jobs(self._facts)

    def worker_nodes(self) -> dict:
        """Name and address of each, as the central manager tells them."""
        pool = RealPool(Path(self._facts["pool_folder"]), Path(self._facts["condor_prefix"]))
        told = pool.tool("condor_status", "-startd", "-af", "Machine", "MyAddress").splitlines()
        return dict(line.split(" ", 1) for line in told)

    def dial(self, host: str, port: int) -> str:
        """What comes of a plain connection from here."""
        try:
            socket.create_connection((host, port), DIAL_SECONDS).close()
        except OSError as error:
            return type(error).__name__
        return "connected"

    def _run(self, code: str, site: str):
        assert self._kernel, "no session"
        return json.loads(self._kernel.run(f"site = {site!r}\n{textwrap.dedent(code)}", CELL_SECONDS))


def main(facts: str) -> None:
    """Take orders."""
    with ExitStack() as notebook:
        person = Person(json.loads(facts), notebook)
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            try:
                answer = {"answer": getattr(person, name)(*arguments)}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
