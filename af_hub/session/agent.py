"""The session agent: one small process beside the user's server, which needs nothing of the user's image.

It keeps the token files fresh, holds the near ends of the tunnels to the person's Dask clusters, tells XRootD clients whether to read
from the cache or from the origin, and answers on a Unix socket (0600, in the session's folder)::

    GET    /health          what became of token and tunnels
    GET    /cvmfs           what each CVMFS repository is now: [{"name", "state", "revision", "sentence"}]
    GET    /clusters        those that are attached
    PUT    /clusters/{id}   attach: {"cluster", "scheduler": "tls://127.0.0.1:PORT", "tls": {"ca", "cert", "key"}, "expires_at"}
    DELETE /clusters/{id}   close the tunnel and remove its keys

Errors are problem details (RFC 9457). It may be killed at any time: the next agent opens the same ports with the same keys.

It is a child of :mod:`af_hub.session.supervisor`, or a container of the session's pod. There it finds its folder empty: its configuration
brings the session's files, the port of the signpost is the same for all, and a file says that it is ready.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from af_hub.errors import AFError, Unavailable
from af_hub.files import make_way, write_private
from af_hub.ready import say_ready
from af_hub.session.attachments import Attachments, BadClusterId, OpenBridge
from af_hub.session.controller import Controller, ControllerRefused, Credentials
from af_hub.session.cvmfs import in_words
from af_hub.session.cvmfs_look import FIRST_SECONDS, Looker
from af_hub.session.folders import LONGEST_SOCKET_PATH, FolderUnusable, write_files
from af_hub.session.fragments import AGENT_SOCKET, POOL_TOKEN_FILE, READY_FILE, TOKEN_FILE
from af_hub.session.freshness import Freshness, HubTokens, keep_fresh
from af_hub.session.jobtokens import keep_brought
from af_hub.session.signpost import open_signpost
from af_hub.session.tokenfile import TokenFile

log = logging.getLogger("af_hub.session.agent")

FIRST_TOKEN_SECONDS = 15
ATTACHMENTS = web.AppKey("attachments", Attachments)
LOOKER = web.AppKey("looker", Looker)
FRESHNESS = web.AppKey("freshness", Freshness)


@dataclass(frozen=True)
class AgentConfig:
    """What the spawner tells the agent, in a file (0600) because of the hub token in it.

    Parameters
    ----------
    pool
        The HTCondor pool, by its name in ``facility.yaml``, of which the session's tools need a token; none when empty.
    job_tokens
        Whether batch jobs there get a token.
    repositories
        Those of CVMFS that the facility promises.
    files
        Content by path relative to the folder, for whoever starts the agent in an empty one.
    home, home_files
        The person's home, and what is put into it while it is empty, by name.
    signpost_port
        Where on the loopback XRootD clients ask for the way; none when 0.
    first_token
        Seconds that the session waits for its first access token.
    """

    folder: Path
    hub_api_url: str
    hub_token: str = field(repr=False)
    controller_url: str
    cache: str = ""
    pool: str = ""
    job_tokens: bool = False
    repositories: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    home: Path | None = None
    home_files: Mapping[str, str] = field(default_factory=dict)
    signpost_port: int = 0
    first_token: float = FIRST_TOKEN_SECONDS

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file of JSON with these keys."""
        found = json.loads(path.read_text())
        home = Path(found["home"]) if found.get("home") else None
        return cls(**{**found, "folder": Path(found["folder"]), "home": home})


routes = web.RouteTableDef()


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    """What became of token and tunnels."""
    return web.json_response(
        {
            "pid": os.getpid(),
            "token": request.app[FRESHNESS].describe(),
            "clusters": len(request.app[ATTACHMENTS].all()),
        }
    )


@routes.get("/cvmfs")
async def cvmfs(request: web.Request) -> web.Response:
    """What each repository is now; after some seconds, whatever it is."""
    return web.json_response([repository.describe() for repository in await request.app[LOOKER].look()])


@routes.get("/clusters")
async def clusters(request: web.Request) -> web.Response:
    """Those that are attached."""
    return web.json_response([attachment.describe() for attachment in request.app[ATTACHMENTS].all()])


@routes.put("/clusters/{id}")
async def attach(request: web.Request) -> web.Response:
    """Attach one; the answer is the same when it already is."""
    attachment = await request.app[ATTACHMENTS].attach(request.match_info["id"])
    return web.json_response(attachment.describe())


@routes.delete("/clusters/{id}")
async def detach(request: web.Request) -> web.Response:
    """Close its tunnel and remove its keys."""
    await request.app[ATTACHMENTS].detach(request.match_info["id"])
    return web.Response(status=HTTPStatus.NO_CONTENT)


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Our exceptions as problem details; a controller's refusal keeps its status."""
    try:
        return await handler(request)
    except ControllerRefused as refusal:
        return _problem(refusal.status, str(refusal))
    except BadClusterId as error:
        return _problem(HTTPStatus.BAD_REQUEST, str(error))
    except Unavailable as error:
        return _problem(HTTPStatus.BAD_GATEWAY, str(error))
    except AFError as error:
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response(
        {"title": HTTPStatus(status).phrase, "status": int(status), "detail": detail},
        status=status,
        content_type="application/problem+json",
    )


def build_app(attachments: Attachments, freshness: Freshness, looker: Looker) -> web.Application:
    """The API over these values."""
    app = web.Application(middlewares=[problems])
    app[ATTACHMENTS], app[FRESHNESS], app[LOOKER] = attachments, freshness, looker
    app.add_routes(routes)
    return app


