"""A job without HTCondor: forwarder, job agent with its children, a bridge, and Dask's own client; all real."""

import asyncio
import socket
import ssl
import time
from contextlib import asynccontextmanager
from pathlib import Path

import dask
import httpx
import psutil
import pytest
import websockets
from distributed import Client
from distributed.security import Security

from af_hub.forwarder.dask_settings import CLIENT

pytestmark = pytest.mark.real

MANY_SECONDS = 30
GIB = 1 << 30


@pytest.fixture(scope="module")
def stranger(running):
    """Another Dask cluster; its keys are all that the attacker has."""
    return running().dask_cluster


@asynccontextmanager
async def client_of(job):
    tls = job.dask_cluster.tls("client")
    security = Security(
        require_encryption=True,
        tls_ca_file=str(tls.ca),
        tls_client_cert=str(tls.certificate),
        tls_client_key=str(tls.key),
    )
    async with asyncio.timeout(MANY_SECONDS), job.dask_cluster.bridge("scheduler") as bridge:
        address = f"tls://127.0.0.1:{bridge.port}"
        with dask.config.set(CLIENT):
            async with Client(address, security=security, asynchronous=True, set_as_default=False) as client:
                yield client


@asynccontextmanager
async def http_of(dask_cluster, service, tls):
    async with dask_cluster.bridge(service) as bridge:
        base = f"https://127.0.0.1:{bridge.port}"
        async with httpx.AsyncClient(base_url=base, verify=tls.context(), timeout=MANY_SECONDS) as client:
            yield client


async def workers_are(agent, *names):
    """Ask until these are the workers."""
    async with asyncio.timeout(MANY_SECONDS):
        while True:
            facts = (await agent.get("/status")).json()
            if sorted(worker["name"] for worker in facts["workers"]) == sorted(names):
                return facts


async def test_the_first_result_needs_one_job(running, record_property):
    job = running()
    async with client_of(job) as client:
        assert await client.submit(lambda x: x + 1, 1) == 2
    seconds = time.monotonic() - job.started
    record_property("seconds_to_first_result", round(seconds, 2))
    print(f"first result {seconds:.1f} s after the agent started")


async def test_tasks_ask_a_signpost_before_the_cache_of_the_site(job):
    def names():
        import os

        return os.environ["XROOT_PROXY"], os.environ["AF_CACHE"]

    async with client_of(job) as client:
        signpost, cache = await client.submit(names)
    assert signpost.startswith("root://127.0.0.1:") and cache == "root://cache.af-hub.test:1094"


def token_reader():
    """A task that says what it finds by WLCG Bearer Token Discovery: the token, and the mode of its file."""

    def token_here():
        import os
        from pathlib import Path

        file = Path(os.environ["BEARER_TOKEN_FILE"])
        return (file.read_text(), file.stat().st_mode & 0o777) if file.exists() else None

    return token_here


async def give_token(agent, value):
    answer = await agent.put("/token", json={"access_token": value, "expires_at": time.time() + 3600})
    assert answer.status_code == 200 and value not in answer.text


async def test_tokens_come_to_scheduler_and_workers(running):
    """Also to a worker that comes later, before its first task; nothing gives them to anybody else."""
    job = running()
    dask_cluster, read = job.dask_cluster, token_reader()
    first, second = (f"{dask_cluster.id[:8]}-{number}" for number in (0, 1))

    async def everybody(client):
        return [*(await client.run(read)).values(), await client.run_on_scheduler(read)]

    async with http_of(dask_cluster, "agent", dask_cluster.tls("controller")) as agent, client_of(job) as client:
        assert await client.submit(read, pure=False) is None
        await give_token(agent, "secret-one")
        facts = await workers_are(agent, first)
        worker = running("af_hub.job.worker", dask_cluster, scheduler=facts["scheduler"], name=second)
        assert await client.submit(read, workers=[second], pure=False) == ("secret-one", 0o600)
        assert await everybody(client) == [("secret-one", 0o600)] * 3
        await give_token(agent, "secret-two")
        async with asyncio.timeout(MANY_SECONDS):
            while await everybody(client) != [("secret-two", 0o600)] * 3:
                pass

        assert (await agent.get("/token")).status_code == 405
        for bad in ({}, {"access_token": "a b", "expires_at": 1}, {"access_token": "a", "expires_at": "b"}, []):
            answer = await agent.put("/token", json=bad)
            assert answer.status_code == 400 and "a b" not in answer.text
        parts = ("agent", "scheduler", "worker")
        logs = "".join([(await agent.get("/logs", params={"part": part})).text for part in parts])
        assert "token 2 is here" in logs and "secret-" not in logs
        for process in (*job.tree(), *worker.tree()):
            assert "secret-" not in str(process.environ()) + str(process.cmdline())


