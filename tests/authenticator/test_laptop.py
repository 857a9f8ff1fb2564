"""``af login`` at a real hub: somebody types the code at the IAM, and the laptop gets a token of the hub, with that person's rights."""

import io
import json
import platform
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from af_hub.client.command import FAILED, NO, NOT_LOGGED_IN, OK, Terminal, run
from af_hub.testing.hub import RealHub
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import comes_true

pytestmark = pytest.mark.real


class Laptop:
    """Runs ``af`` in a home of its own; a person with a browser ends its waits."""

    def __init__(self, hub: RealHub, iam: DemoIAM, home: Path) -> None:
        self.hub, self.iam, self.home = hub, iam, home
        self.environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "XDG_CONFIG_HOME": str(home)}

    def af(self, *argv: str) -> tuple[int, list[dict[str, object]]]:
        terminal = Terminal(self.environ, io.StringIO(), io.StringIO())
        status = run([argv[0], "--json", *argv[1:]], terminal)
        assert isinstance(terminal.out, io.StringIO)
        return status, [json.loads(line) for line in terminal.out.getvalue().splitlines()]

    def login(self, answer: Callable[[str], object]) -> tuple[int, list[dict[str, object]]]:
        """``af login``, while somebody answers the code at the IAM."""
        out = io.StringIO()
        ended: list[int] = []
        terminal = Terminal(self.environ, out, io.StringIO())
        thread = threading.Thread(target=lambda: ended.append(run(["login", "--json", self.hub.url], terminal)))
        thread.start()
        assert comes_true(lambda: bool(out.getvalue()), 20)
        answer(str(json.loads(out.getvalue().splitlines()[0])["user_code"]))
        thread.join(60)
        return ended[0], [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture
def laptop(hub: RealHub, iam: DemoIAM, tmp_path: Path) -> Laptop:
    return Laptop(hub, iam, tmp_path)


@pytest.fixture(scope="module")
def stranger(hub: RealHub) -> Iterator[httpx.Client]:
    """Somebody without any token."""
    with httpx.Client(base_url=f"{hub.plan.api_url}/af/") as client:
        yield client


def at_the_page(iam: DemoIAM, username: str) -> Callable[[str], object]:
    """A person who goes where the terminal says, types the code and chooses who they are."""

    def answer(code: str) -> None:
        found = httpx.post(iam.url + "device/verify", data={"user_code": code})
        assert "af-hub" in found.text and code in found.text
        done = httpx.post(iam.url + "device/approve", data={"user_code": code, "user": username})
        assert "You are signed in" in done.text

    return answer


def test_a_laptop_gets_the_rights_of_a_browser(laptop: Laptop, iam: DemoIAM) -> None:
    status, (begun, done) = laptop.login(at_the_page(iam, "cms-analyst"))
    assert status == OK and done["username"] == "cms-analyst" and begun["verification_uri"] == iam.url + "device"
    status, (me,) = laptop.af("whoami")
    assert status == OK and me["username"] == "cms-analyst" and "/cms/itcms" in list(me["groups"])  # type: ignore[call-overload]
    status, (token,) = laptop.af("token")
    claims = iam.verified(str(token["access_token"]))
    assert status == OK and claims["sub"] == iam.users["cms-analyst"].subject
    assert Path(str(done["token_file"])).read_text() == token["access_token"]
    kept = (laptop.home / "af" / "logins.json").read_text()
    log = (laptop.hub.plan.folder / "hub.log").read_text()
    for secret in iam.refresh_tokens():
        assert secret not in kept + log, "refresh tokens stay in the hub"
    hub_token = json.loads(kept)["hubs"][laptop.hub.url]["token"]
    assert hub_token not in log
    mine = laptop.hub.api(hub_token).get("/users/cms-analyst/tokens").json()["api_tokens"]
    noted = {one["note"]: one["expires_at"] for one in mine}
    assert noted[f"af login on {platform.node()}"], "its owner finds it, and it ends"
    assert laptop.af("logout")[0] == OK
    assert laptop.hub.api(hub_token).get("/user").status_code == 403, "the hub took it back"


def test_who_may_not_log_in_gets_no_token(laptop: Laptop, iam: DemoIAM) -> None:
    status, (_, refused) = laptop.login(at_the_page(iam, "outsider"))
    assert status == NO and "/cms/itcms" in str(refused["error"])
    status, (_, said) = laptop.login(lambda code: iam.devices.answer(code, None))
    assert status == NOT_LOGGED_IN and "Nothing has changed" in str(said["error"])


@pytest.mark.long
def test_login_goes_on_when_the_iam_is_away_for_a_moment(laptop: Laptop, failing_iam: DemoIAM) -> None:
    def answer(code: str) -> None:
        failing_iam.faults["token"] = "down"
        asked = len(failing_iam.asked)
        failing_iam.devices.answer(code, "cms-analyst")
        comes_true(lambda: len(failing_iam.asked) > asked, 3)
        failing_iam.recover()

    assert laptop.login(answer)[0] == OK


@pytest.mark.long
@pytest.mark.parametrize("killed", [False, True])
def test_hub_that_restarts_knows_its_tokens_and_no_waits(iam: DemoIAM, tmp_path: Path, killed: bool) -> None:
    with RealHub(tmp_path / "hub", iam) as hub:
        laptop = Laptop(hub, iam, tmp_path)
        assert laptop.login(at_the_page(iam, "cms-analyst"))[0] == OK
        hub.restart_hub(killed)
        assert laptop.af("token")[0] == OK
        status, (_, said) = laptop.login(lambda code: hub.restart_hub(killed))
        assert status == NOT_LOGGED_IN and "Begin again" in str(said["error"])


def test_iam_without_logins_by_code(laptop: Laptop, failing_iam: DemoIAM) -> None:
    failing_iam.faults["devicecode"] = "down"
    assert laptop.af("login", laptop.hub.url)[0] == FAILED


@pytest.mark.parametrize(
    "path, body, status",
    [
        pytest.param("device", {"x": "y"}, 400, id="unknown key"),
        pytest.param("device", {"name": 3}, 400, id="no text"),
        pytest.param("device", [], 200, id="empty"),
        pytest.param("device", ["x"], 400, id="no object"),
        pytest.param("device", {"issuer": "nobody"}, 400, id="an issuer that is none"),
        pytest.param("device/0123456789abcdef", {"secret": "guessed"}, 410, id="a wait that is none"),
        pytest.param("device/0123456789abcdef", None, 410, id="no secret"),
    ],
)
def test_requests_of_strangers(stranger: httpx.Client, path: str, body: object, status: int) -> None:
    answer = stranger.post(path, json=body)
    assert answer.status_code == status, answer.text


@given(
    st.sampled_from(["device", "device/0123456789abcdef", "device/0", "device/"]),
    st.binary(max_size=60)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one)).map(json.dumps)
    | st.dictionaries(st.sampled_from(["secret", "issuer", "name"]), st.text() | st.integers()).map(json.dumps),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_refused_in_order(stranger: httpx.Client, path: str, body: str | bytes) -> None:
    sent = body.encode() if isinstance(body, str) else body
    if path == "device":  # nothing that would begin a login, of which there may be only so many
        sent = b'{"issuer": "nobody", "name": ' + (sent or b'""') + b"}"
    answer = stranger.post(path, content=sent)
    assert 400 <= answer.status_code < 500, answer.text


def test_a_page_elsewhere_cannot_begin_a_login(stranger: httpx.Client) -> None:
    answer = stranger.post("device", json={}, headers={"Origin": "https://evil.test"})
    assert answer.status_code == 403
