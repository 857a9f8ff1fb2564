import asyncio
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

CLUSTER = "0123456789abcdef" * 2
TOKEN = "hub-" + "7" * 30
PREFIX = "/services/af-controller/"
WAITING = {"state": "queued", "reason": "waiting for a free slot at T2_A"}
RUNNING = {"state": "running", "reason": ""}


@dataclass
class FakeFacility:
    """A controller and a session agent, in a thread; ``states`` are what the cluster goes through, one at each look."""

    folder: Path
    scheduler: str = "tls://127.0.0.1:1"
    tls: dict = field(default_factory=lambda: {"ca": "", "cert": "", "key": ""})
    states: list = field(default_factory=lambda: [RUNNING])
    refuses: tuple | None = None
    agent_away: bool = False
    agent_away_for: int = 0
    away_for: int = 0
    waits_for_news: bool = False
    cluster: dict | None = None
    asked: list = field(default_factory=list)
    url: str = ""

    @property
    def socket(self):
        return str(self.folder / "agent.sock")

    def start(self):
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, ready):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.gather(*(runner.cleanup() for runner in self._runners)))
        self._loop.close()

    async def _serve(self):
        controller, agent = web.Application(), web.Application()
        controller.router.add_route("*", PREFIX + "{path:.*}", self._controller)
        agent.router.add_route("*", "/{path:.*}", self._agent)
        self._runners = [web.AppRunner(app, access_log=None, shutdown_timeout=0.1) for app in (controller, agent)]
        for runner in self._runners:
            await runner.setup()
        await web.TCPSite(self._runners[0], "127.0.0.1", 0).start()
        await web.UnixSite(self._runners[1], self.socket).start()
        self.url = f"http://127.0.0.1:{self._runners[0].addresses[0][1]}{PREFIX}"

    async def _controller(self, request):
        path, body = request.match_info["path"], await request.json() if request.can_read_body else None
        self.asked.append((request.method, path, body))
        if request.headers.get("Authorization") != f"token {TOKEN}":
            return problem(401, "The hub does not know this token.")
        if self.away_for:
            self.away_for -= 1
            # From the proxy: it knows no route yet, or nobody is at its end.
            return web.Response(status=404 if self.away_for % 2 else 503)
        match request.method, path:
            case "POST", "api/clusters":
                if self.refuses:
                    return problem(*self.refuses)
                self.cluster = self._new(body)
            case "GET", "api/clusters":
                return web.json_response([self.cluster] if self.cluster else [])
            case "GET", p if p == f"api/clusters/{CLUSTER}" and self.cluster:
                if self.waits_for_news:
                    await asyncio.Event().wait()
                found = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                self.cluster |= found if self.cluster["state"] != "closing" else {}
            case "PATCH", p if p == f"api/clusters/{CLUSTER}":
                if body["workers"] > 8:
                    return problem(403, "your limit is 8")
                self.cluster |= {"workers_wanted": body["workers"]}
            case "DELETE", p if p == f"api/clusters/{CLUSTER}":
                self.cluster |= {"state": "closing", "reason": "you closed it"}
            case "GET", p if p == f"api/clusters/{CLUSTER}/logs":
                return web.Response(text="==> scheduler <==\nhello")
            case _:
                return problem(404, "There is no such Dask cluster of yours.")
        return web.json_response(self.cluster)

    def _new(self, body):
        return body | {
            "id": CLUSTER,
            "name": body.get("name") or "T2_A-0123",
            "owner": "cms-analyst",
            "state": "requested",
            "reason": "",
            "workers_wanted": body["workers"],
            "workers_running": 0,
            "dashboard": f"http://hub.test{PREFIX}clusters/{CLUSTER}/dashboard/status",
        }

    async def _agent(self, request):
        self.asked.append((f"agent {request.method}", request.path, None))
        self.agent_away_for -= 1
        if self.agent_away or self.agent_away_for >= 0:
            return problem(502, "the controller does not answer")
        if request.method == "DELETE":
            return web.Response(status=204)
        way = {"cluster": CLUSTER, "scheduler": self.scheduler, "tls": self.tls, "expires_at": time.time() + 60}
        if request.path == "/health":
            return web.json_response(
                {"pid": 4711, "token": {"expires_at": time.time() + 60, "reason": ""}, "clusters": 1}
            )
        return web.json_response([way] if request.path == "/clusters" else way)

    def said(self, method):
        return [(path, body) for how, path, body in self.asked if how == method]


def problem(status, detail):
    return web.json_response({"detail": detail, "status": status}, status=status)
