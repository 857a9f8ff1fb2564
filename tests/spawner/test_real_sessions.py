"""Sessions of a real hub: started from the page, adopted by the next hub, ended without a trace."""

import html
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from af_hub.errors import Unavailable
from af_hub.session.processes import Identity, descendants
from af_hub.testing.browser import xsrf_headers
from af_hub.testing.hub import FACILITY, RealHub, hub_serves
from af_hub.testing.iam import DemoIAM
from af_hub.testing.places import CHECKOUT
from af_hub.testing.process import comes_true
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

# An image whose server ends at once, and one whose server takes connections and says nothing.
FACILITY_MORE = """
  dead: {{title: Dead, environment: {folder}/dead}}
  silent: {{title: Silent, environment: {folder}/silent}}
"""
SERVERS = {
    "dead": "import sys; print('there is no such extension', file=sys.stderr); sys.exit(3)",
    "silent": "import socket, sys, urllib.parse, os, time\n"
    "port = urllib.parse.urlsplit(os.environ['JUPYTERHUB_SERVICE_URL']).port\n"
    "listener = socket.create_server(('127.0.0.1', port))\n"
    "while True: time.sleep(3600)",
}
EXTRA = """
c.Spawner.poll_interval = 1
c.LocalAFSpawner.welcome = {welcome!r}
c.LocalAFSpawner.stop_timeout = 20
"""


