"""``af`` on a laptop: a real hub of another kind on loopback (aiohttp), the files that stay, and what each end means for a shell."""

import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_hub.client.command import FAILED, MISTYPED, NO, NOT_LOGGED_IN, OK, Terminal, run
from af_hub.client.logins import HubLogin, Logins, read_address
from af_hub.client.whoami import describe_person
from af_hub.client.wlcg import find_token, place_to_write, read_token, token_places
from af_hub.errors import LoginRequired, Unavailable


@dataclass
class Laptop:
    """Somebody's home, and what they see."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home), **self.environ}

    def af(self, *argv: str) -> tuple[int, str, str]:
        terminal = Terminal(self.environ, io.StringIO(), io.StringIO())
        status = run(argv, terminal)
        assert isinstance(terminal.out, io.StringIO) and isinstance(terminal.err, io.StringIO)
        return status, terminal.out.getvalue(), terminal.err.getvalue()

    @property
    def logins(self) -> Path:
        return self.home / ".config" / "af" / "logins.json"

    @property
    def token_file(self) -> Path:
        return token_places(self.environ, __import__("os").getuid())[0]


@dataclass
class ScriptedHub:
    """Answers what it is told to, in order of each route, the last one again and again; writes down what it was asked."""

    answers: dict[tuple[str, str], list[tuple[int, Any]]]
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)
    url: str = ""


BEGUN = {
    "id": "0123456789abcdef",
    "secret": "s" * 43,
    "user_code": "BCDF-GHJK",
    "verification_uri": "https://iam.test/device",
    "verification_uri_complete": "",
    "expires_in": 60,
    "interval": 0.01,
}
GIVEN = {"token": "hub-token", "username": "ada", "expires_at": time.time() + 3600}
TOKEN = {"access_token": "ey.ac-cess.to_ken", "expires_at": time.time() + 600, "issuer": "https://iam.test/"}
ANSWERS: dict[tuple[str, str], list[tuple[int, Any]]] = {
    ("POST", "af/device"): [(200, BEGUN)],
    ("POST", "af/device/0123456789abcdef"): [
        (202, {"interval": 0.01}),
        (503, {"message": "IAM is away"}),
        (200, GIVEN),
    ],
    ("GET", "user"): [(200, {"name": "ada", "groups": ["/cms"], "token_id": "a7", "kind": "user"})],
    ("GET", "af/token"): [(200, TOKEN)],
    ("DELETE", "users/ada/tokens/a7"): [(204, None)],
}


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    scripted = ScriptedHub({route: list(answers) for route, answers in ANSWERS.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            route = (self.command, self.path.removeprefix("/hub/api/"))
            scripted.asked.append((*route, self.headers.get("Authorization", ""), body))
            answers = scripted.answers.get(route, [(404, {"message": "Not found"})])
            status, found = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            content = b"" if found is None else json.dumps(found).encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        scripted.url = f"http://127.0.0.1:{server.server_port}/"
        yield scripted
        server.shutdown()
        thread.join()


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_login_leaves_two_private_files(hub: ScriptedHub, laptop: Laptop) -> None:
    status, out, err = laptop.af("login", hub.url)
    assert status == OK and f"Logged in at {hub.url} as ada" in out
    assert "https://iam.test/device" in err and "BCDF-GHJK" in err
    assert mode(laptop.logins) == mode(laptop.token_file) == 0o600 and mode(laptop.logins.parent) == 0o700
    assert laptop.token_file.read_text() == TOKEN["access_token"]
    polls = [asked for asked in hub.asked if asked[1].startswith("af/device/")]
    assert len(polls) == 3 and all(body == {"secret": BEGUN["secret"]} for *_, body in polls)
    assert not [path for _, path, *_ in hub.asked if BEGUN["secret"] in path], "no secret stands in an address"
    assert "hub-token" not in out + err


def test_whoami_token_and_logout(hub: ScriptedHub, laptop: Laptop) -> None:
    laptop.af("login", hub.url, "--no-file")
    assert not laptop.token_file.exists()
    status, out, _ = laptop.af("whoami")
    assert status == OK and out.startswith(f"ada at {hub.url}") and "/cms" in out
    assert laptop.af("token")[1] == f"{TOKEN['access_token']}\n"
    assert laptop.af("token", "--file")[0] == OK and laptop.token_file.exists()
    assert {auth for method, _, auth, _ in hub.asked if method == "GET"} == {"token hub-token"}
    status, out, _ = laptop.af("logout")
    assert status == OK and ("DELETE", "users/ada/tokens/a7", "token hub-token", None) in hub.asked
    assert not laptop.token_file.exists() and "hub-token" not in laptop.logins.read_text()
    assert laptop.af("token")[0] == NOT_LOGGED_IN


ME = {
    "username": "ada",
    "name": "Ada Muon",
    "issuer_name": "cms",
    "groups": ["/cms/itcms"],
    "rights": {
        "refusal": "",
        "images": ["python"],
        "sizes": ["small"],
        "sites": ["T2_A"],
        "condor": {"account": "u-cms-ada", "accounting_group": "cms.itcms"},
        "admin": True,
    },
    "logged_in": True,
    "login_ends_at": 1795251600.0,
    "banner": "Your login ends soon.",
    "announcements": [{"text": "Cooling is served.", "level": "info"}],
}


@pytest.mark.parametrize(
    "found, lines",
    [
        pytest.param(
            ME,
            [
                "ada at https://h/, by cms",
                "groups: /cms/itcms",
                "images: python",
                "sizes: small",
                "sites: T2_A",
                "HTCondor account: u-cms-ada, charged to cms.itcms",
                "an administrator of the hub",
                "login ends: ",
                "token of the hub ends: ",
                "Your login ends soon.",
                "Cooling is served.",
            ],
            id="everything",
        ),
        pytest.param({"name": "ada"}, ["ada at https://h/", "token of the hub ends: "], id="a hub that says little"),
        pytest.param(
            {"name": "ada", "rights": [], "groups": "x", "announcements": {"a": 1}, "login_ends_at": "soon"},
            ["ada at https://h/", "groups: x", "token of the hub ends: "],
            id="nonsense",
        ),
        pytest.param(
            {**ME, "rights": {"refusal": "You left."}, "logged_in": False, "banner": "", "announcements": []},
            ["ada at https://h/, by cms", "groups: /cms/itcms", "You left.", "token of the hub ends: "],
            id="no longer let in",
        ),
    ],
)
def test_what_whoami_prints(found: dict[str, Any], lines: list[str]) -> None:
    told = describe_person(found, "https://h/", 1795255200.0).split("\n")
    assert len(told) == len(lines) and all(one.startswith(line) for one, line in zip(told, lines, strict=True)), told


def test_token_for_a_purpose(hub: ScriptedHub, laptop: Laptop) -> None:
    laptop.af("login", hub.url, "--no-file")
    hub.answers["GET", "af/token?purpose=storage"] = [(200, {**TOKEN, "access_token": "ey.other"})]
    assert laptop.af("token", "--purpose", "storage")[1] == "ey.other\n"
    hub.answers["GET", "af/token"] = [(429, {"message": "You ask too often. Ask again in 3 seconds."})]
    status, _, err = laptop.af("token")
    assert status == FAILED and "3 seconds" in err


def test_logout_leaves_the_token_of_somebody_else(hub: ScriptedHub, laptop: Laptop) -> None:
    laptop.af("login", hub.url)
    laptop.token_file.write_text("ey.of.another-tool")
    assert laptop.af("logout")[0] == OK and laptop.token_file.exists()


def test_logout_while_the_hub_is_away(hub: ScriptedHub, laptop: Laptop) -> None:
    laptop.af("login", hub.url)
    hub.answers["GET", "user"] = [(503, {"message": "The hub is away."})]
    status, _, err = laptop.af("logout")
    assert status == OK and "hub/token" in err and "hub-token" not in laptop.logins.read_text()


def test_every_line_is_json_for_programs(hub: ScriptedHub, laptop: Laptop) -> None:
    status, out, err = laptop.af("login", hub.url, "--json")
    begun, done = map(json.loads, out.splitlines())
    assert status == OK and err == "" and begun["user_code"] == "BCDF-GHJK" and done["username"] == "ada"
    assert json.loads(laptop.af("whoami", "--json")[1])["groups"] == ["/cms"]
    assert json.loads(laptop.af("token", "--json")[1])["access_token"] == TOKEN["access_token"]
    hub.answers["GET", "af/token"] = [(401, {"message": "Your login has ended; log in again."})]
    status, out, err = laptop.af("token", "--json")
    assert status == NOT_LOGGED_IN and json.loads(out)["kind"] == "LoginRequired" and err == ""


@pytest.mark.parametrize(
    "answer, status, sentence",
    [
        pytest.param(
            (403, {"message": "You are in none of the groups."}), NO, "none of the groups", id="policy says no"
        ),
        pytest.param(
            (410, {"message": "Nothing has changed."}), NOT_LOGGED_IN, "Nothing has changed", id="person says no"
        ),
        pytest.param((404, None), NOT_LOGGED_IN, "in time", id="a proxy that lost its hub"),
    ],
)
def test_login_that_is_none(
    hub: ScriptedHub, laptop: Laptop, answer: tuple[int, Any], status: int, sentence: str
) -> None:
    hub.answers["POST", "af/device"] = [(200, {**BEGUN, "expires_in": 0.2})]
    hub.answers["POST", "af/device/0123456789abcdef"] = [answer]
    found, _, err = laptop.af("login", hub.url)
    assert found == status and sentence in err and not laptop.logins.exists()


@pytest.mark.parametrize(
    "answer, status",
    [
        pytest.param((401, {"message": "Log in again."}), NOT_LOGGED_IN, id="login ended"),
        pytest.param((403, {"message": "Missing or invalid credentials."}), NOT_LOGGED_IN, id="hub token unknown"),
        pytest.param((403, {"message": "You may not."}), NO, id="refused"),
        pytest.param((503, {"message": "IAM is away"}), FAILED, id="IAM away"),
        pytest.param((200, ["no object"]), FAILED, id="another program's answer"),
        pytest.param((200, {}), FAILED, id="no token in it"),
        pytest.param((502, None), FAILED, id="a proxy without its hub"),
    ],
)
def test_what_a_shell_sees(hub: ScriptedHub, laptop: Laptop, answer: tuple[int, Any], status: int) -> None:
    laptop.af("login", hub.url, "--no-file")
    hub.answers["GET", "af/token"] = [answer]
    found, out, err = laptop.af("token")
    assert (found, out) == (status, "") and err.startswith("af: ")


@pytest.mark.parametrize(
    "answer, sentence",
    [
        pytest.param(
            (404, {"status": 404, "message": None}), "is that the address of a hub of AF Hub", id="another hub"
        ),
        pytest.param((301, None), "sends us elsewhere", id="a redirect, which is not followed"),
        pytest.param((500, None), "HTTP 500", id="broken"),
    ],
)
def test_addresses_that_are_no_hub(hub: ScriptedHub, laptop: Laptop, answer: tuple[int, Any], sentence: str) -> None:
    hub.answers["POST", "af/device"] = [answer]
    status, _, err = laptop.af("login", hub.url)
    assert status == FAILED and sentence in err


def test_nobody_listens(laptop: Laptop) -> None:
    assert laptop.af("login", "http://127.0.0.1:9")[0] == FAILED


def test_mistyped(laptop: Laptop) -> None:
    with pytest.raises(SystemExit) as ended:
        laptop.af("logn")
    assert ended.value.code == 2


def test_nothing_typed(laptop: Laptop) -> None:
    status, out, err = laptop.af()
    assert (status, out) == (MISTYPED, "") and all(
        name in err for name in ("login", "whoami", "token", "submit", "logout")
    )


def test_a_login_that_is_over_is_not_tried(hub: ScriptedHub, laptop: Laptop) -> None:
    Logins(laptop.logins).keep(HubLogin(hub.url, "old", "ada", time.time() - 1))
    status, _, err = laptop.af("token")
    assert status == NOT_LOGGED_IN and f"af login {hub.url}" in err and not hub.asked


def test_a_session_needs_no_login(hub: ScriptedHub, laptop: Laptop) -> None:
    laptop.environ |= {"JUPYTERHUB_API_URL": hub.url + "hub/api", "JUPYTERHUB_API_TOKEN": "server-token"}
    assert laptop.af("token", "--file")[0] == OK
    assert {auth for *_, auth, _ in hub.asked} == {"token server-token"} and not laptop.logins.exists()


def test_a_session_is_at_the_hub_that_people_know(hub: ScriptedHub, laptop: Laptop) -> None:
    laptop.environ |= {"JUPYTERHUB_API_URL": hub.url + "hub/api", "JUPYTERHUB_API_TOKEN": "server-token"}
    assert laptop.af("whoami")[1].startswith(f"ada at {hub.url}")
    laptop.environ["JUPYTERHUB_PUBLIC_HUB_URL"] = "https://hub.test/af/hub/"
    assert laptop.af("whoami")[1].startswith("ada at https://hub.test/af/\n")
    assert json.loads(laptop.af("whoami", "--json")[1])["hub"] == "https://hub.test/af/"


def test_what_the_hub_says_cannot_move_the_cursor(hub: ScriptedHub, laptop: Laptop) -> None:
    hub.answers["POST", "af/device"] = [(503, {"message": "\x1b[2J\x07gone\u202e"})]
    assert not {"\x1b", "\x07", "\u202e"} & set(laptop.af("login", hub.url)[2])


def test_broken_file_of_logins(laptop: Laptop) -> None:
    laptop.logins.parent.mkdir(parents=True)
    for text in "", "[]", '{"hubs": {"x": {"oops": 1}}, "last": ""}', '{"hubs": 3}':
        laptop.logins.write_text(text)
        status, _, err = laptop.af("whoami")
        assert status == FAILED and str(laptop.logins) in err


def test_two_hubs(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "af" / "logins.json")
    for hub in "https://a.test/", "https://b.test/":
        logins.keep(HubLogin(hub, "t"))
    assert logins.get().hub == "https://b.test/" and logins.get("https://a.test/").hub == "https://a.test/"
    logins.forget("https://b.test/")
    assert logins.get().hub == "https://a.test/"
    logins.forget("https://a.test/")
    with pytest.raises(LoginRequired):
        logins.get()


@pytest.mark.parametrize(
    "typed, address",
    [
        pytest.param("hub.test", "https://hub.test/", id="a name alone"),
        pytest.param("https://hub.test/hub/home", "https://hub.test/", id="copied from a browser"),
        pytest.param("https://hub.test/af/hub/spawn?x=1", "https://hub.test/af/", id="below a prefix"),
        pytest.param("https://hub.test/hub", "https://hub.test/", id="without a slash"),
        pytest.param(" http://127.0.0.1:8000 ", "http://127.0.0.1:8000/", id="the demo"),
        pytest.param("http://hub.test/", None, id="a token in clear"),
        pytest.param("ftp://hub.test/", None, id="no web"),
        pytest.param("https://me:secret@hub.test/", None, id="with a password"),
        pytest.param("https://[::1", None, id="no address"),
        pytest.param("https://hub.test:99999/", None, id="no port"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_addresses_as_people_type_them(typed: str, address: str | None) -> None:
    if address is None:
        with pytest.raises(Unavailable):
            read_address(typed)
    else:
        assert read_address(typed) == address


@given(st.text(max_size=60))
def test_any_address_is_good_or_refused(typed: str) -> None:
    try:
        found = read_address(typed)
    except Unavailable:
        return
    assert found.startswith("http") and found.endswith("/") and read_address(found) == found


def test_discovery_goes_in_order(tmp_path: Path) -> None:
    named, runtime = tmp_path / "named", tmp_path / "bt_u7"
    environ = {"BEARER_TOKEN_FILE": str(named), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert token_places(environ, 7) == [named, runtime, Path("/tmp/bt_u7")]
    assert place_to_write({"XDG_RUNTIME_DIR": str(tmp_path / "none")}, 7) == Path("/tmp/bt_u7")
    runtime.write_text("ey.runtime\n")
    assert find_token(environ, 7) == "ey.runtime"
    named.write_text(" \n\t")
    assert find_token(environ, 7) == "ey.runtime", "what is empty is passed over"
    named.write_text("\v ey.named ")
    assert find_token(environ, 7) == "ey.named"
    assert find_token({**environ, "BEARER_TOKEN": "ey.value"}, 7) == "ey.value"
    named.write_text("two words")
    with pytest.raises(Unavailable, match="named"):
        find_token(environ, 7)


@given(st.text(max_size=50))
def test_tokens_are_read_or_refused(text: str) -> None:
    try:
        token = read_token(text, "it")
    except Unavailable:
        return
    assert token in text and not set(token) & set(" \n\t\r")


def test_who_reads_may_have_enough() -> None:
    code = "from af_hub.client import command; command.run = lambda *_: print('x' * 9); command.main()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-u", "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
