"""A site whose jobs come and go as a test tells it, with job agents that answer; no batch system and no Dask.

Serves tests of the controller. :class:`FakeSite` is a queue (:class:`~af_hub.controller.pool.JobPool`), a forwarder's view of it
(:class:`~af_hub.controller.jobagent.Endpoints`) and the job agents, which serve HTTP over mutual TLS on Unix sockets with the very
files that came with the jobs. Each refuses what the real one would refuse. What a site does next is told by :meth:`FakeSite.advance`.
"""

import json
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from aiohttp import WSMsgType, web

from af_hub.condor.ads import NodeSlot, SiteSlots
from af_hub.condor.jobstatus import JobState
from af_hub.condor.jobtoken import Owner
from af_hub.condor.why import Ending
from af_hub.controller.pool import Credential, Order
from af_hub.controller.states import Role
from af_hub.controller.steps import Job
from af_hub.errors import PoolAway, Refused, Unavailable

AGENT: web.AppKey["FakeJobAgent"] = web.AppKey("agent")


@dataclass
class FakeJobAgent:
    """The agent and the dashboard of one cluster, with the certificate and rules of the real ones."""

    job: dict[str, Any]
    tls: ssl.SSLContext
    folder: Path
    scheduler: str = "tls://10.0.0.1:4000"
    workers: set[str] = field(default_factory=set)
    closed: bool = False
    takes_no_token: bool = False
    tokens: list[tuple[str, float]] = field(default_factory=list, repr=False)
    retired: list[str] = field(default_factory=list)
    seen_headers: list[dict[str, str]] = field(default_factory=list)
    _runners: list[web.AppRunner] = field(default_factory=list)

    def path(self, service: str) -> Path:
        """The Unix socket of one service."""
        return self.folder / f"{self.job['cluster']}.{service}"

    async def start(self) -> None:
        """Serve."""
        await self._serve(
            "agent",
            [
                web.get("/status", _status),
                web.get("/logs", _logs),
                web.put("/first-worker", _first_worker),
                web.post("/retire", _retire),
                web.put("/token", _token),
                web.post("/close", _close),
            ],
        )
        await self._serve("dashboard", [web.get("/status/ws", _echo), web.get("/{path:.*}", _dashboard)])

    async def stop(self) -> None:
        """End, as when the job is killed."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _serve(self, service: str, routes: list[web.RouteDef]) -> None:
        app = web.Application(middlewares=[_controller_only])
        app[AGENT] = self
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        await web.UnixSite(runner, str(self.path(service)), ssl_context=self.tls).start()


@web.middleware
async def _controller_only(request: web.Request, handler: Any) -> web.StreamResponse:
    transport = request.transport
    subject = (transport.get_extra_info("peercert") or {}).get("subject", ()) if transport else ()
    if (("commonName", "controller"),) not in subject:
        raise web.HTTPForbidden
    answer: web.StreamResponse = await handler(request)
    return answer


async def _status(request: web.Request) -> web.Response:
    agent = request.app[AGENT]
    workers = [
        {"name": name, "address": "tls://10.0.0.2:5000", "nthreads": 1, "memory_limit": 1}
        for name in sorted(agent.workers)
    ]
    return web.json_response({"scheduler": agent.scheduler, "workers": workers})


async def _logs(request: web.Request) -> web.Response:
    return web.Response(text=f"log of {request.query['part']}")


async def _first_worker(request: web.Request) -> web.Response:
    agent, wanted = request.app[AGENT], (await request.json())["wanted"]
    (agent.workers.add if wanted else agent.workers.discard)(agent.job["cluster"][:8] + "-0")
    return web.json_response({})


async def _retire(request: web.Request) -> web.Response:
    agent, names = request.app[AGENT], (await request.json())["workers"]
    agent.retired += names
    agent.workers -= set(names)
    return web.json_response({})


async def _token(request: web.Request) -> web.Response:
    agent, given = request.app[AGENT], await request.json()
    if agent.takes_no_token:
        raise web.HTTPServiceUnavailable
    agent.tokens.append((given["access_token"], given["expires_at"]))
    return web.json_response({"taken": True})


async def _close(request: web.Request) -> web.Response:
    request.app[AGENT].closed = True
    return web.json_response({})


async def _dashboard(request: web.Request) -> web.Response:
    request.app[AGENT].seen_headers.append(dict(request.headers))
    if request.path == "/":
        raise web.HTTPFound("/status?from=root")
    if request.path == "/go":
        return web.Response(status=302, headers={"Location": request.query["to"]})
    headers = {"Set-Cookie": "evil=1; Path=/", "Content-Security-Policy": "default-src *", "X-Site": "secret"}
    return web.Response(text=f"<h1>{request.path_qs}</h1>", content_type="text/html", headers=headers)


async def _echo(request: web.Request) -> web.WebSocketResponse:
    request.app[AGENT].seen_headers.append(dict(request.headers))
    stream = web.WebSocketResponse(protocols=["bokeh"])
    await stream.prepare(request)
    async for message in stream:
        if message.type is WSMsgType.TEXT:
            await stream.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await stream.send_bytes(message.data)
    return stream


GIB = 2**30


def _two_sites() -> dict[str, tuple[NodeSlot, ...]]:
    return {"T2_A": (NodeSlot(8, 6, 16 * GIB, 12 * GIB),), "T2_B": (NodeSlot(8, 8, 16 * GIB, 16 * GIB),)}


@dataclass
class Queued:
    """One job in the queue."""

    job: Job
    order: Order
    owner: str


@dataclass
class FakeSite:
    """A queue whose jobs go idle → running at :meth:`advance`, and the agents of those that run.

    Parameters
    ----------
    unreachable
        Nothing answers.
    loses_answers
        A submit is done, but nobody hears of it.
    holds
        Jobs are held for this reason instead of started.
    refuses
        A submit is refused with this sentence.
    slow
        What a submit costs; called before it is done.
    tunnel_down, cannot_forget
        The forwarder offers nothing; it does not hear that a cluster is over.
    trouble
        Why the controller has no connection to the forwarder.
    room
        What each site has.
    endings
        What the history says about jobs that are gone.
    wanting
        Whose batch jobs ask for a token, by pool; ``brought`` is what came of it, ``credd_down`` that it cannot come.
    """

    unreachable: bool = False
    loses_answers: bool = False
    holds: str = ""
    refuses: str = ""
    slow: Callable[[], None] = lambda: None
    tunnel_down: bool = False
    cannot_forget: bool = False
    trouble: str = ""
    room: dict[str, tuple[NodeSlot, ...]] = field(default_factory=_two_sites)
    endings: dict[str, Ending] = field(default_factory=dict)
    wanting: dict[str, set[Owner]] = field(default_factory=dict)
    brought: list[tuple[str, str, str]] = field(default_factory=list)
    credd_down: bool = False
    agents: dict[str, FakeJobAgent] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    queue: dict[str, Queued] = field(default_factory=dict)
    submitted: list[Order] = field(default_factory=list)
    _number: int = 0
    _folder: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="af-fake-")
        return self

    async def __aexit__(self, *_: object) -> None:
        for agent in self.agents.values():
            await agent.stop()
        assert self._folder
        self._folder.cleanup()

    async def jobs(self, pool: str) -> Mapping[str, Sequence[Job]]:
        """As :meth:`af_hub.controller.pool.JobPool.jobs`."""
        self._reach()
        found: dict[str, list[Job]] = {}
        for queued in self.queue.values():
            found.setdefault(queued.order.cluster, []).append(queued.job)
        return found

    async def keep_token(self, pool: str, credential: Credential, job_token: str) -> None:
        """As :meth:`af_hub.controller.batch.TokenPools.keep_token`."""
        self._reach()
        if self.credd_down:
            raise PoolAway("the access point takes no tokens for jobs now")
        self.brought.append((pool, credential.token, job_token))

    async def token_owners(self, pool: str) -> frozenset[Owner]:
        """As :meth:`af_hub.controller.batch.TokenPools.token_owners`."""
        self._reach()
        return frozenset(self.wanting.get(pool, ()))

    async def submit(self, pool: str, order: Order, credential: Credential) -> Sequence[Job]:
        """As :meth:`af_hub.controller.pool.JobPool.submit`."""
        self._reach()
        if self.refuses:
            raise Refused(self.refuses)
        self.slow()
        jobs = self.take(order, credential.owner)
        if self.loses_answers:
            raise PoolAway("the access point did not answer in time")
        return jobs

    async def remove(self, pool: str, jobs: Sequence[str], credential: Credential) -> None:
        """As :meth:`af_hub.controller.pool.JobPool.remove`."""
        self._reach()
        for job in jobs:
            if job in self.queue:
                if self.queue[job].owner != credential.owner:
                    raise Refused("HTCondor does not let you remove 1 job, which another account than yours owns")
                await self.end(job)

    async def slots(self, pool: str) -> Mapping[str, SiteSlots]:
        """As :meth:`af_hub.controller.pool.JobPool.slots`."""
        self._reach()
        return {site: SiteSlots(slots) for site, slots in self.room.items()}

    async def ending(self, pool: str, job: str) -> Ending | None:
        """As :meth:`af_hub.controller.pool.JobPool.ending`."""
        self._reach()
        return self.endings.get(job)

    def offered(self, cluster: str, service: str) -> bool:
        """As :meth:`af_hub.controller.jobagent.Endpoints.offered`."""
        return not self.tunnel_down and cluster in self.agents

    async def socket(self, cluster: str, service: str) -> Path:
        """As :meth:`af_hub.controller.jobagent.Endpoints.socket`."""
        return self.agents[cluster].path(service)

    async def forget(self, cluster: str) -> None:
        """As :meth:`af_hub.controller.jobagent.Endpoints.forget`."""
        if self.cannot_forget:
            raise Unavailable("the forwarder could not be told")
        self.forgotten.add(cluster)

    async def advance(self) -> None:
        """Start what is idle, or hold it."""
        for queued in list(self.queue.values()):
            if queued.job.state is JobState.IDLE:
                if self.holds:
                    queued.job = replace(queued.job, state=JobState.HELD, reason=self.holds)
                else:
                    queued.job = replace(queued.job, state=JobState.RUNNING)
                    await self._start(queued.job, queued.order)

    async def end(self, job: str) -> None:
        """The job is gone from the queue and from its node."""
        queued = self.queue.pop(job)
        order = queued.order
        agent = self.agents.get(order.cluster)
        if agent and order.role is Role.SCHEDULER:
            await self.agents.pop(order.cluster).stop()
        elif agent:
            agent.workers.discard(queued.job.worker)

    def numbers(self, cluster: str) -> list[str]:
        """The jobs of one cluster."""
        return [queued.job.id for queued in self.queue.values() if queued.order.cluster == cluster]

    def _reach(self) -> None:
        if self.unreachable:
            raise PoolAway("the access point does not answer")

    def take(self, order: Order, owner: str) -> list[Job]:
        """Put the jobs of an order into the queue."""
        self.submitted.append(order)
        self._number += 1
        jobs = [
            Job(f"{self._number}.{step}", order.role, JobState.IDLE, worker, since=time.time(), account=f"cms-{owner}")
            for step, worker in enumerate(order.workers or [""])
        ]
        self.queue |= {job.id: Queued(job, order, owner) for job in jobs}
        return jobs

    async def _start(self, started: Job, order: Order) -> None:
        if order.role is Role.WORKER:
            worker = json.loads(order.workers[started.worker]["worker.json"])
            agent = self.agents.get(order.cluster)
            if agent and worker["scheduler"] == agent.scheduler:
                agent.workers.add(worker["name"])
            return
        assert self._folder
        job = json.loads(order.files["job.json"])
        tls = _server_tls(order.files, Path(self._folder.name))
        agent = self.agents[order.cluster] = FakeJobAgent(job, tls, Path(self._folder.name))
        agent.workers.add(order.cluster[:8] + "-0")
        await agent.start()


def _server_tls(files: Mapping[str, bytes], folder: Path) -> ssl.SSLContext:
    for name in ("tls-ca.pem", "tls-scheduler.pem", "tls-scheduler.key"):
        (folder / name).write_bytes(files[name])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(folder / "tls-ca.pem")
    tls.load_cert_chain(folder / "tls-scheduler.pem", folder / "tls-scheduler.key")
    return tls