@pytest.mark.long
async def test_a_worker_that_starts_anew_has_the_token(running):
    job = running()
    first = f"{job.dask_cluster.id[:8]}-0"
    async with (
        http_of(job.dask_cluster, "agent", job.dask_cluster.tls("controller")) as agent,
        client_of(job) as client,
    ):
        await give_token(agent, "secret")
        facts = await workers_are(agent, first)
        (job.folder / "token").unlink()
        await client.restart_workers([facts["workers"][0]["address"]])
        assert await client.submit(token_reader(), pure=False) == ("secret", 0o600)


async def test_another_job_adds_a_worker_and_retiring_ends_it(running):
    job = running()
    dask_cluster = job.dask_cluster
    first, second = (f"{dask_cluster.id[:8]}-{number}" for number in (0, 1))
    async with http_of(dask_cluster, "agent", dask_cluster.tls("controller")) as agent, client_of(job) as client:
        facts = await workers_are(agent, first)
        worker = running("af_hub.job.worker", dask_cluster, scheduler=facts["scheduler"], name=second)
        facts = await workers_are(agent, first, second)
        places = {entry["name"]: entry["address"] for entry in facts["workers"]}
        assert all(address.startswith("tls://127.0.1.1:") for address in places.values())
        inc = client.submit(lambda x: x + 1, 1, workers=[second])
        assert await inc == 2
        answer = await agent.post("/retire", json={"workers": [second, "nobody"]})
        assert answer.json() == {"retired": [second]}
        assert await worker.wait() == 0
        assert not (worker.folder / "tls-worker.key").exists()
        await workers_are(agent, first)
        assert await inc == 2


async def test_the_first_worker_goes_and_comes_on_order(running):
    job = running()
    first = f"{job.dask_cluster.id[:8]}-0"
    async with http_of(job.dask_cluster, "agent", job.dask_cluster.tls("controller")) as agent:
        await workers_are(agent, first)
        for wanted in (False, False, True, True):
            answer = await agent.put("/first-worker", json={"wanted": wanted})
            assert answer.json() == {"wanted": wanted}
            facts = await workers_are(agent, *[first] * wanted)
            assert facts["first_worker"] is wanted


async def test_status_and_logs(job):
    dask_cluster = job.dask_cluster
    async with http_of(dask_cluster, "agent", dask_cluster.tls("controller")) as agent:
        facts = await workers_are(agent, f"{dask_cluster.id[:8]}-0")
        assert facts["cluster"] == dask_cluster.id
        assert facts["site"] == "T2_TEST"
        assert facts["workers"][0]["nthreads"] == 1
        assert facts["workers"][0]["memory_limit"] == 2 * GIB
        for part in ("agent", "scheduler", "worker"):
            assert "INFO" in (await agent.get("/logs", params={"part": part})).text
        for path in ("/logs?part=../job.json", "/logs?part=ssh.key"):
            answer = await agent.get(path)
            assert answer.status_code == 400
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await agent.put("/first-worker", content=b"yes")).status_code == 400
        assert (await agent.put("/first-worker", json={"wanted": "yes"})).status_code == 400
        assert (await agent.get("/close")).status_code == 405
        assert (await agent.get("/nothing")).status_code == 404


@pytest.mark.parametrize("role", ["client", "worker", "scheduler"])
async def test_the_agent_api_is_for_the_controller_only(job, role):
    """Even for those of its own Dask cluster that get as far as its socket."""
    async with http_of(job.dask_cluster, "agent", job.dask_cluster.tls(role)) as agent:
        for method, path in (
            ("GET", "/status"),
            ("POST", "/close"),
            ("POST", "/retire"),
            ("GET", "/logs"),
            ("PUT", "/token"),
        ):
            assert (await agent.request(method, path, json={"workers": []})).status_code == 403


