"""The check in a session: what it says when something is wrong, and that it never says the token."""

import base64
import json
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from af_hub.client.check import (
    Reading,
    Report,
    Row,
    TokenFile,
    check,
    in_words,
    judge_cache,
    judge_data,
    judge_repository,
    judge_sites,
    judge_token,
    look_at_cvmfs,
    look_at_data,
    look_at_sites,
    look_at_token,
    main,
    read_expiry,
)
from af_hub.client.data import dataset
from af_hub.client.wlcg import token_places
from af_hub.demo.data import Recipe, make_dataset
from af_hub.errors import Refused
from af_hub.session.cvmfs import Repository, State
from af_hub.session.probes import is_welcome, xrootd_answers

NOW = 1_800_000_000


def signed(**claims) -> bytes:
    """Something of the shape of a token."""
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "ES256"}, claims)
    )
    return b".".join([head, body, b"c2lnbmF0dXJl"])


@contextmanager
def controller(status=200, answer=b"[]", seen=None):
    """Something that answers as the controller does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if seen is not None:
                seen.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/services/af-controller/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_server():
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# --- token ---


@pytest.mark.parametrize(
    "mode, size, left, ok, word",
    [
        pytest.param(0o600, 900, 1800, True, "30 min", id="good"),
        pytest.param(0o400, 900, 3 * 3600, True, "3 h", id="read-only is good too"),
        pytest.param(0o640, 900, 1800, False, "chmod 600", id="the group may read it"),
        pytest.param(0o604, 900, 1800, False, "chmod 600", id="others may read it"),
        pytest.param(0o600, 4096, 1800, True, "4096 bytes", id="just small enough"),
        pytest.param(0o600, 4097, 1800, False, "4097 bytes", id="too big for XRootD"),
        pytest.param(0o600, 0, None, False, "0 bytes", id="empty"),
        pytest.param(0o600, 900, None, False, "expiry date", id="no token at all"),
        pytest.param(0o600, 900, 0, False, "expired", id="expires now"),
        pytest.param(0o600, 900, -600, False, "10 min ago", id="expired"),
        pytest.param(0o600, 900, 59, False, "should have been renewed", id="nobody renews it"),
    ],
)
def test_a_token_is_judged(mode, size, left, ok, word):
    row = judge_token(TokenFile(Path("/run/af/token"), mode, size, None if left is None else NOW + left), NOW)

    assert row.ok is ok
    assert word in row.sentence


@pytest.mark.parametrize(
    "environ, places",
    [
        pytest.param(
            {"BEARER_TOKEN_FILE": "/a", "XDG_RUNTIME_DIR": "/run"},
            ["/a", "/run/bt_u7", "/tmp/bt_u7"],
            id="named, first",
        ),
        pytest.param(
            {"XDG_RUNTIME_DIR": "/run/user/7"}, ["/run/user/7/bt_u7", "/tmp/bt_u7"], id="runtime folder, then /tmp"
        ),
        pytest.param({}, ["/tmp/bt_u7"], id="nothing set"),
        pytest.param({"BEARER_TOKEN_FILE": ""}, ["/tmp/bt_u7"], id="empty is not set"),
    ],
)
def test_the_token_is_looked_for_where_clients_look(environ, places):
    assert token_places(environ, 7) == [Path(place) for place in places]


@pytest.mark.parametrize(
    "token, expiry",
    [
        pytest.param(signed(exp=NOW), NOW, id="JWT"),
        pytest.param(signed(exp=NOW) + b"\n", NOW, id="with a line end"),
        pytest.param(signed(sub="x"), None, id="no expiry"),
        pytest.param(signed(exp="soon"), None, id="expiry is a word"),
        pytest.param(b"opaque", None, id="opaque"),
        pytest.param(b"a.b.c", None, id="three letters"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"\xff\xfe.\xff.\xff", None, id="rubbish"),
    ],
)
def test_the_expiry_is_read_without_trusting_the_token(token, expiry):
    assert read_expiry(token) == expiry


def test_the_token_file_of_the_session_is_found(tmp_path):
    file = tmp_path / "token"
    file.write_bytes(signed(exp=time.time() + 3000))
    file.chmod(0o600)
    row = look_at_token({"BEARER_TOKEN_FILE": str(file)})

    assert row.ok
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_token_in_the_environment_hides_the_fresh_one():
    row = look_at_token({"BEARER_TOKEN": "abc.def.ghi"})

    assert not row.ok
    assert "unset BEARER_TOKEN" in row.sentence


@pytest.mark.parametrize(
    "seconds, words", [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (86400, "24 h")]
)
def test_spans_of_time(seconds, words):
    assert in_words(seconds) == words


# --- cache and data ---


@pytest.mark.parametrize(
    "readings, ok, word",
    [
        pytest.param([Reading("u", "cache:1")], True, "Files come from the cache cache:1", id="through the cache"),
        pytest.param(
            [Reading("u", "cache:1"), Reading("u", "origin:2")], False, "from origin:2 and not", id="one past it"
        ),
        pytest.param([Reading("u", complaint="[3011]")], True, "no file was read", id="nothing opened"),
        pytest.param([], True, "no file was read", id="nothing to open"),
    ],
)
def test_the_cache_is_judged_by_who_served(readings, ok, word):
    row = judge_cache("cache:1", readings)

    assert row.ok is ok
    assert word in row.sentence


@pytest.mark.parametrize(
    "complaint, word",
    [
        ("[FATAL] Auth failed: No protocols left to try", "line about the token"),
        ("[ERROR] Server responded with an error: [3010] permission denied", "ask the owner"),
        ("[ERROR] Server responded with an error: [3011] no such file", "no such file"),
        ("[ERROR] Server responded with an error: [3000] invalid argument", "permit it"),
        ("[ERROR] Operation expired", "try again"),
        ("[FATAL] Connection error", "does not answer"),
        ("[ERROR] Server responded with an error: [3014] connection refused", "does not answer"),
        ("something new", "administrators"),
    ],
)
def test_what_xrootd_says_gets_a_remedy(complaint, word):
    row = judge_data({"dimuon": [Reading("root://o//f", "c:1", 5), Reading("root://o//g", complaint=complaint)]})

    assert not row.ok
    assert "root://o//g" in row.sentence
    assert word in row.sentence


def test_data_that_can_be_read_is_counted():
    row = judge_data({"dimuon": [Reading("a", "c:1", 25_000_000), Reading("b", "c:1", 27_000_000)]})

    assert row == Row("data", True, "You can read: dimuon (2 files, 52 MB).")


def test_no_cache_is_named():
    (row,) = look_at_data({"XROOT_PROXY": ""})

    assert not row.ok
    assert "names no cache" in row.sentence


def test_a_cache_that_is_down_is_said_at_once():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        cache, data = look_at_data({"XROOT_PROXY": f"root://127.0.0.1:{nobody.getsockname()[1]}//"})

    assert not cache.ok
    assert "does not answer" in cache.sentence
    assert "Not tried" in data.sentence


@pytest.mark.parametrize(
    "answer, welcome",
    [
        pytest.param("00000000 00000008 00000511 00000001", True, id="data server"),
        pytest.param("00000000 00000008 00000511 00000000", True, id="load balancer"),
        pytest.param("00000fa3 00000008 00000511 00000001", False, id="error"),
        pytest.param("00000000 00000008 00000511 00000007", False, id="unknown kind"),
        pytest.param("00000000 00000008", False, id="too short"),
        pytest.param("48545450 2f312e31 20343030 20426164", False, id="a web server"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_the_greeting_of_an_xrootd_server_is_known(answer, welcome):
    assert is_welcome(bytes.fromhex(answer)) is welcome


def test_a_silent_server_does_not_hold_us_up():
    with silent_server() as port:
        began = time.monotonic()
        assert not xrootd_answers("127.0.0.1", port, seconds=0.1)

    assert time.monotonic() - began < 1


# --- sites ---


@pytest.mark.parametrize(
    "status, answer, ok, word",
    [
        pytest.param(200, [{"name": "T2_A"}, {"name": "T2_B"}], True, "T2_A, T2_B", id="two"),
        pytest.param(200, [{"name": "T2_A", "shared": False}], True, "start clusters at: T2_A.", id="people are apart"),
        pytest.param(
            200, [{"name": "A", "shared": True}, {"name": "B", "shared": False}], True, "read yours: A.", id="shared"
        ),
        pytest.param(200, [], False, "no site", id="none"),
        pytest.param(401, None, False, "does not know you", id="token expired"),
        pytest.param(403, None, False, "does not know you", id="scope missing"),
        pytest.param(502, None, False, "is away (HTTP 502). Try again", id="proxy without controller"),
        pytest.param(200, {"detail": "x"}, False, "cannot be read", id="another answer"),
        pytest.param(200, [{"title": "x"}], False, "cannot be read", id="a site without name"),
    ],
)
def test_the_answer_about_sites_is_judged(status, answer, ok, word):
    row = judge_sites(status, answer)

    assert row.ok is ok
    assert word in row.sentence


def test_the_controller_is_asked_as_the_person():
    seen = []
    with controller(answer=b'[{"name": "T2_A"}]', seen=seen) as url:
        row = look_at_sites({"AF_CONTROLLER_URL": url, "JUPYTERHUB_API_TOKEN": "secret"})

    assert row.ok
    assert seen == [("/services/af-controller/api/sites", "token secret")]


@pytest.mark.parametrize("status, answer", [(500, b""), (200, b"<html>"), (401, b"{}")])
def test_a_controller_in_trouble_is_a_sentence(status, answer):
    with controller(status, answer) as url:
        assert not look_at_sites({"AF_CONTROLLER_URL": url, "JUPYTERHUB_API_TOKEN": "secret"}).ok


def test_no_controller_is_a_sentence():
    assert "no session" in look_at_sites({}).sentence
    assert not look_at_sites({"AF_CONTROLLER_URL": "file:///etc/passwd", "JUPYTERHUB_API_TOKEN": "x"}).ok
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        assert "does not answer" in look_at_sites({"AF_CONTROLLER_URL": url, "JUPYTERHUB_API_TOKEN": "x"}).sentence


# --- all of it ---


def test_each_repository_has_a_line(tmp_path):
    (tmp_path / "empty.cern.ch").mkdir()
    rows = look_at_cvmfs({"AF_CVMFS_REPOSITORIES": "empty.cern.ch,no.cern.ch"}, str(tmp_path))
    assert [row.what for row in rows] == ["cvmfs empty.cern.ch", "cvmfs no.cern.ch"]
    assert not any(row.ok for row in rows)
    assert "is an empty folder" in rows[0].sentence and rows[1].sentence.endswith("tell the facility's administrators.")
    assert look_at_cvmfs({}) == []


def test_a_repository_that_works_is_told_with_its_revision():
    row = judge_repository(Repository("cms.cern.ch", State.OK, 7))
    assert row.ok and row.sentence == "/cvmfs/cms.cern.ch can be read, revision 7."


def test_the_token_is_never_shown(tmp_path, capsys, monkeypatch):
    token = signed(exp=time.time() + 3000)
    (tmp_path / "token").write_bytes(token)
    (tmp_path / "token").chmod(0o600)
    with controller(status=500) as url:
        environ = {
            "BEARER_TOKEN_FILE": str(tmp_path / "token"),
            "AF_CONTROLLER_URL": url,
            "JUPYTERHUB_API_TOKEN": "hubsecret",
        }
        report = check(environ)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("XROOT_PROXY", raising=False)
        monkeypatch.delenv("BEARER_TOKEN", raising=False)
        assert main(["--json"]) == 1
        shown = capsys.readouterr().out + str(report) + repr(report) + report._repr_html_()

    assert json.loads(shown.splitlines()[0])["rows"][0]["ok"]
    for part in [*token.decode().split("."), "hubsecret"]:
        assert part not in shown


def test_the_report_shows_as_table_and_as_text():
    report = Report((Row("token", True, "Valid."), Row("data", False, "<b>'&")))

    assert not report.ok
    assert str(report) == "ok   token  Valid.\nBAD  data   <b>'&"
    assert "&lt;b&gt;&#x27;&amp;" in report._repr_html_()
    assert report.as_dict()["rows"][1] == {"what": "data", "ok": False, "sentence": "<b>'&"}


def test_datasets_come_by_name(monkeypatch):
    monkeypatch.setenv("AF_DATASETS", '{"dimuon": ["root://o//a"]}')

    assert dataset("dimuon") == ["root://o//a"]
    with pytest.raises(Refused, match="it has dimuon"):
        dataset("higgs")


@pytest.mark.real
def test_a_real_session_reads_its_datasets_through_the_cache(xrootd, tmp_path):
    made = make_dataset(xrootd.origin.data_folder, Recipe(files=2, events=500, chunk=500))
    files = [*made.urls(xrootd.origin.url), f"{xrootd.origin.url}//store/missing.root"]
    for urls, ok in ((files[:2], True), (files, False)):
        environment = xrootd.client_environment(tmp_path, {"dimuon": urls})
        command = [sys.executable, "-m", "af_hub.client.check", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        rows = {row["what"]: row for row in json.loads(done.stdout)["rows"]}
        assert rows["cache"]["sentence"] == f"Files come from the cache {xrootd.cache.host}:{xrootd.cache.port}."
        assert rows["data"]["ok"] is ok
    assert "There is no such file" in rows["data"]["sentence"]
