"""The clusters' page in a real browser: what it looks like, what it does by itself, and what the keyboard does."""

import asyncio
import contextlib
import socket
import threading

import pytest
import uvicorn
from selenium.webdriver.common.keys import Keys
from world import FACILITY, PREFIX, Clock, World

from af_hub.controller.states import State
from af_hub.testing.fake_hub import FakeHub
from af_hub.testing.fake_site import FakeSite

pytestmark = pytest.mark.real

WAITING = "Waits for a slot at T2_A: 12 of 12 cores are taken. It starts by itself as soon as one is free."
FAILED = "The job was held at the access point: Transfer output files failure at execution point slot1@af-hub-worker-node-0042.site-a.af-hub.test"


class Served:
    """A controller with fakes around it, in a thread of its own, at an address that a browser can open."""

    def __init__(self, folder):
        (folder / "facility.yaml").write_text(FACILITY)
        self.folder = folder
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}{PREFIX}"
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def __enter__(self):
        self.thread.start()
        self.run(self._begin())
        return self

    def __exit__(self, *_):
        self.run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def _begin(self):
        self.stack = contextlib.AsyncExitStack()
        people = {"cms-analyst": ["/cms/itcms"]}
        hub = await self.stack.enter_async_context(FakeHub(people, browser_user="cms-analyst"))
        site = await self.stack.enter_async_context(FakeSite())
        origin = self.url.removesuffix(PREFIX)
        self.world = World(hub, site, self.folder, Clock(), owner=hub.token_of("cms-analyst"), origin=origin).start()
        await self._serve()

    async def _serve(self):
        config = uvicorn.Config(self.world.app, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.task = asyncio.create_task(self.server._serve([self.listener]))

    async def _away(self):
        self.server.should_exit = True
        await self.task
        self.listener.close()

    async def _end(self):
        await self._away()
        await self.world.stop()
        await self.stack.aclose()

    def away(self):
        """The controller ends."""
        self.run(self._away())

    def back(self):
        """It serves again, as the same process."""
        self.listener = socket.create_server(self.address)
        self.run(self._serve())

    def create(self, state, reason="", **asked):
        """A new cluster of the analyst, in this state."""
        return self.run(self._create(state, reason, asked))

    async def _create(self, state, reason, asked):
        cluster = await self.world.create(**asked)
        self.world.parts.store.become(cluster, State.REQUESTED, state, reason, self.world.clock())
        return cluster

    def become(self, cluster, state, reason=""):
        """Now it is in this state."""

        async def change():
            store = self.world.parts.store
            store.become(cluster, State(store.get(cluster).state), state, reason, self.world.clock())

        self.run(change())

    def state(self, cluster):
        async def look():
            return self.world.get(cluster).state

        return self.run(look())


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path) as running:
        yield running


def settled(person):
    """The script has been there."""
    person.read("Updates by itself")


def test_what_it_looks_like(served, person):
    person.go(served.url)
    settled(person)
    assert person.faults_everywhere() == {}, "an empty page"
    served.create(State.RUNNING, name="Z to mu mu with a name as long as names may be")
    served.create(State.FAILED, FAILED, name="failed")
    served.create(State.CLOSED, "you closed it", name="closed")
    served.create(State.QUEUED, WAITING, name="patient")
    served.create(State.CLOSING, "you closed it", name="closing")
    person.read("patient")
    for summary in person.browser.find_elements("css selector", "summary"):
        summary.click()
    assert person.faults_everywhere() == {}
    assert person.complaints() == []


def test_it_changes_by_itself_and_leaves_the_person_alone(served, person):
    cluster = served.create(State.QUEUED, WAITING, name="first")
    over = served.create(State.RUNNING, name="second")
    person.go(served.url)
    settled(person)
    person.browser.execute_script("window.sameVisit = true")
    person.click(f"#w-{cluster} summary")
    assert person.focus()["name"].startswith("What happened")
    served.become(cluster, State.RUNNING, "2 of 2 workers run")
    served.create(State.REQUESTED, name="third")
    served.become(over, State.CLOSED, "you closed it")
    person.see(f"#d-{cluster}")
    person.see(f"#over #c-{over}")
    person.read("third")
    here = person.browser.execute_script(
        "return [document.activeElement.parentElement.id, document.activeElement.parentElement.open, window.sameVisit,"
        " document.getElementById('news').textContent]"
    )
    assert here[:3] == [f"w-{cluster}", True, True]
    assert "first is running." in here[3] and "second is closed." in here[3] and "third is requested." in here[3]
    person.read("2 of 2 workers run")
    assert person.complaints() == []


def test_who_has_the_focus_in_what_goes_away_is_led_to_the_heading(served, person):
    cluster = served.create(State.RUNNING, name="first")
    person.go(served.url)
    settled(person)
    person.tab_to("Close …")
    served.become(cluster, State.CLOSED, "you closed it")
    person.see(f"#over #c-{cluster}")
    assert person.browser.execute_script("return document.activeElement.tagName") == "H1"


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_closing_asks_first(served, person, scripts):
    cluster = served.create(State.RUNNING, name="mine")
    person.scripts(scripts)
    person.go(served.url)
    person.read("Updates by itself" if scripts else "Reload")
    person.tab_to("Close …")
    person.press(Keys.ENTER)
    person.read("what they hold in memory is gone")
    person.press(Keys.ENTER)
    person.until(lambda: "what they hold in memory is gone" not in person.text(), "the question is still there")
    person.press(Keys.SPACE)
    assert served.state(cluster) == "running"
    person.tab_to("Close mine")
    person.press(Keys.ENTER)
    person.read("closing")
    assert served.state(cluster) == "closing"
    if not scripts:
        served.become(cluster, State.CLOSED, "you closed it")
        assert "closing" in person.text()
        person.tab_to("Reload")
        person.press(Keys.ENTER)
        person.see(f"#over #c-{cluster}")


def test_a_controller_that_goes_away_and_comes_back(served, person):
    cluster = served.create(State.QUEUED, name="mine")
    person.go(served.url)
    settled(person)
    served.away()
    person.read("does not answer")
    assert "mine" in person.text()
    assert person.faults() == []
    served.become(cluster, State.RUNNING)
    served.back()
    settled(person)
    person.see(f"#d-{cluster}")


def test_who_has_logged_out_is_told(served, person):
    person.go(served.url)
    settled(person)
    served.world.hub.tokens.clear()
    served.world.parts.hub._clock = lambda: 1e12
    person.read("You are no longer logged in here.")
    person.tab_to("Log in again")
    person.press(Keys.ENTER)
    settled(person)


def test_pages_of_errors(served, person):
    person.go(served.url)
    settled(person)
    person.complaints()
    for path, sentence in {
        "nonsense": "There is nothing at this address.",
        f"clusters/{'0' * 32}/dashboard/status": "There is no such Dask cluster of yours.",
        "oauth_callback?code=1": "This login was not begun in this browser",
    }.items():
        person.go(served.url + path)
        person.read(sentence)
        assert person.faults_everywhere() == {}, path
        assert all("Failed to load resource" in complaint for complaint in person.complaints())
        person.tab_to("My Dask clusters")
        person.press(Keys.ENTER)
        settled(person)
