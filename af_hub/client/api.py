"""What a notebook asks: the controller (Dask clusters) and the session agent (the way to them).

Serves the hops session → controller and kernel → session agent. Promises: every call has a time limit, an error is a sentence, the hub
token stands in a header only. Needs nothing but httpx.
"""

import asyncio
import functools
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from af_hub.errors import AFError, LoginRequired, Refused, Unavailable

SECONDS = 15
ATTACH_SECONDS = 60
AGENT_AWAY_SECONDS = 15
"""How long the session agent may be away; it is started again as soon as it dies, which takes a second or two."""

PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Controller:
    """The controller's REST API, as one person.

    Parameters
    ----------
    url
        Where it is, with the service's prefix; ends with a slash.
    token
        A hub token with the scope ``access:services!service=af-controller``.
    """

    url: str
    token: str = field(repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """As the session was told.

        Raises
        ------
        Unavailable
            Outside of a session of the facility.
        """
        url, token = environ.get("AF_CONTROLLER_URL"), environ.get("JUPYTERHUB_API_TOKEN")
        if not url or not token:
            raise Unavailable(
                "This is no session of the facility: AF_CONTROLLER_URL and JUPYTERHUB_API_TOKEN should be set. "
                "Inside of one, restart the server."
            )
        return cls(url.rstrip("/") + "/", token)

    async def sites(self) -> list[dict[str, Any]]:
        """Sites that are open to you."""
        found: list[dict[str, Any]] = await self._json("GET", "api/sites")
        return found

    async def clusters(self) -> list[dict[str, Any]]:
        """Your Dask clusters, the newest first."""
        found: list[dict[str, Any]] = await self._json("GET", "api/clusters")
        return found

    async def create(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a Dask cluster: site, image, workers, cores, memory (bytes), name."""
        return await self._object("POST", "api/clusters", asked)

    async def get(self, cluster: str, after: float | None = None) -> dict[str, Any]:
        """One of your Dask clusters; once it has a newer event than ``after``, or some seconds later, when that is given."""
        return await self._object("GET", f"api/clusters/{cluster}" + ("" if after is None else f"?after={after!r}"))

    async def scale(self, cluster: str, workers: int) -> dict[str, Any]:
        """Change the number of workers."""
        return await self._object("PATCH", f"api/clusters/{cluster}", {"workers": workers})

    async def close(self, cluster: str) -> dict[str, Any]:
        """Close it; may be repeated."""
        return await self._object("DELETE", f"api/clusters/{cluster}")

    async def logs(self, cluster: str) -> str:
        """The ends of its logs."""
        return (await self._ask("GET", f"api/clusters/{cluster}/logs")).text

    async def _object(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = await self._json(method, path, body)
        return found

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return _read(await self._ask(method, path, body), "the controller")

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"}
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=SECONDS, verify=_tls(self.url)) as client:
                answer = await client.request(method, self.url + path, headers=headers, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"The controller does not answer ({type(error).__name__}).") from None
        if answer.is_success:
            return answer
        raise _error(answer, "The controller")


@dataclass(frozen=True)
class Way:
    """How to reach one Dask cluster from this session: an address on this machine, and files with credentials."""

    cluster: str
    scheduler: str
    ca: str
    certificate: str
    key: str


@dataclass(frozen=True)
class SessionAgent:
    """The process beside the server that holds the tunnels.

    Parameters
    ----------
    socket
        Its Unix socket.
    """

    socket: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """As the session was told.

        Raises
        ------
        Unavailable
            Outside of a session of the facility.
        """
        socket = environ.get("AF_AGENT_SOCKET")
        if not socket:
            raise Unavailable("This session has no session agent: AF_AGENT_SOCKET should be set. Restart the server.")
        return cls(socket)

    async def attach(self, cluster: str) -> Way:
        """Open the way to a Dask cluster of yours; may be repeated, and waits for an agent that is being started again."""
        answer = await self._ask_patiently("PUT", f"/clusters/{cluster}", ATTACH_SECONDS)
        if not answer.is_success:
            raise _error(answer, "The session agent")
        return _way(_read(answer, "the session agent"))

    async def detach(self, cluster: str) -> None:
        """Close the way; may be repeated."""
        await self._ask("DELETE", f"/clusters/{cluster}", SECONDS)

    async def pid(self) -> int:
        """Which process it is; another one after it died. Waits for an agent that is being started again."""
        found = _read(await self._ask_patiently("GET", "/health", SECONDS), "the session agent")
        return int(found.get("pid", 0))

    def ways(self) -> list[Way]:
        """All ways that are open, for Dask's security loader; blocks, for some seconds while an agent is being started again."""
        deadline = time.monotonic() + AGENT_AWAY_SECONDS
        while True:
            try:
                return self._ways()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)

    def _ways(self) -> list[Way]:
        transport = httpx.HTTPTransport(uds=self.socket, verify=_tls(""))
        try:
            with httpx.Client(transport=transport, timeout=SECONDS, trust_env=False) as client:
                answer = client.get("http://session-agent/clusters")
        except httpx.HTTPError as error:
            raise self._away(error) from None
        found = _read(answer, "the session agent") if answer.is_success else []
        return [_way(one) for one in found]

    async def _ask_patiently(self, method: str, path: str, seconds: float) -> httpx.Response:
        """For what may be asked twice."""
        deadline = time.monotonic() + AGENT_AWAY_SECONDS
        while True:
            try:
                return await self._ask(method, path, seconds)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, method: str, path: str, seconds: float) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=self.socket, verify=_tls(""))
        try:
            async with httpx.AsyncClient(transport=transport, timeout=seconds, trust_env=False) as client:
                return await client.request(method, f"http://session-agent{path}")
        except httpx.HTTPError as error:
            raise self._away(error) from None

    def _away(self, error: httpx.HTTPError) -> Unavailable:
        return Unavailable(
            f"The session agent does not answer ({type(error).__name__}). It is started again when it dies: try again in a "
            "moment, then restart the server."
        )


def _tls(url: str) -> ssl.SSLContext | bool:
    """Made once, and only where it is used: httpx makes one for each client, reading all authorities of the machine, for 30 ms."""
    return _public_tls() if url.startswith("https:") else False


@functools.cache
def _public_tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _read(answer: httpx.Response, who: str) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise Unavailable(f"The answer of {who} is no JSON.") from None


def _way(found: Mapping[str, Any]) -> Way:
    try:
        tls = found["tls"]
        return Way(found["cluster"], found["scheduler"], tls["ca"], tls["cert"], tls["key"])
    except (KeyError, TypeError):
        raise Unavailable("The session agent's answer holds no address and credentials.") from None


def _error(answer: httpx.Response, who: str) -> AFError:
    """The answer's problem as an exception; the sentence is the other side's.

    An answer without one comes from somebody else: the proxy or the hub, while a part of the facility is being started again.
    """
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"{who} does not answer (somebody else does, with status {answer.status_code}).")
    if answer.status_code == 401:
        return LoginRequired(f"{detail} If this is a session, restart the server.")
    return Refused(detail) if answer.status_code in (403, 404, 409, 422) else Unavailable(detail)