@pytest.mark.parametrize("role", ["client", "controller"])
async def test_the_dashboard_is_there_for_client_and_controller(bokeh, job, role):
    tls = job.dask_cluster.tls(role)
    async with http_of(job.dask_cluster, "dashboard", tls) as dashboard:
        for path in ("/status", "/workers", "/info/main/workers.html", "/json/counts.json", "/metrics", "/health"):
            answer = await dashboard.get(path, follow_redirects=True)
            assert answer.status_code == 200, path
        assert (await dashboard.get("/status")).text.count("Bokeh")
        for path in ("/proxy/80/127.0.0.1/", "/api/v1/retire_workers", "/jupyter/"):
            assert (await dashboard.get(path)).status_code == 404
    async with job.dask_cluster.bridge("dashboard") as bridge, asyncio.timeout(MANY_SECONDS):
        url = f"wss://127.0.0.1:{bridge.port}/status/ws"
        subprotocols = ["bokeh", await bokeh_token(bridge, tls)]
        async with websockets.connect(url, ssl=tls.context(), subprotocols=subprotocols, origin="https://x") as page:
            assert '"ACK"' in await page.recv()


async def bokeh_token(bridge, tls):
    async with httpx.AsyncClient(verify=tls.context()) as client:
        text = (await client.get(f"https://127.0.0.1:{bridge.port}/status")).text
        return text.partition('"token":"')[2].partition('"')[0]


@pytest.mark.parametrize("service", ["dashboard", "agent"])
async def test_without_a_certificate_of_the_dask_cluster_there_is_no_page(job, stranger, service):
    theirs = stranger.tls("controller")
    nobody = job.dask_cluster.tls()
    attackers = [nobody, type(nobody)(nobody.ca, theirs.certificate, theirs.key)]
    for attacker in attackers:
        async with http_of(job.dask_cluster, service, attacker) as pages:
            with pytest.raises((httpx.HTTPError, ssl.SSLError)):
                await pages.get("/status")


async def test_a_worker_certificate_opens_no_dashboard(job):
    async with http_of(job.dask_cluster, "dashboard", job.dask_cluster.tls("worker")) as dashboard:
        assert (await dashboard.get("/status")).status_code == 403


def listening(process):
    return [each.laddr for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]


def answers(address, context):
    """Whether there is an answer of HTTP on a port, in clear or over TLS."""
    with socket.create_connection(address, 10) as plain:
        try:
            stream = context.wrap_socket(plain) if context else plain
            stream.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
            return stream.recv(100)
        except (ssl.SSLError, ConnectionError):
            return b""


async def test_no_tcp_port_answers_http_and_comms_ask_for_certificates(job, stranger):
    async with http_of(job.dask_cluster, "agent", job.dask_cluster.tls("controller")) as agent:
        await workers_are(agent, f"{job.dask_cluster.id[:8]}-0")
    theirs, nobody = stranger.tls("client"), job.dask_cluster.tls()
    attacker = type(nobody)(nobody.ca, theirs.certificate, theirs.key)
    # The worker comes of its nanny and has its listening socket too.
    ports = {address for process in job.tree() for address in listening(process)}
    assert sorted(address.ip for address in ports) == [
        *["127.0.0.1"] * 2,
        *["127.0.1.1"] * 3,
    ]  # signposts of scheduler and worker; scheduler, nanny, worker
    for address in ports:
        for context in (None, nobody.context(), attacker.context(), job.dask_cluster.tls("client").context()):
            assert b"HTTP" not in await asyncio.to_thread(answers, tuple(address), context)


async def test_another_dask_clusters_certificate_gets_no_comm(job, stranger):
    theirs = stranger.tls("client")
    security = Security(
        require_encryption=True,
        tls_ca_file=str(job.dask_cluster.tls().ca),
        tls_client_cert=str(theirs.certificate),
        tls_client_key=str(theirs.key),
    )
    async with job.dask_cluster.bridge("scheduler") as bridge:
        with pytest.raises(OSError):
            address = f"tls://127.0.0.1:{bridge.port}"
            await Client(address, security=security, asynchronous=True, timeout=2, set_as_default=False)


