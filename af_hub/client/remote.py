"""``RemoteHTCondor``: a Dask cluster at a site, as an object in the notebook.

Serves the hop kernel → controller. The cluster itself lives there: this object asks for it, waits in words, connects
(:mod:`af_hub.client.way`) and closes it. Promises: nothing waits without limit, a cluster that did
not come up is not left behind, and :meth:`RemoteHTCondor.close` reaches the controller whether or not the tunnel works.
"""

# Dask has types in places only.
# mypy: disable-error-code="no-untyped-call"

import asyncio
import importlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from dask.utils import format_bytes
from distributed.core import Status
from distributed.utils import NoOpAwaitable

from af_hub.client.api import Controller, SessionAgent
from af_hub.client.way import WayToCluster
from af_hub.client.words import (
    OVER,
    find_running,
    html_table,
    newest,
    read_duration,
    read_size,
    say_over,
    state_words,
)
from af_hub.errors import AFError, ClusterFailed, Refused, Unavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
CONTROLLER_AWAY_SECONDS = 120
"""How long the controller may be away while a cluster is waited for; a restart takes seconds."""

T = TypeVar("T")


class RemoteHTCondor(WayToCluster):
    """A Dask cluster whose scheduler and workers are batch jobs at one site.

    Parameters
    ----------
    sitename
        Where it runs; may be left out where only one site is open to you.
    image
        What scheduler and workers run in; that of the session when left out.
    workers
        How many workers at first.
    user_cores, user_memory
        Of each worker; memory as ``"2 GiB"`` or in bytes.
    name
        What pages and lists call it.
    asynchronous
        True in ``async`` code: ``cluster = await RemoteHTCondor(…, asynchronous=True)``.
    start_timeout
        How long to wait for the scheduler to run, as ``"30 minutes"``; then the cluster is closed and an error raised.
    quiet
        Print no progress.

    Examples
    --------
    >>> cluster = RemoteHTCondor(sitename="T2_A")
    >>> client = Client(cluster)
    >>> cluster.scale(4)
    >>> cluster.close()
    """

    def __init__(
        self,
        sitename: str = "",
        image: str | None = None,
        workers: int = 1,
        user_cores: int = 1,
        user_memory: str | int = "2 GiB",
        name: str | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        quiet: bool = False,
        start_timeout: str | float = "30 minutes",
    ) -> None:
        self._asked: dict[str, Any] = {
            "site": sitename or _only_site(),
            "image": image or _session_image(),
            "workers": workers,
            "cores": user_cores,
            "memory": read_size(user_memory),
        } | ({"name": name} if name else {})
        self._start_seconds = read_duration(start_timeout)
        super().__init__(
            Controller.from_environment(), SessionAgent.from_environment(), asynchronous, loop, quiet, name
        )
        if not self.called_from_running_loop:
            self._loop_runner.start()
            self.sync(self._start)

    @classmethod
    def list(cls) -> list[dict[str, Any]]:
        """Your Dask clusters, those of other sessions and those that are over too, the newest first."""
        return _run(Controller.from_environment().clusters)

    @classmethod
    def reach(cls, cluster: str) -> str:
        """Open the way to a running Dask cluster of yours, also one that an earlier session made; its address for ``Client``.

        Parameters
        ----------
        cluster
            Its name or id, as :meth:`list` and the clusters' page show them.

        Raises
        ------
        Refused
            When you have no such cluster that runs.

        Examples
        --------
        >>> client = Client(RemoteHTCondor.reach("T2_A-0123"))
        """
        found = find_running(cls.list(), cluster)
        return _run(lambda: SessionAgent.from_environment().attach(found["id"])).scheduler

    @property
    def dashboard_link(self) -> str:
        """Where a browser finds the dashboard, through the hub."""
        return str(self._found.get("dashboard", ""))

    def scale(self, n: int) -> Any:
        """Want ``n`` workers in all; returns when the controller knows, not when they are there (``client.wait_for_workers``).

        Raises
        ------
        Refused
            With the limit, when that is too many.
        """
        return self.sync(self._scale, n)

    def adapt(self, *args: Any, **kwargs: Any) -> Any:
        """Not there: say how many workers with :meth:`scale`."""
        raise NotImplementedError("This cluster does not scale by itself; say how many workers with scale(n).")

    def logs(self) -> Any:
        """The ends of the logs of job agent, scheduler and first worker, as one text."""
        return self.sync(self._logs)

    def close(self, timeout: float | None = None) -> Any:
        """Close the cluster for good: its jobs are removed, results that are not here are gone.

        Raises
        ------
        Unavailable
            When the controller could not be told; the cluster then lives on until it is closed on the page or expires.
        """
        if self.status == Status.closed:
            return NoOpAwaitable() if self.asynchronous else None
        return self.sync(self._close, callback_timeout=timeout)

    def __await__(self) -> Generator[Any, None, Self]:
        async def started() -> Self:
            if self.status == Status.created:
                await self._start()
            return self

        return started().__await__()

    async def _start(self) -> None:
        """Ask for it, wait for it, connect to it; on any failure, close it again."""
        try:
            self._found = await self._controller.create(self._asked)
        except BaseException:
            self.status = Status.closed
            raise
        self.name = self._found["name"]
        ahead = self._attach_ahead()
        try:
            await self._wait()
            self._log(f"{self.name} runs at {self._found['site']}; connecting")
            await self._connect(ahead)
        except BaseException:
            # Also when somebody presses Ctrl-C or stops the cell.
            ahead.cancel()
            await asyncio.shield(self._give_up())
            raise
        self._log(f"{self.name} is ready; its dashboard: {self.dashboard_link}")

    async def _wait(self) -> None:
        """Until it runs, telling each change in words."""
        told = None
        heard = time.monotonic()
        deadline = asyncio.get_running_loop().time() + self._start_seconds
        while self._found["state"] != "running":
            if self._found["state"] in OVER:
                raise ClusterFailed(say_over(self._found))
            if asyncio.get_running_loop().time() >= deadline:
                raise ClusterFailed(
                    f"The Dask cluster did not start within {self._start_seconds:g} s, so it was closed; try another site, or ask "
                    f"for less. It was still {state_words(self._found)}."
                )
            if told != (told := state_words(self._found)):
                self._log(f"{self.name}: {told}")
            seen = newest(self._found)
            try:
                async with asyncio.timeout_at(deadline):
                    self._found = await self._controller.get(self.cluster_id, after=seen)
                heard = time.monotonic()
            except TimeoutError:
                continue
            except Unavailable:
                if time.monotonic() - heard > CONTROLLER_AWAY_SECONDS:
                    raise
            if newest(self._found) == seen:
                await asyncio.sleep(POLL_SECONDS)

    async def _scale(self, n: int) -> None:
        self._found = await self._controller.scale(self.cluster_id, n)

    async def _logs(self) -> str:
        return await self._controller.logs(self.cluster_id)

    async def _close(self) -> None:
        if self.status == Status.closed:
            return
        refused: AFError | None = None
        try:
            if self.cluster_id:
                self._found = await self._controller.close(self.cluster_id)
        except Refused as error:
            log.info("the controller does not know %s any more: %s", self.name, error)
        except AFError as error:
            refused = error
        finally:
            await self._disconnect()
        if refused:
            raise Unavailable(
                f"{refused} The Dask cluster {self.name} may live on; close it on the page {self._controller.url}"
            ) from refused

    async def _give_up(self) -> None:
        try:
            await self._close()
        except AFError as error:
            log.warning("%s", error)

    def _scaling_status(self) -> str:
        there = 0 if self.status == Status.closed else len(self.scheduler_info["workers"])
        return f"{there} of {self._found.get('workers_wanted', 0)}"

    def __repr__(self) -> str:
        if not self._found:
            return f"<RemoteHTCondor at {self._asked['site']}, not asked for yet>"
        return f"<RemoteHTCondor {self.name!r} at {self._found['site']}, {self._state_words()}, workers {self._scaling_status()}>"

    def _repr_html_(self, cluster_status: Any = None) -> str:
        rows = {
            "Site": self._asked["site"],
            "State": self._state_words(),
            "Workers": self._scaling_status(),
            "Each": f"{self._asked['cores']} cores, {format_bytes(self._asked['memory'])}",
            "Image": self._asked["image"],
        }
        return html_table(f"RemoteHTCondor: {self.name}", rows, self.dashboard_link)

    def _ipython_display_(self, **kwargs: Any) -> None:
        """Text and HTML; no widget, so it looks the same in every front end."""
        display = importlib.import_module("IPython.display").display
        display({"text/plain": repr(self), "text/html": self._repr_html_()}, raw=True)

    def _state_words(self) -> str:
        if self._found.get("state") in ("failed", "lost"):
            return state_words(self._found)
        if self.status == Status.closed:
            return "closed"
        return state_words(self._found) if self._found else "not asked for yet"


def _only_site() -> str:
    sites = [site for site in os.environ.get("AF_SITES", "").split(",") if site]
    if len(sites) != 1:
        raise Refused(f"Say where: RemoteHTCondor(sitename=…); open to you are: {', '.join(sites) or 'none'}.")
    return sites[0]


def _session_image() -> str:
    image = os.environ.get("AF_IMAGE", "")
    if not image:
        raise Refused("Say which image: RemoteHTCondor(image=…); the session's own is not known (AF_IMAGE is not set).")
    if "/" in image:
        raise Refused(
            f"Say which image: RemoteHTCondor(image=…). Worker nodes have those of the facility's list only, and this session's, {image}, is one "
            "that was typed. Take one with the same versions of Python and Dask."
        )
    return image


def _run(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The answer, from code that is not asynchronous, whether or not a loop runs in this thread, as it does in notebooks."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(ask())).result()
