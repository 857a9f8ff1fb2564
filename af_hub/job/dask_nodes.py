"""Dask's scheduler and worker without a TCP port that answers HTTP.

Serves scheduler.py and worker.py. Dask starts an HTTP server in both, on all addresses and without authentication; both methods
that do so are replaced here. Comm ports speak TLS and ask for a certificate of the Dask cluster's CA.
"""

import asyncio
import importlib
from pathlib import Path
from typing import Any

import dask
from distributed import Scheduler, Worker
from distributed.http.routing import RoutingApplication
from distributed.http.utils import get_handlers
from distributed.security import Security

from af_hub.job import kit
from af_hub.job.begin import TOKEN_FILE
from af_hub.job.dask_tokens import Delivery, TokenNanny
from af_hub.job.enclosure import SCRATCH
from af_hub.job.handshakes import refuse_slow_strangers
from af_hub.job.private_http import Once, serve_private, server_context
from af_hub.session.tokenfile import TokenFile

DASHBOARD_ROLES = ("client", "controller")
DEATH_TIMEOUT = "300s"

# Here, since the process of a worker that is spawned imports this module and no other of ours.
refuse_slow_strangers()


class PrivateScheduler(Scheduler):
    """The scheduler; its dashboard is at :data:`af_hub.job.kit.DASHBOARD_SOCKET` in the working directory."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tokens = Delivery(self)

    def start_http_server(self, routes: Any, *_: Any, **__: Any) -> None:
        """Called by Scheduler where it would listen on a TCP port."""
        self.http_application = RoutingApplication(routes)  # type: ignore[no-untyped-call]
        context = server_context(*map(Path, (kit.CA, kit.SCHEDULER_CERTIFICATE, kit.SCHEDULER_KEY)))
        first = Once(self._draw_dashboard)
        server: Any = serve_private(self.http_application, kit.DASHBOARD_SOCKET, context, DASHBOARD_ROLES, first)
        server.address, server.port = str(kit.DASHBOARD_SOCKET), 0  # Dask tells them to whoever asks
        self.http_server = self.services["dashboard"] = server

    async def _draw_dashboard(self) -> None:
        """Load the pages, in a thread and not before somebody wants them: they take as long as Dask itself."""
        try:
            pages = await asyncio.to_thread(importlib.import_module, "distributed.dashboard.scheduler")
        except ImportError:
            routes = get_handlers(server=self, modules=["distributed.http.scheduler.missing_bokeh"], prefix="/")
            self.http_application.add_handlers(".*$", routes)
        else:
            pages.connect(self.http_application, self.http_server, self, prefix="/")


class SilentWorker(Worker):
    """A worker that serves no HTTP at all."""

    def start_http_server(self, routes: Any, *_: Any, **__: Any) -> None:
        """Called by Worker where it would listen on a TCP port."""
        self.http_application = RoutingApplication(routes)  # type: ignore[no-untyped-call]


def scheduler_security() -> Security:
    """TLS of the scheduler, from the files in the working directory."""
    return Security(  # type: ignore[no-untyped-call]
        require_encryption=True,
        tls_ca_file=kit.CA,
        tls_scheduler_cert=kit.SCHEDULER_CERTIFICATE,
        tls_scheduler_key=kit.SCHEDULER_KEY,
    )


def worker_security() -> Security:
    """TLS of a worker; as a client too, for tasks that ask the scheduler themselves (``get_client``)."""
    return Security(  # type: ignore[no-untyped-call]
        require_encryption=True,
        tls_ca_file=kit.CA,
        tls_worker_cert=kit.WORKER_CERTIFICATE,
        tls_worker_key=kit.WORKER_KEY,
        tls_client_cert=kit.WORKER_CERTIFICATE,
        tls_client_key=kit.WORKER_KEY,
    )


def stay_in_sandbox() -> None:
    """Keep Dask's local files in the working directory, whatever its configuration says; workers inherit it from their nanny."""
    dask.config.set({"temporary-directory": str(Path(SCRATCH).absolute())})


def private_scheduler(host: str) -> PrivateScheduler:
    """A scheduler that listens on ``host``, any port."""
    return PrivateScheduler(host=host, port=0, protocol="tls", security=scheduler_security(), dashboard=False)


def silent_worker(worker: kit.WorkerKit, host: str) -> TokenNanny:
    """A nanny with one worker, whose token lies in the working directory."""
    return TokenNanny(
        TokenFile(Path(TOKEN_FILE).absolute()),
        worker.scheduler,
        name=worker.name,
        nthreads=worker.nthreads,
        memory_limit=worker.memory_limit,
        host=host,
        protocol="tls",
        security=worker_security(),
        worker_class=SilentWorker,
        dashboard=False,
        death_timeout=DEATH_TIMEOUT,
    )