async def test_what_lies_in_the_sandbox_is_private(job):
    async with http_of(job.dask_cluster, "agent", job.dask_cluster.tls("controller")) as agent:
        await workers_are(agent, f"{job.dask_cluster.id[:8]}-0")
    for name in ("ssh.key", "tls-scheduler.key", "tls-worker.key", "agent.sock", "dashboard.sock", "agent.log"):
        assert (job.folder / name).stat().st_mode & 0o077 == 0, name
    secrets = [(job.folder / name).read_text().splitlines()[1] for name in ("ssh.key", "tls-scheduler.key")]
    for process in job.tree():
        seen = " ".join(process.cmdline()) + str(process.environ())
        assert not any(secret in seen for secret in secrets)
    for part in ("agent", "scheduler", "worker"):
        assert "PRIVATE" not in job.log(part)


def oom_score(process):
    return int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())


async def test_memory_ends_the_worker_first(job):
    async with http_of(job.dask_cluster, "agent", job.dask_cluster.tls("controller")) as agent:
        await workers_are(agent, f"{job.dask_cluster.id[:8]}-0")
    agent, scheduler, nanny, worker = job.tree()
    assert [oom_score(process) for process in (nanny, worker)] == [500, 500]
    assert oom_score(scheduler) == oom_score(agent) < 500


async def ended(job, tree, seconds=20):
    """The exit status, once nothing is left of processes, keys and sockets."""
    status = await job.wait(seconds)
    _, alive = psutil.wait_procs(tree, timeout=5)
    assert not alive
    assert not job.left_over()
    return status


async def test_close_leaves_no_process_and_no_key(running):
    job = running()
    async with http_of(job.dask_cluster, "agent", job.dask_cluster.tls("controller")) as agent:
        await workers_are(agent, f"{job.dask_cluster.id[:8]}-0")
        await give_token(agent, "secret")
        assert "token" in job.left_over()
        tree = job.tree()
        assert len(tree) >= 4
        began = time.monotonic()
        assert (await agent.post("/close")).json() == {"closing": True}
        assert await ended(job, tree) == 0
        print(f"closed in {time.monotonic() - began:.1f} s")
    assert "is closed" in job.log()


async def test_sigterm_is_a_close(running):
    job = running()
    async with client_of(job) as client:
        assert await client.submit(lambda: 1) == 1
        tree = job.tree()
        job.process.terminate()
        assert await ended(job, tree) == 0


async def test_a_job_ends_when_it_expires(running):
    job = running(expires_at=time.time() + 20)
    async with client_of(job) as client:
        assert await client.submit(lambda: 1) == 1
        tree = job.tree()
        assert await ended(job, tree, MANY_SECONDS) == 0
    assert "has expired" in job.log()


async def test_a_shutdown_by_the_client_ends_the_job(running):
    job = running()
    async with client_of(job) as client:
        await client.shutdown()
    assert await ended(job, []) == 0
    assert "shut down by a client" in job.log()


async def test_a_dead_scheduler_ends_the_job_with_a_reason(running):
    job = running()
    async with client_of(job) as client:
        assert await client.submit(lambda: 1) == 1
        tree = job.tree()
        job.command("af_hub.job.scheduler").kill()
        assert await ended(job, tree) == 3
    assert "the Dask scheduler died" in job.log()


async def test_a_killed_agent_takes_its_children_along(running):
    job = running()
    async with client_of(job) as client:
        assert await client.submit(lambda: 1) == 1
        tree = job.tree()
        job.process.kill()
        assert await job.wait() == -9
        _, alive = psutil.wait_procs(tree, timeout=10)
        assert not alive


@pytest.mark.parametrize(
    "facts, complaint",
    [
        pytest.param({"nthreads": 0}, "'nthreads' should be int above 0, found 0", id="no threads"),
        pytest.param({"cluster": "../x"}, "'cluster' should be 32", id="no id"),
        pytest.param({"forwarder": {"host": "x"}}, "'port' should be int", id="no port"),
    ],
)
async def test_a_kit_that_cannot_be_used_is_named(running, facts, complaint):
    job = running(**facts)
    assert await job.wait() == 4
    assert complaint in job.process.stderr.read()
    assert not (job.folder / "ssh.key").exists()
