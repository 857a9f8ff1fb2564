"""What an attacker with all that the facility gives to another person can do to the CMS analyst's Dask cluster: nothing.

The attackers have a browser session, a hub token, an access token, and a Dask cluster of their own with its keys, and they reach
every port. The demo's one OS user is no part of this: files of others are out of bounds here, and docs/explanation says so.
"""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import httpx
import pytest
from distributed import Client
from distributed.security import Security

from af_hub.demo.check import jobs
from af_hub.errors import AFError
from af_hub.forwarder.access import Endpoint, Service
from af_hub.forwarder.bridge import Bridge
from af_hub.forwarder.client import connect
from af_hub.forwarder.link import Link
from af_hub.forwarder.login import Credentials
from tests.journey.dask_cluster import OwnedCluster, new_cluster

pytestmark = pytest.mark.real

VICTIM = "cms-analyst"
REFUSED = (asyncssh.Error, asyncssh.ChannelListenError, OSError)
ATTACKERS = {"icsc-analyst": "python-base", "cms-colleague": "python-base"}


@pytest.fixture(scope="module")
def victims(place):
    """The CMS analyst's running Dask cluster."""
    with place.controller(place.token(VICTIM)) as rest:
        cluster = new_cluster(rest, "python-base", workers=2)
        yield cluster
        rest.delete(f"api/clusters/{cluster.id}")


@pytest.fixture(scope="module", params=ATTACKERS)
def attacker(request, place):
    """Who attacks, with a Dask cluster of their own."""
    with place.controller(place.token(request.param)) as rest:
        own = new_cluster(rest, ATTACKERS[request.param])
        yield request.param, own
        rest.delete(f"api/clusters/{own.id}")


async def scheduler_facts(cluster: OwnedCluster) -> dict:
    """What the owner learns from the scheduler: that it computes, and where it and its workers listen."""
    async with (
        Link(cluster.forwarder, cluster.ssh) as link,
        Bridge(link, Endpoint(cluster.id, Service.SCHEDULER)) as bridge,
    ):
        async with Client(f"tls://127.0.0.1:{bridge.port}", security=cluster.security, asynchronous=True) as client:
            assert await client.submit(lambda: 1 + 1) == 2
            identity = await client.scheduler.identity(n_workers=-1)
            return {"scheduler": identity["address"], "workers": list(identity["workers"])}


async def test_the_owner_gets_through(victims):
    """Without this, all refusals below would prove nothing."""
    assert (await scheduler_facts(victims))["scheduler"].startswith("tls://127.0.1.1:")


def test_it_is_not_listed(victims, attacker, place):
    username, own = attacker
    assert victims.id not in [cluster["id"] for cluster in own.rest.get("api/clusters").json()]
    page = place.browser(username).get("/services/af-controller/")
    assert page.status_code == 200 and own.id in page.text and victims.id not in page.text


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("GET", "", None),
        ("PATCH", "", {"workers": 0}),
        ("DELETE", "", None),
        ("GET", "/logs", None),
        ("POST", "/credentials", "keys"),
        ("GET", "/../{id}", None),
    ],
)
def test_its_routes_answer_as_if_it_did_not_exist(victims, attacker, method, path, body):
    _, own = attacker
    if body == "keys":
        body = {"ssh_public_key": own.keys.ssh_public, "tls_csr": own.keys.tls_csr}
    at = path.format(id=victims.id)
    answer = own.rest.request(method, f"api/clusters/{victims.id}{at}", json=body)
    missing = own.rest.request(method, f"api/clusters/{'0' * 32}{at.replace(victims.id, '0' * 32)}", json=body)
    assert answer.status_code == missing.status_code == 404
    assert victims.show()["state"] == "running"


def test_its_dashboard_is_not_shown_to_another_browser(victims, attacker, place):
    username, own = attacker
    browser = place.browser(username)
    assert browser.get(f"/services/af-controller/clusters/{own.id}/dashboard/status").status_code == 200
    assert browser.get(f"/services/af-controller/clusters/{victims.id}/dashboard/status").status_code == 404
    assert own.rest.get(f"clusters/{victims.id}/dashboard/status").status_code in (401, 403, 404)


