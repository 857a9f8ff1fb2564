"""One real demo for all journey tests, started as people start it, and browsers that are logged in to it."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import httpx
import pytest

from af_hub.demo.check import spawn, stop_session
from af_hub.errors import Unavailable
from af_hub.testing.browser import hub_token
from af_hub.testing.process import Daemon
from af_hub.testing.require import unavailable
from tests.running import RunningFacility


@dataclass
class Place(RunningFacility):
    """A running demo."""

    pid: int = 0

    def token(self, username: str) -> str:
        """A new hub token with all rights of this user."""
        return hub_token(self.browser(username), username)

    def controller(self, token: str) -> httpx.Client:
        """A client of the controller's REST API, through the proxy, as whoever has this token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=f"{self.url}services/af-controller/", headers=headers, timeout=30)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Iterator[Place]:
    """The demo, in a folder of its own, on free ports."""
    folder = tmp_path_factory.mktemp("d")
    argv = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(folder / "d"), "--port", "0"]
    demo = Daemon("demo", [*argv, "--ready-fd", "{ready_fd}"], folder / "demo.log")
    try:
        try:
            facts = demo.start().ready(120)
        except Unavailable as reason:
            unavailable(f"the demo cannot run here: {reason}")
        running = Place(facts, demo.process.pid)
        yield running
        running.close_browsers()
    finally:
        demo.stop(grace=40)


@pytest.fixture(scope="session")
def session(place):
    """A running session of the CMS analyst; gives the browser."""
    browser = place.browser("cms-analyst")
    spawn(browser, "cms-analyst", "python-analysis")
    yield browser
    stop_session(browser, "cms-analyst")


@pytest.fixture
def closes():
    """Close clients at the end of a test."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda client: stack.enter_context(closing(client))
