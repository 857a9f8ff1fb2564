"""The controller's calls to a cluster's job agent and dashboard, through a local Unix socket that the tunnel ends in.

Promises: mutual TLS with the cluster's own authority, as role ``controller``, and only with a peer whose certificate is the role
``scheduler``: neither the forwarder nor a worker can answer in its place. Every call has a time limit, and every answer one on its
size: whoever owns the cluster holds the keys of its job, so the agent may be a program of theirs.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from af_hub.controller.hub import StorageToken
from af_hub.controller.keys import ClusterKeys
from af_hub.controller.steps import Report
from af_hub.errors import Unavailable

PEER = "scheduler"
"""DNS name in the certificate of whoever serves agent and dashboard."""

SECONDS = 5
RETIRE_SECONDS = 60
ANSWER_BYTES = 4 << 20
"""Room for the status of more than ten thousand workers."""

NAME_LENGTH = 256
PLAIN = {"Accept-Encoding": "identity"}


class Endpoints(Protocol):
    """The way to endpoints of clusters; see :class:`af_hub.controller.tunnel.Tunnel`."""

    @property
    def trouble(self) -> str:
        """Why the forwarder cannot be reached; empty while it can."""
        ...

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
    """Agents and dashboards of all clusters; connections are kept for the next call.

    Parameters
    ----------
    seconds
        That an agent has to answer, from the first byte to the last.
    """

    def __init__(self, endpoints: Endpoints, state: Path, seconds: float = SECONDS) -> None:
        self._endpoints = endpoints
        self._state = state
        self._seconds = seconds
        self._ways: dict[tuple[str, str], Way] = {}

    def came(self, cluster: str) -> bool:
        """Whether the agent is connected to the forwarder at the moment."""
        return self._endpoints.offered(cluster, "agent")

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
        client = httpx.AsyncClient(
            transport=transport, base_url=f"https://{PEER}", headers=PLAIN, timeout=SECONDS, trust_env=False
        )
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
        """What the agent says; None when it is not connected to the forwarder."""
        if not self._endpoints.offered(cluster, "agent"):
            return None
        try:
            return read_report(await self._ask(cluster, "GET", "/status"))
        except Unavailable as error:
            return Report(trouble=str(error))

    @property
    def cut_off(self) -> str:
        """Why no agent can be asked; empty while there is a way to the forwarder."""
        return self._endpoints.trouble

    async def want_first_worker(self, cluster: str, wanted: bool) -> None:
        """Start or end the worker beside the scheduler; may be repeated."""
        await self._ask(cluster, "PUT", "/first-worker", {"wanted": wanted})

    async def retire(self, cluster: str, workers: tuple[str, ...]) -> None:
        """Let workers hand over their results and end; returns when they have."""
        await self._ask(cluster, "POST", "/retire", {"workers": list(workers)}, RETIRE_SECONDS)

    async def give_token(self, cluster: str, token: StorageToken) -> None:
        """Let scheduler and workers read data with this token from now on; may be repeated."""
        await self._ask(cluster, "PUT", "/token", {"access_token": token.value, "expires_at": token.expires_at})

    async def ask_to_close(self, cluster: str) -> None:
        """Tell it that the cluster ends."""
        await self._ask(cluster, "POST", "/close", {})

    async def log(self, cluster: str, part: str) -> str:
        """The end of one part's log."""
        return (await self._ask(cluster, "GET", f"/logs?part={part}")).decode("utf-8", "replace")

    async def _ask(self, cluster: str, method: str, path: str, body: Any = None, seconds: float = 0) -> bytes:
        way = await self.way(cluster, "agent")
        seconds = seconds or self._seconds
        try:
            async with asyncio.timeout(seconds), way.client.stream(method, path, json=body, timeout=seconds) as answer:
                if not answer.is_success:
                    raise Unavailable(f"the cluster's job answered {answer.status_code}")
                return await _read(answer)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unavailable(f"the cluster's job does not answer ({type(error).__name__})") from error


async def _read(answer: httpx.Response) -> bytes:
    """The body, as it came: what unpacks to a thousand times its size is not unpacked."""
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise Unavailable(f"the cluster's job answers with more than {ANSWER_BYTES >> 20} MiB")
    return bytes(body)


def read_report(body: bytes) -> Report:
    """What ``GET /status`` of the agent answered.

    Raises
    ------
    Unavailable
        When it is anything else.
    """
    try:
        found = json.loads(body)
        names = frozenset(str(worker["name"])[:NAME_LENGTH] for worker in found["workers"])
        return Report(str(found["scheduler"] or "")[:NAME_LENGTH], names)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Unavailable("the cluster's job answers what is no status") from error


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
