"""The agent API: what the controller asks and orders, behind the endpoint ``agent``.

Serves the controller, whose certificate alone is admitted (:mod:`af_hub.job.private_http`). HTTP with JSON::

    GET  /status                      scheduler, workers, clients, tasks, first_worker, expires_at, site, cluster
    GET  /logs?part=agent             the end of a log as text; part is agent, scheduler or worker
    PUT  /first-worker {"wanted": b}  start or retire the worker beside the scheduler
    POST /retire {"workers": [name]}  end workers, their results first moved to others
    PUT  /token                       {"access_token", "expires_at"}: what scheduler and workers read data with from now on
    POST /close                       end the job

A token goes in and never out: nothing here gives one to anybody.
"""

import json
import re
import time
from pathlib import Path
from typing import Any, Protocol

from tornado.web import Application, HTTPError, RequestHandler

from af_hub.errors import Unavailable
from af_hub.job.kit import LOG_PARTS
from af_hub.tokens.lifetime import AccessToken

LOG_BYTES = 256 << 10
TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")


class Orders(Protocol):
    """What the agent can be asked; raises Unavailable when the scheduler does not answer."""

    async def status(self) -> dict[str, Any]:
        """What there is."""

    async def retire(self, workers: list[str]) -> list[str]:
        """End workers; returns those that there were."""

    async def want_first_worker(self, wanted: bool) -> None:
        """Start or retire the first worker."""

    async def take_token(self, token: AccessToken) -> None:
        """Give scheduler and workers this token."""

    def close(self) -> None:
        """End the job soon."""


class Handler(RequestHandler):
    """What all have in common: JSON in and out, problems as RFC 9457 says."""

    def initialize(self, orders: Orders) -> None:
        """Called by tornado."""
        self.orders = orders

    def body(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """One value of the JSON body; 400 when it is not there or of another kind."""
        try:
            value = json.loads(self.request.body)[name]
        except (ValueError, KeyError, TypeError):
            value = None
        if not isinstance(value, kind):
            names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise HTTPError(400, reason=f"the body should be JSON with {name!r} ({names})")
        return value

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Problem details; the reason is ours, never a trace."""
        error = kwargs["exc_info"][1]
        if isinstance(error, Unavailable):
            status_code = 503
            self.set_status(503)
        detail = str(error) if isinstance(error, Unavailable) else self._reason
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps({"status": status_code, "title": self._reason, "detail": detail}))


class Status(Handler):
    """GET /status"""

    async def get(self) -> None:
        """What there is."""
        self.write(await self.orders.status())


class Logs(Handler):
    """GET /logs"""

    def get(self) -> None:
        """The end of a log."""
        part = self.get_query_argument("part", "agent")
        if part not in LOG_PARTS:
            raise HTTPError(400, reason=f"part should be one of {', '.join(LOG_PARTS)}")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(read_end(Path(f"{part}.log")))


class FirstWorker(Handler):
    """PUT /first-worker"""

    async def put(self) -> None:
        """Start or retire it."""
        wanted = self.body("wanted", bool)
        await self.orders.want_first_worker(wanted)
        self.write({"wanted": wanted})


class Retire(Handler):
    """POST /retire"""

    async def post(self) -> None:
        """End workers."""
        self.write({"retired": await self.orders.retire([str(name) for name in self.body("workers", list)])})


class Token(Handler):
    """PUT /token"""

    async def put(self) -> None:
        """A fresh one."""
        value, expires_at = self.body("access_token", str), self.body("expires_at", (int, float))
        if not TOKEN.fullmatch(value):
            raise HTTPError(400, reason="'access_token' should be a token")
        await self.orders.take_token(AccessToken(value, time.time(), float(expires_at)))
        self.write({"taken": True})


class Close(Handler):
    """POST /close"""

    def post(self) -> None:
        """End the job."""
        self.orders.close()
        self.write({"closing": True})


def read_end(path: Path, limit: int = LOG_BYTES) -> bytes:
    """The last bytes of a file; nothing when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - limit))
            return file.read()
    except FileNotFoundError:
        return b""


def api(orders: Orders) -> Application:
    """The application."""
    routes = [
        ("/status", Status),
        ("/logs", Logs),
        ("/first-worker", FirstWorker),
        ("/retire", Retire),
        ("/token", Token),
        ("/close", Close),
    ]
    return Application([(path, handler, {"orders": orders}) for path, handler in routes], log_function=lambda _: None)
