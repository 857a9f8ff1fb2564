"""The controller's calls to a cluster's job agent and dashboard, through a local Unix socket that the tunnel ends in.

Promises: mutual TLS with the cluster's own authority, as role ``controller``, and only with a peer whose certificate is the role
``scheduler``: neither the forwarder nor a worker can answer in its place. Every call has a time limit.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from af_hub.controller.keys import ClusterKeys
from af_hub.controller.plan import Report
from af_hub.errors import Unavailable

PEER = "scheduler"
"""DNS name in the certificate of whoever serves agent and dashboard."""

SECONDS = 5
RETIRE_SECONDS = 60
LOG_BYTES = 1 << 20
"""The most of one log that is passed on."""


class Endpoints(Protocol):
    """The way to endpoints of clusters; see :class:`af_hub.controller.tunnel.Tunnel`."""

    def offered(self, cluster: str, service: str) -> bool:
        """Whether the cluster's job offers that service at the moment."""
        ...

    async def socket(self, cluster: str, service: str) -> Path:
        """A Unix socket that leads there."""
        ...

    async def forget(self, cluster: str) -> None:
        """Close what leads there and have the forwarder refuse the cluster from now on."""
        ...


@dataclass
class Way:
    """An HTTP client for one endpoint, and what a WebSocket needs to go the same way."""

    client: httpx.AsyncClient
    socket: Path
    tls: ssl.SSLContext


class JobAgents:
    """Agents and dashboards of all clusters; connections are kept for the next call."""

    def __init__(self, endpoints: Endpoints, state: Path) -> None:
        self._endpoints = endpoints
        self._state = state
        self._ways: dict[tuple[str, str], Way] = {}

    async def way(self, cluster: str, service: str) -> Way:
        """How to reach ``service`` of ``cluster``.

        Raises
        ------
        Unavailable
            When nobody offers it at the moment.
        """
        if not self._endpoints.offered(cluster, service):
            raise Unavailable("the cluster is not connected to the forwarder at the moment")
        socket = await self._endpoints.socket(cluster, service)
        known = self._ways.get((cluster, service))
        if known and known.socket == socket:
            return known
        context = controller_tls(ClusterKeys(self._state, cluster))
        transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=context)
        client = httpx.AsyncClient(transport=transport, base_url=f"https://{PEER}", timeout=SECONDS, trust_env=False)
        if known:
            await known.client.aclose()
        self._ways[cluster, service] = way = Way(client, socket, context)
        return way

    async def forget(self, cluster: str) -> None:
        """Close every connection there, and the way."""
        for key in [key for key in self._ways if key[0] == cluster]:
            await self._ways.pop(key).client.aclose()
        await self._endpoints.forget(cluster)

    async def close(self) -> None:
        """Close all connections."""
        for way in self._ways.values():
            await way.client.aclose()
        self._ways.clear()

    async def report(self, cluster: str) -> Report | None:
        """What the agent says; None when it cannot be asked."""
        try:
            found = (await self._ask(cluster, "GET", "/status")).json()
            return Report(str(found["scheduler"] or ""), frozenset(str(worker["name"]) for worker in found["workers"]))
        except (Unavailable, ValueError, KeyError, TypeError):
            return None

    async def want_first_worker(self, cluster: str, wanted: bool) -> None:
        """Start or end the worker beside the scheduler; may be repeated."""
        await self._ask(cluster, "PUT", "/first-worker", {"wanted": wanted})

    async def retire(self, cluster: str, workers: tuple[str, ...]) -> None:
        """Let workers hand over their results and end; returns when they have."""
        await self._ask(cluster, "POST", "/retire", {"workers": list(workers)}, RETIRE_SECONDS)

    async def ask_to_close(self, cluster: str) -> None:
        """Tell it that the cluster ends."""
        await self._ask(cluster, "POST", "/close", {})

    async def log(self, cluster: str, part: str) -> str:
        """The end of one part's log."""
        return (await self._ask(cluster, "GET", f"/logs?part={part}")).text[-LOG_BYTES:]

    async def _ask(
        self, cluster: str, method: str, path: str, body: Any = None, seconds: float = SECONDS
    ) -> httpx.Response:
        way = await self.way(cluster, "agent")
        try:
            answer = await way.client.request(method, path, json=body, timeout=seconds)
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            raise Unavailable(f"the cluster's job does not answer ({type(error).__name__})") from error
        if not answer.is_success:
            raise Unavailable(f"the cluster's job answered {answer.status_code}")
        return answer


def controller_tls(keys: ClusterKeys) -> ssl.SSLContext:
    """TLS as role ``controller`` of one cluster.

    Raises
    ------
    Unavailable
        When the cluster's keys are gone.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(keys.path("tls-ca.pem"))
        context.load_cert_chain(keys.path("tls-controller.pem"), keys.path("tls-controller.key"))
    except OSError as error:
        raise Unavailable("the cluster's keys have been removed") from error
    return context
