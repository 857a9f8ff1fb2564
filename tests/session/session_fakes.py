"""A hub and a controller that speak the session's part of their APIs on the loopback, with real keys behind."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

from af_hub.controller.keys import ClusterKeys, UserCA, new_cluster_id
from af_hub.forwarder.access import Service
from af_hub.forwarder.client import tcp_connector
from af_hub.forwarder.link import Link
from af_hub.forwarder.login import Credentials, ForwarderAddress
from af_hub.testing.process import Daemon

HUB_TOKEN = "hub-token-of-the-server"


class FakeHub:
    """Gives ``token-1``, ``token-2``, …; first answers the statuses in ``fails``. Refuses other hub tokens, as the real one does."""

    def __init__(self, fails: Iterable[int] = (), life: float = 3600) -> None:
        self.fails, self.life, self.given, self.asked = list(fails), life, 0, 0
        self.url = ""

    async def token(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("Authorization") != f"token {HUB_TOKEN}":
            return web.json_response({"status": 403, "message": "Missing or invalid credentials."}, status=403)
        if self.fails:
            status = self.fails.pop(0)
            return web.json_response({"status": status, "message": "no"}, status=status)
        if request.method == "POST":
            pool = (await request.json())["pool"]
            return web.json_response({"access_token": f"for-{pool}", "expires_at": time.time() + 600, "issuer": "i"})
        self.given += 1
        return web.json_response(
            {"access_token": f"token-{self.given}", "expires_at": time.time() + self.life, "issuer": "https://iam/"}
        )


class FakeController:
    """Certifies sessions for the Dask clusters in ``keys`` and says 404 for all others."""

    def __init__(self, state: Path) -> None:
        self.state, self.user_ca = state, UserCA(state)
        self.keys: dict[str, ClusterKeys] = {}
        self.forwarder: dict[str, object] = {"host": "127.0.0.1", "port": 1, "host_key": "ssh-ed25519 AAAA"}
        self.life, self.asked = 3600.0, 0
        self.url = ""
        self.job_tokens_brought: list[str] = []

    def new_cluster(self) -> ClusterKeys:
        keys = ClusterKeys(self.state, new_cluster_id())
        keys.make(self.user_ca, time.time() + 3600)
        self.keys[keys.cluster] = keys
        return keys

    async def job_tokens(self, request: web.Request) -> web.Response:
        pool = (await request.json())["pool"]
        self.job_tokens_brought.append(pool)
        if request.headers.get("Authorization") != f"token {HUB_TOKEN}" or pool == "closed":
            problem = {"title": "Not allowed", "status": 403, "detail": "Jobs in the pool 'closed' get no token."}
            return web.json_response(problem, status=403, content_type="application/problem+json")
        return web.json_response({"pools": {pool: time.time() + 3600}})

    async def credentials(self, request: web.Request) -> web.Response:
        self.asked += 1
        keys = self.keys.get(request.match_info["id"])
        if request.headers.get("Authorization") != f"token {HUB_TOKEN}" or keys is None:
            problem = {"title": "Not Found", "status": 404, "detail": "There is no such Dask cluster of yours."}
            return web.json_response(problem, status=404, content_type="application/problem+json")
        body = await request.json()
        given = keys.certify_session(self.user_ca, body["ssh_public_key"], body["tls_csr"], time.time() + self.life)
        return web.json_response({"forwarder": self.forwarder, **asdict(given)})


@asynccontextmanager
async def serving(hub: FakeHub, controller: FakeController) -> AsyncIterator[None]:
    """Both on one port of the loopback, as behind the hub's proxy."""
    app = web.Application()
    app.router.add_get("/hub/api/af/token", hub.token)
    app.router.add_post("/hub/api/af/pool", hub.token)
    app.router.add_post("/services/af-controller/api/job-tokens", controller.job_tokens)
    app.router.add_post("/services/af-controller/api/clusters/{id}/credentials", controller.credentials)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    hub.url = f"http://127.0.0.1:{port}/hub/api"
    controller.url = f"http://127.0.0.1:{port}/services/af-controller/"
    try:
        yield
    finally:
        await runner.cleanup()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def scheduler_at_a_site(controller: FakeController, forwarder: Daemon) -> AsyncIterator[str]:
    """A Dask cluster whose "scheduler" echoes over mutual TLS, offered at a real forwarder; its id."""
    controller.forwarder = said = forwarder.ready()
    keys = controller.new_cluster()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(keys.path("tls-ca.pem")))
    context.load_cert_chain(keys.path("tls-scheduler.pem"), keys.path("tls-scheduler.key"))
    context.verify_mode = ssl.CERT_REQUIRED
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=context))
        link = Link(
            ForwarderAddress(str(said["host"]), int(str(said["port"])), str(said["host_key"])),
            Credentials(f"job:{keys.cluster}", keys.path("ssh.key").read_text(), keys.path("ssh.cert").read_text()),
            {Service.SCHEDULER: tcp_connector("127.0.0.1", server.sockets[0].getsockname()[1])},
        )
        await stack.enter_async_context(link)
        await link.connection()
        yield keys.cluster