@pytest.mark.parametrize("service", ["scheduler", "dashboard", "agent"])
async def test_its_endpoints_do_not_open_for_another_certificate(victims, attacker, service):
    _, own = attacker
    async with await connect(own.forwarder, own.ssh) as connection:
        with pytest.raises(AFError):
            await connection.open(victims.id, service)


async def test_another_key_cannot_log_in_as_its_session(victims, attacker):
    _, own = attacker
    for principal in (f"session:{victims.id}", f"job:{victims.id}", f"job:{own.id}", "controller"):
        with pytest.raises(AFError):
            await connect(own.forwarder, Credentials(principal, own.ssh.private_key, own.ssh.certificate))


async def test_the_job_of_another_cannot_offer_or_open_its_endpoints(victims, attacker, place):
    """Whoever runs code in a job reads its sandbox: the job's own certificate is the attacker's too."""
    _, own = attacker
    sandbox = next(
        path.parent for path in Path(place.facts["pool_folder"]).rglob("job.json") if own.id in path.read_text()
    )
    job = Credentials(f"job:{own.id}", (sandbox / "ssh.key").read_text(), (sandbox / "ssh.cert").read_text())
    key = asyncssh.import_private_key(job.private_key)
    certificate = asyncssh.import_certificate(job.certificate)
    known = asyncssh.import_known_hosts(f"[{own.forwarder.host}]:{own.forwarder.port} {own.forwarder.host_key}")
    async with asyncssh.connect(
        own.forwarder.host,
        own.forwarder.port,
        username=job.principal,
        client_keys=[(key, certificate)],
        known_hosts=known,
        config=None,
    ) as connection:
        for service in ("scheduler", "dashboard", "agent"):
            with pytest.raises(REFUSED):
                await connection.forward_remote_path(f"/{victims.id}/{service}", "/dev/null")
            with pytest.raises(REFUSED):
                await connection.open_unix_connection(f"/{victims.id}/{service}")
    with pytest.raises(AFError):
        async with await connect(own.forwarder, job) as plain:
            await plain.open(victims.id, "scheduler")


async def test_the_forwarder_is_no_way_to_an_address(victims, attacker):
    _, own = attacker
    facts = await scheduler_facts(victims)
    host, port = facts["scheduler"].removeprefix("tls://").split(":")
    key = asyncssh.import_private_key(own.ssh.private_key)
    certificate = asyncssh.import_certificate(own.ssh.certificate)
    known = asyncssh.import_known_hosts(f"[{own.forwarder.host}]:{own.forwarder.port} {own.forwarder.host_key}")
    async with asyncssh.connect(
        own.forwarder.host,
        own.forwarder.port,
        username=own.ssh.principal,
        client_keys=[(key, certificate)],
        known_hosts=known,
        config=None,
    ) as connection:
        with pytest.raises(REFUSED):
            await connection.open_connection(host, int(port))
        with pytest.raises(REFUSED):
            await connection.forward_remote_port("", 0, host, int(port))
        with pytest.raises(REFUSED):
            await connection.run("id", check=True)


async def test_scheduler_and_workers_do_not_take_other_certificates(victims, attacker):
    """Their ports are on the site's network, where the jobs of others run."""
    _, own = attacker
    facts = await scheduler_facts(victims)
    for address in [facts["scheduler"], *facts["workers"]]:
        for security in (own.security, Security.temporary(), None):
            plain = address if security else address.replace("tls://", "tcp://")
            with pytest.raises((OSError, TimeoutError, TypeError)):
                await Client(plain, security=security, asynchronous=True, timeout=2)


