"""Sites that let nothing in: everything works all the same, since a site only ever dials out, and to few places.

The facility is in one network namespace, its two sites are behind routers of their own with the same private addresses
(:mod:`af_hub.testing.network`). IAM, hub, controller, forwarder, HTCondor and XRootD are real, and so is the person's session.
"""

import json
import select
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from af_hub.demo.check import leftovers
from af_hub.errors import Unavailable
from af_hub.testing.condor import RealPool
from af_hub.testing.network import CENTRE, CENTRE_ADDRESS, DOMAIN, Network, Site
from af_hub.testing.process import Daemon, comes_true
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
SITES = [Site("T2_A", 1, nodes=2), Site("T2_B", 2, nodes=2)]
START_SECONDS, ORDER_SECONDS, CLOSED_SECONDS = 90, 120, 10
# A scheduler job of the person fills a node, so that a second worker is on the other one.
NODE_CPUS, NODE_MEMORY = 1, 2048


class Orders:
    """Somebody in the centre who does what they are told: :mod:`tests.journey.person`."""

    def __init__(self, enter: list[str], facts: dict, log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [*enter, sys.executable, str(HERE / "person.py"), json.dumps(facts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )

    def __call__(self, name: str, *arguments):
        stdin, stdout = self._process.stdin, self._process.stdout
        stdin.write(json.dumps([name, *arguments]) + "\n")
        stdin.flush()
        assert select.select([stdout], [], [], ORDER_SECONDS)[0], f"{name} took more than {ORDER_SECONDS} s"
        line = stdout.readline()
        assert line, f"the person has ended; see {self._log}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class World:
    """What runs, and where."""

    network: Network
    facts: dict
    order: Orders


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Facility, sites with free slots, and a person with a session."""
    folder = tmp_path_factory.mktemp("o")
    with ExitStack() as stack:
        try:
            network = stack.enter_context(Network(folder, SITES))
            centre = network.enter(CENTRE)
            options = {"address": CENTRE_ADDRESS, "hostname": CENTRE, "sites": {}, "cache_clients": f"*.{DOMAIN}"}
            program = [sys.executable, str(HERE.parent / "facility_with.py")]
            argv = [*centre, *program, str(folder / "d"), json.dumps(options)]
            facility = stack.enter_context(Daemon("facility", [*argv, "{ready_fd}"], folder / "facility.log"))
            facts = facility.ready(START_SECONDS)
        except Unavailable as reason:
            unavailable(str(reason))
        pool = worker_nodes(facts)
        stack.callback(pool.stop)
        for site in SITES:
            for index in range(site.nodes):
                pool.start_node(site.node(index), site.name, site.address(index), network.enter(site.node(index)))
        order = Orders(centre, facts, folder / "person.log")
        stack.callback(order.close)
        order("start_session")
        yield World(network, facts, order)
        order("end_session")


def worker_nodes(facts) -> RealPool:
    """The part of the pool that is not in the centre."""
    return RealPool(
        Path(facts["pool_folder"]),
        Path(facts["condor_prefix"]),
        sites={},
        address=CENTRE_ADDRESS,
        hostname=CENTRE,
        collector=facts["collector"],
        cpus=NODE_CPUS,
        memory=NODE_MEMORY,
        worker_environment=facts["job_environment"],
    )


def host_and_port(address: str) -> tuple[str, int]:
    """Of what Dask, XRootD and HTCondor write: ``tls://host:port``, ``root://host:port``, ``<host:port?…>``."""
    parts = urlsplit(address.strip("<>") if "://" in address else "//" + address.strip("<>"))
    return parts.hostname or "", parts.port or 0


def test_clusters_at_sites_that_let_nothing_in(world):
    """The whole way at both sites at the same time, then attempts to dial in, then the end."""
    order, network = world.order, world.network
    clusters = {}
    for site in network.sites:
        alone = order("create", site)
        clusters[site] = order("scale", site)
        assert clusters[site]["scheduler"] == alone["scheduler"]
        assert order("read", site) == world.facts["cache"].removeprefix("root://")
        assert order("dashboard", site).startswith(world.facts["url"])

    for site, cluster in clusters.items():
        hosts = {host_and_port(worker)[0] for worker in cluster["workers"]}
        assert hosts == {network.sites[site].address(0), network.sites[site].address(1)}
        assert host_and_port(cluster["scheduler"])[0] in hosts
    assert len(order("jobs")) == 4
    startds = order("worker_nodes")
    assert len(startds) == 4 and all("CCBID=" in address for address in startds.values())
    assert network.unasked() == {"internet": 0, "T2_A": 0, "T2_B": 0}, "something of ours dials into a site"

    assert dial_in(world, clusters, startds) == {"TimeoutError"}
    refused = network.unasked()
    assert all(refused.values()), f"attempts to dial in were not seen: {refused}"

    for site in network.sites:
        order("close", site)
    assert comes_true(lambda: order("jobs") == [], CLOSED_SECONDS)
    assert comes_true(lambda: not list(leftovers(world.facts)), CLOSED_SECONDS), list(leftovers(world.facts))
    assert network.unasked() == refused, "something of ours dials into a site when a cluster closes"


def dial_in(world, clusters, startds) -> set[str]:
    """What comes of plain connections from the centre to all that listens at the sites, at its own address and at the site's."""
    forwarder = world.facts["forwarder"]
    assert world.order("dial", forwarder["host"], forwarder["port"]) == "connected"
    outcomes = {world.order("dial", *host_and_port(next(iter(startds.values()))))}
    for site, cluster in clusters.items():
        host, port = host_and_port(cluster["scheduler"])
        outcomes.add(world.order("dial", host, port))
        outcomes.add(world.order("dial", world.network.sites[site].public_address, port))
    return outcomes


def test_a_site_dials_four_places(world):
    """What docs/how-to/add-a-site.md says that a firewall must let out; a firewall may refuse everything else."""
    order, facts = world.order, world.facts
    order("create", "T2_B")
    order("read", "T2_B")
    order("close", "T2_B")
    access_point = (Path(facts["pool_folder"]) / "access-point/spool/.schedd_address").read_text().split()[0]
    ports = {
        "central manager": host_and_port(facts["collector"])[1],
        "access point": host_and_port(access_point)[1],
        "forwarder": facts["forwarder"]["port"],
        "cache": host_and_port(facts["cache"])[1],
    }
    assert world.network.dialled("T2_B") == {(CENTRE_ADDRESS, "tcp", port) for port in ports.values()}
