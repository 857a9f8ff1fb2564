"""``af submit``: what is read before anybody is asked, whose pool it is, and a job of one's own that runs at the real pool."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from af_hub.client.command import FAILED, NO, NOT_LOGGED_IN, OK, Terminal, run
from af_hub.client.hub import Hub
from af_hub.client.logins import HubLogin, Logins, login_file, session_login
from af_hub.client.submit import Way, read_description
from af_hub.errors import Refused, Unavailable
from af_hub.policy.decide import Rights
from af_hub.policy.load import load_policy
from af_hub.policy.model import Policy
from af_hub.testing.condor import RealPool
from af_hub.testing.hub import RealHub
from af_hub.testing.iam import DemoIAM
from af_hub.testing.places import CONFIGURATION
from af_hub.testing.process import comes_true
from af_hub.tokens.own_pool import TOKEN_POOL, choose_pool, read_authority

JOB = """executable = job.sh
arguments = hello
transfer_input_files = input.txt
output = out.txt
error = err.txt
request_memory = 64
request_disk = 1024
queue 2
"""


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    for name in "AF_IAM_DISCOVERY", "AF_IMAGES", "AF_CONDOR_COLLECTOR", "AF_CONDOR_CA_FILE":
        monkeypatch.setenv(name, "https://nowhere.test/")
    monkeypatch.setenv("AF_XROOTD_CACHE", "root://127.0.0.1:1")
    monkeypatch.setenv("AF_XROOTD_CA_FILE", "")
    return load_policy(CONFIGURATION / "facility.yaml", lenient=True)


@pytest.mark.parametrize(
    "sites, name, pool",
    [
        pytest.param(("T2_A", "T2_B"), "", "main", id="the only one"),
        pytest.param(("T2_A",), "main", "main", id="by name"),
        pytest.param(("T2_A",), "other", None, id="one that is not open"),
        pytest.param((), "", None, id="none"),
        pytest.param((), "main", None, id="none, by name"),
    ],
)
def test_pool_of_somebody(policy: Policy, sites: tuple[str, ...], name: str, pool: str | None) -> None:
    rights = Rights(login=True, sites=sites)
    if pool is None:
        with pytest.raises(Refused, match=r"\.$"):
            choose_pool(policy, rights, name)
    else:
        assert choose_pool(policy, rights, name) == pool


def test_of_several_pools_one_must_be_named(policy: Policy) -> None:
    two = policy.model_copy(
        update={
            "pools": {**policy.pools, "far": policy.pools["main"]},
            "sites": {**policy.sites, "T2_B": policy.sites["T2_B"].model_copy(update={"pool": "far"})},
        }
    )
    rights = Rights(login=True, sites=("T2_A", "T2_B"))
    with pytest.raises(Refused, match="far, main"):
        choose_pool(two, rights, "")
    assert choose_pool(two, rights, "far") == "far"


def test_authority_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as told:
        read_authority(str(tmp_path / "none.pem"))
    assert str(tmp_path) not in str(told.value)


@pytest.mark.parametrize(
    "text, good",
    [
        pytest.param(JOB, True, id="a job"),
        pytest.param("executable = x\nQUEUE 3\n", True, id="capitals"),
        pytest.param("executable = x\n", False, id="no queue"),
        pytest.param("", False, id="empty"),
        pytest.param("# queue\n", False, id="a comment"),
        pytest.param(f"{JOB}arguments = again\nqueue\n", False, id="several, of which HTCondor's library reads one"),
        pytest.param("executable = x\nqueue word from (\nqueue\nqueue\n)\n", True, id="a list of that word"),
    ],
)
def test_descriptions(tmp_path: Path, text: str, good: bool) -> None:
    file = tmp_path / "job.sub"
    file.write_text(text)
    if good:
        assert read_description(file) == text
    else:
        with pytest.raises(Refused, match="queue"):
            read_description(file)


def test_files_that_are_no_descriptions(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\xff\xfe\x00")
    for name in "image", "none", ".":
        with pytest.raises(Refused, match="cannot be read"):
            read_description(tmp_path / name)


def test_secrets_have_no_face() -> None:
    assert "t0ken" not in repr(Way("main", "cm:9618", "schedd", "PEM", "t0ken"))


class Person:
    """Somebody at a terminal, logged in at the hub."""

    def __init__(self, hub: RealHub, home: Path, username: str, scopes: list[str] | None = None) -> None:
        self.environ = {"HOME": str(home)}
        token = hub.token_for(username, scopes)
        Logins(login_file(self.environ)).keep(HubLogin(hub.url, token, username))

    def af(self, *argv: str) -> tuple[int, dict[str, object]]:
        terminal = Terminal(self.environ, io.StringIO(), io.StringIO())
        status = run([argv[0], "--json", *argv[1:]], terminal)
        assert isinstance(terminal.out, io.StringIO)
        return status, json.loads(terminal.out.getvalue().splitlines()[-1])


@pytest.fixture
def description(tmp_path: Path) -> Path:
    (tmp_path / "job.sh").write_text('#!/bin/sh\ntest "$1 $(cat input.txt)" = "hello from beside it"\n')
    (tmp_path / "job.sh").chmod(0o755)
    (tmp_path / "input.txt").write_text("from beside it\n")
    file = tmp_path / "job.sub"
    file.write_text(JOB)
    return file


@pytest.fixture(scope="module")
def hub_with_pool(condor_pool: RealPool, iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    where = {"AF_CONDOR_COLLECTOR": condor_pool.collector, "AF_CONDOR_CA_FILE": str(condor_pool.ca_file)}
    with RealHub(tmp_path_factory.mktemp("hub-with-pool"), iam, where) as hub:
        yield hub


@pytest.mark.real
@pytest.mark.long
def test_jobs_of_ones_own(hub_with_pool: RealHub, condor_pool: RealPool, tmp_path: Path, description: Path) -> None:
    description.write_text(f"accounting_group = icsc\n{JOB}")
    status, said = Person(hub_with_pool, tmp_path, "cms-analyst").af("submit", str(description))
    assert status == OK, said
    assert "You asked to be charged to icsc; the facility's policy charges cms.itcms." in str(said["warnings"])
    jobs = said["jobs"]
    assert isinstance(jobs, list) and len(jobs) == 2 and said["schedd"] == condor_pool.schedd
    cluster = str(jobs[0]).partition(".")[0]

    def told(*attributes: str) -> set[str]:
        asked = ["condor_q", "-all", "-constraint", f"ClusterId == {cluster}", "-af", *attributes]
        return set(condor_pool.tool(*asked).splitlines())

    assert told("Owner", "AcctGroup") == {"u-cms-cms-analyst cms.itcms"}
    assert comes_true(lambda: told("JobStatus", "ExitCode") == {"4 0"}, 90, pause=0.3), told("JobStatus", "HoldReason")
    condor_pool.tool("condor_rm", "-constraint", f"ClusterId == {cluster}")


@pytest.mark.real
@pytest.mark.long
def test_who_has_no_account_or_no_scope(
    hub_with_pool: RealHub, iam: DemoIAM, tmp_path: Path, description: Path
) -> None:
    narrow = Person(hub_with_pool, tmp_path, "cms-analyst", ["custom:af-token:read"])
    status, said = narrow.af("submit", str(description))
    assert status == NO and TOKEN_POOL in str(said["error"])
    person = Person(hub_with_pool, tmp_path, "icsc-analyst")
    status, said = person.af("submit", "--pool", "elsewhere", str(description))
    assert status == NO and "main" in str(said["error"])
    description.write_text(f"+WantIOProxy = true\n{JOB}")
    status, said = person.af("submit", str(description))
    assert status == NO and "WantIOProxy" in str(said["error"]), "the access point says what it does not take"


class Controller(BaseHTTPRequestHandler):
    """Takes the wish for a token of one pool and refuses all others."""

    asked: ClassVar[list[tuple[str, str, str]]] = []

    def do_POST(self) -> None:
        pool = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["pool"]
        self.asked.append((self.path, self.headers["Authorization"], pool))
        known = pool == "main"
        answer = {"pools": {pool: 1.0}} if known else {"title": "Not allowed", "detail": "Jobs there get no token."}
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_jobs_have_their_token_brought_first() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Controller) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub = Hub(f"http://127.0.0.1:{server.server_port}/", "t0ken")
        hub.bring_job_tokens("main")
        assert Controller.asked == [("/services/af-controller/api/job-tokens", "token t0ken", "main")]
        with pytest.raises(Refused, match="Jobs there get no token"):
            hub.bring_job_tokens("far")
        at = f"http://127.0.0.1:{server.server_port}/below/services/af-controller/"
        session = session_login(
            {"JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api", "JUPYTERHUB_API_TOKEN": "t", "AF_CONTROLLER_URL": at}
        )
        assert session is not None
        Hub(session.hub, session.token, session.controller).bring_job_tokens("main")
        assert Controller.asked[-1][0] == "/below/services/af-controller/api/job-tokens", "not at the hub's own port"
        server.shutdown()


class SmallHub(BaseHTTPRequestHandler):
    """Gives a token for a pool whose collector it is itself, as far as taking connections goes."""

    def do_POST(self) -> None:
        address = f"127.0.0.1:{self.connection.getsockname()[1]}"
        way = {"pool": "main", "collector": address, "schedd": "schedd@h", "authority": "PEM", "access_token": "a.b.c"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(way).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("gone", ["job.sh", "input.txt"])
def test_files_that_are_not_there(tmp_path: Path, description: Path, gone: str) -> None:
    """Nothing is asked of the pool, which is none."""
    (tmp_path / gone).unlink()
    terminal = Terminal({"HOME": str(tmp_path)}, io.StringIO(), io.StringIO())
    with ThreadingHTTPServer(("127.0.0.1", 0), SmallHub) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        Logins(login_file(terminal.environ)).keep(HubLogin(f"http://127.0.0.1:{server.server_port}/", "t"))
        status = run(["submit", "--no-token", str(description)], terminal)
        server.shutdown()
    assert isinstance(terminal.err, io.StringIO)
    assert status == NO and f"not in {tmp_path}, or cannot be read: {gone}\n" in terminal.err.getvalue()


def test_nobody_is_logged_in(tmp_path: Path, description: Path) -> None:
    terminal = Terminal({"HOME": str(tmp_path)}, io.StringIO(), io.StringIO())
    assert run(["submit", str(description)], terminal) == NOT_LOGGED_IN
    Logins(login_file(terminal.environ)).keep(HubLogin("http://127.0.0.1:9/", "t"))
    assert run(["submit", str(description)], terminal) == FAILED