@pytest.fixture(scope="module")
def hub(iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    if not (CHECKOUT / ".images/python-base/bin/jupyterhub-singleuser").exists():
        unavailable("there is no image in .images/python-base; `make` builds it")
    welcome = tmp_path_factory.mktemp("welcome") / "Welcome.ipynb"
    welcome.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    extra = EXTRA.format(welcome=str(welcome))
    try:
        with RealHub(
            tmp_path_factory.mktemp("h"), iam, extra_config=extra, facility=broken_images(welcome.parent)
        ) as hub:
            yield hub
    except Unavailable as error:
        unavailable(str(error))


def broken_images(folder: Path) -> Path:
    """The shipped policy, with two images more, whose servers do not come up."""
    for name, server in SERVERS.items():
        programs = folder / name / "bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        (programs / "jupyterhub-singleuser").write_text(server)
        (programs / "jupyterhub-singleuser").chmod(0o755)
    text = FACILITY.read_text().replace(
        "images: [python-analysis, python-base]", "images: [python-analysis, python-base, dead, silent]"
    )
    text = text.replace("\nimages:\n", "\nimages:" + FACILITY_MORE.format(folder=folder))
    (folder / "facility.yaml").write_text(text)
    return folder / "facility.yaml"


class Person:
    """One person at the hub, by browser and by API."""

    def __init__(self, hub: RealHub, username: str) -> None:
        self.hub, self.username = hub, username
        self.browser = hub.login(username)
        self.api = hub.api(hub.token_for(username))

    def press_start(self, **choice: str) -> httpx.Response:
        """Send the form of the spawn page, as the page would."""
        page = self.browser.get("/hub/spawn")
        action = page.text.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
        return self.browser.post(action, data=choice, headers=xsrf_headers(self.browser))

    def wait_ready(self) -> dict[str, Any]:
        """Follow the progress until the session is ready, or the hub says that it failed."""
        event: dict[str, Any] = {}
        with self.api.stream("GET", f"/users/{self.username}/server/progress", timeout=120) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
        return event

    def server(self) -> dict[str, Any] | None:
        found = self.api.get(f"/users/{self.username}").json()["servers"]
        return found.get("") if isinstance(found, dict) else None

    def stop(self) -> None:
        answer = self.api.delete(f"/users/{self.username}/server", timeout=60)
        assert answer.status_code in (204, 404), answer.text

    @property
    def folder(self) -> Path | None:
        """The folder of the running session."""
        plans = (self.hub.plan.folder / "run").glob("*/plan.json")
        mine = [plan.parent for plan in plans if Path(json.loads(plan.read_text())["home"]).name == self.username]
        assert len(mine) < 2
        return mine[0] if mine else None

    def start(self) -> Path:
        """Start a session from the page; its folder."""
        answer = self.press_start(image="python-base", size="small")
        assert answer.status_code == 200, answer.text
        assert self.wait_ready().get("ready"), self.log.read_text()
        assert self.folder
        return self.folder

    @property
    def log(self) -> Path:
        """The log of the session."""
        return self.hub.plan.folder / f"log/session-{self.username}.log"


def supervisor_of(folder: Path) -> Identity:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"af_hub.session.supervisor" in argv and str(folder / "plan.json").encode() in argv:
            found = Identity.of(int(process.name))
            assert found
            return found
    raise AssertionError("there is no supervisor")


@pytest.fixture
def analyst(hub: RealHub) -> Iterator[Person]:
    person = Person(hub, "cms-analyst")
    yield person
    person.stop()


@pytest.fixture
def session(analyst: Person) -> Path:
    """The folder of a new session of the analyst."""
    return analyst.start()


@pytest.fixture(scope="module")
def colleague(hub: RealHub) -> Iterator[Person]:
    """Somebody with a session that tests share, and leave running."""
    person = Person(hub, "cms-colleague")
    person.start()
    yield person
    person.stop()


@pytest.fixture
def shared(colleague: Person) -> Path:
    """The folder of that session."""
    assert colleague.folder
    return colleague.folder


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    assert comes_true(holds, seconds), "it did not come true"


def test_session_has_what_it_needs_and_leaves_nothing(analyst: Person, session: Path) -> None:
    lab = analyst.browser.get("/user/cms-analyst/lab")
    assert lab.status_code == 200
    assert "JupyterLab" in lab.text
    assert stat.S_IMODE((session / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(session.stat().st_mode) == 0o700
    assert (session / "token").read_text().count(".") == 2, "a JWT"
    assert (session / "agent.sock").is_socket()
    told = json.loads((session / "agent.json").read_text())
    assert told["controller_url"] == f"{analyst.hub.url}services/af-controller/"
    files = analyst.browser.get("/user/cms-analyst/api/contents").json()["content"]
    assert [file["name"] for file in files] == ["Welcome.ipynb"]
    supervisor = supervisor_of(session)
    processes = {supervisor} | {one for pid in descendants(supervisor.pid) if (one := Identity.of(pid))}
    assert len(processes) >= 3
    analyst.stop()
    assert analyst.server() is None
    assert not session.exists()
    assert [process for process in processes if process.alive()] == []


def test_session_knows_its_own_secrets_only(colleague: Person, shared: Path) -> None:
    supervisor = supervisor_of(shared)
    token = (shared / "token").read_bytes()
    seen = b""
    for pid in [supervisor.pid, *descendants(supervisor.pid)]:
        process = Path(f"/proc/{pid}")
        argv, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        hub_tokens = [line.partition(b"=")[2] for line in environment.split(b"\0") if b"_API_TOKEN=" in line]
        assert all(hub_token not in argv for hub_token in hub_tokens)
        seen += argv + environment
    log = colleague.log.read_bytes()
    plan = colleague.hub.plan
    for name in ("crypt_key", "iam_client_secret", "controller_token", "proxy_password"):
        assert (plan.folder / name).read_bytes().strip() not in seen + log
    assert token not in seen + log
    for name in (b"AF_CRYPT_KEY_FILE", b"AF_IAM_CLIENT_SECRET_FILE", b"AF_STATE_DIR", b"JPY_API_TOKEN"):
        assert name not in seen


def test_what_kernels_print_is_encrypted(colleague: Person, shared: Path) -> None:
    """Their ports are on the loopback, where everybody on the machine can connect and listen."""
    kernels = f"{colleague.hub.url}user/{colleague.username}/api/kernels"
    assert httpx.post(kernels, headers=dict(colleague.api.headers), json={}, timeout=60).status_code == 201
    connections = [json.loads(path.read_text()) for path in (shared / "jupyter").glob("kernel-*.json")]
    assert connections and all(connection.get("curve_secretkey") for connection in connections)


def test_hub_token_of_the_session_is_narrow(colleague: Person, shared: Path) -> None:
    hub_token = json.loads((shared / "agent.json").read_text())["hub_token"]
    found = colleague.hub.api(hub_token).get("/user").json()
    assert {scope.partition("!")[0] for scope in found["scopes"]} <= {
        "users:activity",
        "read:users:activity",
        "access:servers",
        "access:services",
        "custom:af-token:read",
        "custom:af-token:pool",
        "read:users:name",
        "read:users:groups",
    }
    assert "custom:af-token:read" in found["scopes"]
    assert colleague.hub.api(hub_token).get("/af/token").status_code == 200
    assert colleague.hub.api(hub_token).post("/users/cms-colleague/tokens").status_code == 403


def test_next_hub_adopts_the_session_and_can_end_it(analyst: Person, session: Path) -> None:
    supervisor = supervisor_of(session)
    hub = analyst.hub.hub
    hub.stop()
    assert supervisor.alive()
    hub.start()
    hub.wait_until(lambda: hub_serves(analyst.hub.plan))
    server = analyst.server()
    assert server and server["ready"]
    assert analyst.browser.get("/user/cms-analyst/lab").status_code == 200
    assert supervisor.alive()
    analyst.stop()
    assert not supervisor.alive()
    assert not session.exists()


def test_killed_supervisor_is_noticed_and_swept_up(analyst: Person, session: Path) -> None:
    supervisor = supervisor_of(session)
    below = {one for pid in descendants(supervisor.pid) if (one := Identity.of(pid))}
    assert supervisor.send(signal.SIGKILL)
    until(lambda: analyst.server() is None)
    until(lambda: not any(process.alive() for process in below))
    assert not session.exists()


def test_killed_agent_comes_back(colleague: Person, shared: Path) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(shared / "agent.sock")), base_url="http://agent") as http:
        pid = http.get("/health").json()["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        try:
            transport = httpx.HTTPTransport(uds=str(shared / "agent.sock"))
            with httpx.Client(transport=transport, base_url="http://agent") as http:
                return bool(http.get("/health").json()["pid"] != pid)
        except httpx.TransportError:
            return False

    until(back)
    assert colleague.browser.get("/user/cms-colleague/lab").status_code == 200


@pytest.mark.parametrize(
    "choice, words",
    [
        pytest.param({"image": "python-analysis"}, "/cms/itcms", id="image of others"),
        pytest.param({"image": "evil.io/x:1"}, "There is no image", id="free image"),
        pytest.param({"size": "medium"}, "size", id="size of others"),
        pytest.param({"image": ["python-base"]}, "not list", id="list"),
        pytest.param({"image": "python-base", "cmd": ["id"]}, "nothing else", id="an extra key"),
    ],
)
def test_api_gives_no_more_than_the_page(hub: RealHub, choice: dict[str, Any], words: str) -> None:
    person = Person(hub, "icsc-analyst")
    answer = person.api.post("/users/icsc-analyst/server", json=choice)
    assert answer.status_code == 403
    assert words in answer.json()["message"]
    assert person.server() is None


@pytest.mark.parametrize(
    "choice, status, words",
    [
        pytest.param({"image": "python-analysis", "size": "small"}, 403, "is not for you", id="image of others"),
        pytest.param(
            {"image": "evil.io/x:1", "size": "small"}, 403, "There is no image 'evil.io/x:1'", id="free image"
        ),
        pytest.param({"image": "<script>", "size": "small"}, 403, "There is no image '<script>'", id="no name at all"),
        pytest.param({"image": "python-base", "size": "medium"}, 403, "The size 'medium' is not for you", id="size"),
        pytest.param({"image": "python-base", "size": "9999"}, 403, "There is no size '9999'", id="free size"),
        pytest.param(
            {"image": "python-base", "cmd": "id"}, 403, "nothing else; this one has 'cmd'", id="an extra field"
        ),
        pytest.param({"image": ["python-base", "python-base"]}, 400, "must hold one text", id="a field twice"),
        pytest.param({"image": "", "size": ""}, 403, "There is no image ''", id="empty fields"),
    ],
)
def test_page_says_why_not(hub: RealHub, choice: dict[str, Any], status: int, words: str) -> None:
    """A form made by hand."""
    person = Person(hub, "icsc-analyst")
    answer = person.press_start(**choice)
    assert answer.status_code == status
    text = html.unescape(answer.text)
    assert words in text and "SpawnException" not in text and "SessionRefused" not in text and "None" not in text
    assert 'value="python-base"' in answer.text, "the form is there for another try"
    assert person.server() is None


@pytest.mark.parametrize(
    "image, words, least, most",
    [
        pytest.param("dead", "Your session ended while it started (exit status 3).", 0, 10, id="dies at once"),
        pytest.param(
            "silent", "Your session did not answer within ", 45, 90, id="never answers", marks=pytest.mark.long
        ),
    ],
)
def test_session_that_does_not_come_up(analyst: Person, image: str, words: str, least: float, most: float) -> None:
    """A sentence with the place of the log, on the page and by API; nothing is left, and the next session comes up."""
    began = time.monotonic()
    analyst.press_start(image=image, size="small")
    until(lambda: analyst.server() is None, most)
    assert least <= time.monotonic() - began < most
    page = analyst.browser.get("/user/cms-analyst/lab")
    text = html.unescape(page.text)
    assert page.status_code == 500 and words in text and str(analyst.log) in text
    assert "None" not in text.partition("<main>")[2] and "Traceback" not in text and "SpawnException" not in text
    assert image != "dead" or "there is no such extension" in analyst.log.read_text()
    assert analyst.folder is None


@pytest.mark.parametrize("prefix", ["", "opt-"])
def test_link_starts_nothing(hub: RealHub, prefix: str) -> None:
    person = Person(hub, "icsc-analyst")
    answer = person.browser.get("/hub/spawn", params={f"{prefix}image": "python-base", f"{prefix}size": "small"})
    assert answer.status_code == 400
    assert "A link does not choose for you" in answer.text
    assert 'value="python-base"' in answer.text
    assert person.server() is None
