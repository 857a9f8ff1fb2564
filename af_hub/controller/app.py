"""The process: parts made from settings, the loop and the web server side by side, ended in order."""

import asyncio
import contextlib
import logging
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import uvicorn
from jupyterhub.services.auth import HubOAuth

from af_hub.controller import dashboard
from af_hub.controller.batch import BatchTokens
from af_hub.controller.condor import CondorPools
from af_hub.controller.hands import Hands
from af_hub.controller.hub import Hub
from af_hub.controller.jobagent import JobAgents
from af_hub.controller.keys import UserCA
from af_hub.controller.login import Login
from af_hub.controller.parts import Parts
from af_hub.controller.reconcile import Reconciler
from af_hub.controller.settings import SERVICE, Settings
from af_hub.controller.store import open_store
from af_hub.controller.tunnel import Tunnel
from af_hub.controller.web import create_app
from af_hub.files import private_folder
from af_hub.policy.load import PolicyFile
from af_hub.policy.watch import keep_current
from af_hub.ready import say_ready

log = logging.getLogger(__name__)

GRACE_SECONDS = 3


@contextlib.asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Everything that the controller is made of, with connections open."""
    user_ca = UserCA(settings.state, settings.user_ca_file)
    policy = PolicyFile(settings.facility)
    store = open_store(settings.database_url)
    tunnel = Tunnel(user_ca, settings.forwarder)
    agents = JobAgents(tunnel, settings.state)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(store.close)
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        hub = Hub(settings.hub_api_url, settings.token, client, SERVICE)
        pool = CondorPools(policy, settings.reader_token_file, empty_scratch(settings.state))
        reconciler = Reconciler(Hands(store, pool, hub, agents, user_ca, settings.state, policy, settings.forwarder))
        tunnel.changed, tunnel.is_over = reconciler.hasten, store.is_over
        await stack.enter_async_context(tunnel)
        stack.push_async_callback(agents.close)
        stack.push_async_callback(reconciler.close)
        login = Login(hub, _oauth(settings), settings.prefix, settings.hub_url.startswith("https:"))
        yield Parts(
            store=store,
            pool=pool,
            hub=hub,
            login=login,
            agents=agents,
            reconciler=reconciler,
            batch=BatchTokens(hub, pool, policy),
            user_ca=user_ca,
            state=settings.state,
            policy=policy,
            forwarder=settings.forwarder,
            public_url=settings.public_url,
        )


def empty_scratch(state: Path) -> Path:
    """The folder for what lasts as long as one call; without what a controller that was killed left there."""
    scratch = state / "calls"
    shutil.rmtree(scratch, ignore_errors=True)
    return private_folder(scratch)


def _oauth(settings: Settings) -> HubOAuth:
    return HubOAuth(
        api_url=settings.hub_api_url,
        api_token=settings.token,
        base_url=settings.prefix,
        hub_host="",
        hub_prefix=settings.prefix.removesuffix(f"services/{SERVICE}/") + "hub/",
        oauth_client_id=f"service-{SERVICE}",
        oauth_redirect_uri=f"{settings.prefix}oauth_callback",
    )


async def serve(settings: Settings, listener: socket.socket, ready_fd: int | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with open_parts(settings) as parts:
        config = uvicorn.Config(
            create_app(parts),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=dashboard.MESSAGE_BYTES,
            ws_max_queue=dashboard.MESSAGES_WAITING,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        loops = [
            asyncio.create_task(parts.reconciler.keep_matching()),
            asyncio.create_task(parts.reconciler.keep_hastening()),
            asyncio.create_task(parts.batch.keep_fresh()),
            asyncio.create_task(parts.reconciler.tokens.keep_fresh()),
            asyncio.create_task(keep_current(parts.policy)),
        ]
        try:
            await _Server(config, ready_fd, parts.store.news.close).serve([listener])
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)


class _Server(uvicorn.Server):
    """Says when it serves."""

    def __init__(self, config: uvicorn.Config, ready_fd: int | None, before_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready_fd = ready_fd
        self._before_end = before_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of whoever waits, then of all connections."""
        self._before_end()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        log.info("serving at %s port %s", host, port)
        say_ready(self._ready_fd, url=f"http://{host}:{port}", host=host, port=port)