async def test_its_tunnel_on_the_loopback_wants_its_certificate(victims, attacker):
    """The near end of a tunnel is a port that everybody on the machine can dial."""
    _, own = attacker
    async with (
        Link(victims.forwarder, victims.ssh) as link,
        Bridge(link, Endpoint(victims.id, Service.SCHEDULER)) as bridge,
    ):
        with pytest.raises((OSError, TimeoutError)):
            await Client(f"tls://127.0.0.1:{bridge.port}", security=own.security, asynchronous=True, timeout=2)


def listening() -> list[tuple[str, int]]:
    """All TCP ports of this machine that listen now."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            host, port = fields[1].split(":")
            address = socket.inet_ntoa(bytes.fromhex(host)[::-1])
            found.add(("127.0.0.1" if address == "0.0.0.0" else address, int(port, 16)))
    return sorted(found)


def with_certificate(own: OwnedCluster, folder: Path) -> ssl.SSLContext:
    """TLS that shows the attacker's certificate and takes any."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    (folder / "cert").write_text(own.answer["tls_certificate"])
    (folder / "key").write_text(own.keys.tls)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


def test_no_port_tells_of_it(victims, attacker, tmp_path):
    """Every listening port is asked for pages of Dask and for the cluster's id, in clear and by TLS."""
    _, own = attacker
    ports = listening()
    assert len(ports) > 5
    paths = ("/status", "/info/main/workers.html", "/json/identity.json", "/sites.html")
    pages = [
        f"{scheme}://{host}:{port}{path}" for host, port in ports for scheme in ("http", "https") for path in paths
    ]
    with httpx.Client(verify=with_certificate(own, tmp_path), timeout=2, trust_env=False) as client:

        def tells(page: str) -> bool:
            try:
                said = client.get(page).text
            except (httpx.HTTPError, OSError):
                return False
            return victims.id in said or "dask" in said.lower()

        with ThreadPoolExecutor(max_workers=16) as pool:
            telling = [page for page, tells_of_it in zip(pages, pool.map(tells, pages), strict=True) if tells_of_it]
    assert not telling


def test_the_hub_keeps_its_tokens_and_servers(victims, attacker, place):
    username, own = attacker
    hub = httpx.Client(base_url=f"{place.url}hub/api/", headers=dict(own.rest.headers), timeout=20)
    with hub:
        assert hub.get("af/token").status_code == 200
        assert hub.post("af/token/condor", json={"username": VICTIM}).status_code == 403
        assert hub.post("af/token/condor", json={"username": username}).status_code == 403
        assert hub.get(f"af/people/{VICTIM}").status_code == 403
        assert hub.get(f"users/{VICTIM}").status_code in (403, 404)
        assert hub.post(f"users/{VICTIM}/tokens", json={}).status_code in (403, 404)
        assert hub.delete(f"users/{VICTIM}/server").status_code in (403, 404)


def test_her_server_is_hers(session, attacker, place):
    username, own = attacker
    token = {"Authorization": own.rest.headers["Authorization"]}
    for path in ("api/contents", "api/kernels", "lab"):
        assert httpx.get(f"{place.url}user/{VICTIM}/{path}", headers=token, timeout=20).status_code in (302, 403)
        with_cookies = place.browser(username).get(f"/user/{VICTIM}/{path}")
        assert with_cookies.status_code in (403, 404)


async def test_her_jobs_stay(victims, attacker, place):
    """The attacker's access token at the access point: it has no rights there, and would be another account if it had."""
    from af_hub.condor.pool import CondorPool

    _, own = attacker
    async with httpx.AsyncClient(headers=dict(own.rest.headers), timeout=20) as browser:
        hub = await browser.get(f"{place.url}hub/api/af/token")
    pool = CondorPool(place.facts["collector"], place.facts["schedd"], Path(place.facts["pool_ca"]))
    before = [job for job in jobs(place.facts) if job["AFCluster"] == victims.id]
    assert before
    try:
        await pool.remove(hub.json()["access_token"], f'AFCluster == "{victims.id}"')
    except AFError:
        pass
    assert [job for job in jobs(place.facts) if job["AFCluster"] == victims.id] == before