@asynccontextmanager
async def looking(looker: Looker) -> AsyncIterator[None]:
    """Say in the log what the repositories are at the start; nothing waits for it, and nothing of it is left behind."""

    async def say() -> None:
        with suppress(OSError):  # no process can be started: the session has greater worries
            log.info("CVMFS: %s", in_words(await looker.look(FIRST_SECONDS)))

    saying = asyncio.create_task(say()) if looker.names else None
    try:
        yield
    finally:
        if saying:
            saying.cancel()
        looker.close()


def make_room(path: Path) -> None:
    """Remove an earlier agent's socket.

    Raises
    ------
    FolderUnusable
        When no socket can be there, as its path is too long.
    """
    if len(str(path).encode()) > LONGEST_SOCKET_PATH:
        raise FolderUnusable(f"{path} is too long for a socket: Linux takes {LONGEST_SOCKET_PATH} bytes.")
    make_way(path)


@asynccontextmanager
async def serving(app: web.Application, path: Path) -> AsyncIterator[None]:
    """Answer on the Unix socket at ``path``, which only its owner may use."""
    make_room(path)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    try:
        yield
    finally:
        await runner.cleanup()


def furnish(config: AgentConfig) -> None:
    """Put the files there that came with the configuration."""
    for name, content in config.files.items():
        try:
            write_files(config.folder, {name: content})
        except OSError as error:
            log.error("a file of the session cannot be put there: %s", error)
    if config.home is None or not config.home_files:
        return
    try:
        if {path.name for path in config.home.iterdir()} <= {"lost+found"}:
            write_files(config.home, config.home_files)
    except OSError as error:
        log.error("nothing can be put into the home: %s", error)


def listen(port: int) -> socket.socket | None:
    """A socket for the signpost at this port of the loopback; None when there is to be none, or somebody has the port."""
    try:
        return socket.create_server(("127.0.0.1", port)) if port else None
    except OSError as error:
        log.error("no signpost for XRootD at port %d: %s", port, error)
        return None


async def open_tunnel(dask_cluster: str, credentials: Credentials, ssh_key: str, port: int) -> OpenBridge:
    """A tunnel's near end; SSH is loaded with the first one, so that no session that starts waits for it."""
    from af_hub.session.bridge import open_bridge

    return await open_bridge(dask_cluster, credentials, ssh_key, port)


async def run(config: AgentConfig, ready_fd: int | None, signpost: socket.socket | None = None) -> None:
    """Serve until SIGTERM or SIGINT; says ready when the first token is there, or when it is clear that it will not come soon.

    It says so by ``ready_fd``, if there is one, and by the file ``ready``. ``signpost`` is where XRootD clients ask for the way; there is none when it is None.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    freshness, first = Freshness(), asyncio.Event()
    ready = config.folder / READY_FILE
    make_way(ready)
    furnish(config)
    async with (
        aiohttp.ClientSession() as http,
        open_signpost(config.cache, signpost, lambda: str(config.folder / TOKEN_FILE)) if signpost else nullcontext(),
    ):
        controller = Controller(http, config.controller_url, config.hub_token)
        attachments = Attachments(config.folder / "clusters", controller.credentials, open_tunnel)
        tokens = HubTokens(http, config.hub_api_url, config.hub_token)
        keeping = asyncio.create_task(
            _together(
                keep_fresh(tokens, TokenFile(config.folder / TOKEN_FILE), freshness, first),
                *_for_the_pool(config, http, controller),
            )
        )
        await attachments.take_up()
        looker = Looker(config.repositories)
        socket = config.folder / AGENT_SOCKET
        async with serving(build_app(attachments, freshness, looker), socket), looking(looker):
            await _any_of(config.first_token, keeping, first.wait(), stop.wait())
            write_private(ready, "")
            say_ready(ready_fd, socket=str(socket), token=freshness.expires_at > 0, reason=freshness.reason)
            await _any_of(None, keeping, stop.wait())
        await attachments.close()


def _for_the_pool(
    config: AgentConfig, http: aiohttp.ClientSession, controller: Controller
) -> Iterator[Coroutine[Any, Any, None]]:
    """What is to be kept for HTCondor's tools and for batch jobs."""
    if config.pool:
        tokens = HubTokens(http, config.hub_api_url, config.hub_token, config.pool)
        yield keep_fresh(tokens, TokenFile(config.folder / POOL_TOKEN_FILE), Freshness(), asyncio.Event())
    if config.job_tokens:
        yield keep_brought(lambda: controller.bring_job_tokens(config.pool))


async def _together(*loops: Coroutine[Any, Any, None]) -> None:
    """All of them, until one fails."""
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop)


async def _any_of(seconds: float | None, keeping: asyncio.Task[None], *others: Coroutine[Any, Any, object]) -> None:
    """Wait for one of them, raising what ended the keeping of the token: without it we had better be started again."""
    tasks = [asyncio.create_task(other) for other in others]
    await asyncio.wait([keeping, *tasks], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    if keeping.done():
        keeping.result()


def main() -> None:
    """``python -m af_hub.session.agent --config FILE [--ready-fd N] [--signpost-fd N]``."""
    parser = argparse.ArgumentParser(prog="af_hub.session.agent", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="file of JSON with what the spawner tells")
    parser.add_argument("--ready-fd", type=int, help="descriptor for the line that says it serves")
    parser.add_argument(
        "--signpost-fd", type=int, help="descriptor of the socket at which XRootD clients ask for the way"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    config = AgentConfig.read(args.config)
    signpost = listen(config.signpost_port) if args.signpost_fd is None else socket.socket(fileno=args.signpost_fd)
    with suppress(KeyboardInterrupt):
        asyncio.run(run(config, args.ready_fd, signpost))


if __name__ == "__main__":
    main()
