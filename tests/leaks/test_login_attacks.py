"""Attacks on signing in and out at the running hub: open redirects, forged hosts, replayed answers, guessed and shared waits."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import httpx
import pytest
from asked_hub import OTHER, OWNER, Place

from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.process import comes_true

pytestmark = pytest.mark.real

ELSEWHERE = [
    "https://evil.test/",
    "//evil.test/",
    "///evil.test",
    "/\\evil.test",
    "\\\\evil.test",
    "/\t/evil.test",
    "/%09/evil.test",
    "https:evil.test",
    "http:///evil.test",
    "//user@evil.test/",
    "javascript:alert(1)",
    "data:text/html,x",
    " //evil.test",
    "/hub/user-redirect//evil.test",
    "/\r\nLocation: https://evil.test",
    "/hub/logout?next=https://evil.test",
]


@pytest.fixture
def browser(place: Place) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=place.hub.url, timeout=60) as browser:
        yield browser


def state_of(browser: httpx.Client) -> dict[str, str]:
    """What the hub keeps of a login in the browser's signed cookie."""
    packed = browser.cookies["oauthenticator-state"].strip('"').split("|")[4].partition(":")[2]
    found: dict[str, str] = json.loads(base64.urlsafe_b64decode(base64.urlsafe_b64decode(packed)))
    return found


def at_iam(place: Place, answer: httpx.Response, username: str) -> httpx.URL:
    """Be this user at the IAM; where the browser is sent back to."""
    assert answer.headers["Location"].startswith(place.iam.url), answer.headers
    page = httpx.get(answer.headers["Location"])
    ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
    back = httpx.post(page.url.join("/login"), data={"ticket": ticket, "user": username})
    return httpx.URL(back.headers["Location"])


def is_here(place: Place, location: str) -> bool:
    """Whether a browser that is sent there stays at the hub; browsers take a backslash for a slash and drop tabs and ends of lines."""
    read = location.replace("\\", "/").translate({9: None, 10: None, 13: None}).strip()
    found = urlsplit(urljoin(place.hub.url, read))
    return (found.scheme, found.netloc) == urlsplit(place.hub.url)[:2]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_login_leads_nowhere_else(place: Place, browser: httpx.Client, target: str) -> None:
    browser.get("/hub/oauth_login", params={"next": target})
    assert is_here(place, state_of(browser)["next_url"])


@pytest.mark.parametrize(
    "target", ["//evil.test/", "/\\evil.test", pytest.param("/\t/evil.test", marks=pytest.mark.long)]
)
def test_nobody_who_is_in_is_led_elsewhere(place: Place, browser: httpx.Client, target: str) -> None:
    answer = browser.get(at_iam(place, browser.get("/hub/oauth_login", params={"next": target}), OTHER))
    assert answer.status_code == 302 and is_here(place, answer.headers["Location"])
    for path in ("hub/login", "hub/spawn", "hub/home", "hub/logout"):
        found = browser.get(f"/{path}", params={"next": target})
        assert "Location" not in found.headers or is_here(place, found.headers["Location"]), path


def test_answer_counts_once(place: Place, browser: httpx.Client) -> None:
    back = at_iam(place, browser.get("/hub/oauth_login"), OTHER)
    kept = browser.cookies["oauthenticator-state"]
    assert browser.get(back).status_code == 302
    with httpx.Client(base_url=place.hub.url, cookies={"oauthenticator-state": kept}, timeout=60) as thief:
        answer = thief.get(back)  # who has seen address and cookie
        assert answer.status_code == 403 and not [name for name in thief.cookies if name == "jupyterhub-hub-login"]


def test_answer_in_another_browser_counts_nothing(place: Place, browser: httpx.Client) -> None:
    """Login CSRF: somebody is to work in the attacker's account without knowing."""
    with httpx.Client(base_url=place.hub.url, timeout=60) as attacker:
        back = at_iam(place, attacker.get("/hub/oauth_login"), OTHER)
    browser.get("/hub/oauth_login")
    mine = state_of(browser)["state_id"]
    forged = base64.urlsafe_b64encode(json.dumps({"state_id": mine}).encode()).decode()
    for answer in (browser.get(back), browser.get(back.copy_set_param("state", forged))):
        assert answer.status_code in (400, 403), answer.text
    assert "jupyterhub-hub-login" not in browser.cookies


@pytest.mark.parametrize(
    "named, status, words",
    [
        pytest.param("", 403, "does not say which IAM", id="left out by somebody in between"),
        pytest.param("https://evil.test/", 400, "another IAM", id="another one's answer"),
        pytest.param("https://iam.af-hub.test/", 302, "", id="right"),
    ],
)
def test_mix_up_of_issuers(place: Place, browser: httpx.Client, named: str, status: int, words: str) -> None:
    """An IAM that names itself in its answers (RFC 9207) must always do so, and rightly."""
    place.iam.iss_parameter = named
    try:
        answer = browser.get(at_iam(place, browser.get("/hub/oauth_login"), OTHER))
    finally:
        place.iam.recover()
        httpx.get(place.hub.url + "hub/oauth_login")  # the hub learns that it is over
    assert answer.status_code == status and words in answer.text
    assert ("jupyterhub-hub-login" in browser.cookies) == (status == 302)


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.test"}, {"X-Forwarded-Host": "evil.test"}, {"Forwarded": "host=evil.test"}]
)
def test_forged_host_stands_nowhere(place: Place, browser: httpx.Client, headers: dict[str, str]) -> None:
    for path in (
        "hub/login",
        "hub/logout",
        "hub/oauth_login",
        "hub/oauth_callback",
        "hub/home",
        "hub/nowhere",
        "hub/api/af/issuer/jwks",
    ):
        answer = browser.get(f"/{path}", headers=headers)
        assert "evil.test" not in str(answer.headers) + answer.text, path


def test_signing_out_leads_to_the_own_iam_and_back_here(place: Place, browser: httpx.Client) -> None:
    browser.get(at_iam(place, browser.get("/hub/oauth_login"), OTHER))
    asked = {
        "post_logout_redirect_uri": "https://evil.test/",
        "next": "https://evil.test/",
        "id_token_hint": "x",
        "state": "s",
    }
    page = browser.get("/hub/logout", params=asked)
    assert page.status_code == 200 and "evil.test" not in page.text
    link = page.text.partition(f'href="{place.iam.url}endsession?')[2].partition('"')[0].replace("&amp;", "&")
    said = parse_qs(link)
    assert said == {"client_id": [place.hub.plan.client_id], "post_logout_redirect_uri": [place.hub.url + "hub/login"]}


class Wait:
    """A login by code that somebody began."""

    def __init__(self, place: Place, name: str = "") -> None:
        self.place, self.client = place, place.stranger()
        begun = self.client.post("/hub/api/af/device", json={"name": name}).json()
        self.key, self.secret, self.code = begun["id"], begun["secret"], begun["user_code"]

    def poll(self, secret: str = "") -> httpx.Response:
        with httpx.Client(base_url=self.place.hub.url, timeout=60) as client:
            return client.post(f"/hub/api/af/device/{self.key}", json={"secret": secret or self.secret})

    def given(self) -> dict[str, str]:
        """What came of it, once there is something."""
        found: list[httpx.Response] = []
        assert comes_true(lambda: found.append(self.poll()) or found[-1].status_code != 202, 30)  # type: ignore[func-returns-value]
        assert found[-1].status_code == 200, found[-1].text
        return dict(found[-1].json())


def test_wait_is_opened_by_its_secret_alone(place: Place) -> None:
    first, second = Wait(place), Wait(place)
    place.iam.devices.answer(first.code, OTHER)
    for secret in (second.secret, first.secret[:-1], first.secret + "=", "0" * 43, first.key, first.code):
        assert first.poll(secret).status_code == 410
    assert first.given()["username"] == OTHER, "guessing ends no wait of others"
    assert first.poll().status_code == 410, "and it is given once"
    assert second.poll().status_code == 202


@pytest.mark.long
def test_one_wait_gives_one_token_however_many_ask(place: Place) -> None:
    wait = Wait(place)
    place.iam.devices.answer(wait.code, OTHER)
    with ThreadPoolExecutor(8) as crowd:
        answers: list[httpx.Response] = []
        assert comes_true(
            lambda: (
                answers.extend(crowd.map(lambda _: wait.poll(), range(8)))
                or 200 in [one.status_code for one in answers]
            ),
            30,
        )  # type: ignore[func-returns-value]
        answers.extend(crowd.map(lambda _: wait.poll(), range(8)))
    statuses = [one.status_code for one in answers]
    assert statuses.count(200) == 1 and set(statuses) <= {200, 202, 410}


def test_name_of_a_laptop_is_text_and_its_owner_sees_it(place: Place) -> None:
    """Whoever talks somebody into typing a code chooses that name; the token stands in the person's list, and in the audit log."""
    wait = Wait(place, "<script>alert(1)</script>\r\n\x1b[2J")
    place.iam.devices.answer(wait.code, OTHER)
    token = place.secrets.add("phished", wait.given()["token"])
    with httpx.Client(base_url=place.hub.url, timeout=60) as browser:
        browser.get(at_iam(place, browser.get("/hub/oauth_login"), OTHER))
        page = browser.get("/hub/token").text
    assert "af login on &lt;script&gt;" in page and "<script>alert(1)" not in page and token not in page
    assert f"/hub/api/af/device/{wait.key} by nobody (token none) about '{OTHER}'".encode() in place.log()


def test_token_in_an_address_opens_nothing(place: Place) -> None:
    for name in ("token", "access_token", "api_token"):
        answer = place.stranger().get("/hub/api/af/token", params={name: place.tokens["owner"]})
        assert answer.status_code == 403
    assert OWNER not in answer.text


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("group, status", [("/guests", 403), ("/icsc", 302)])
def test_what_the_iam_says_of_somebody_is_text(place: Place, browser: httpx.Client, group: str, status: int) -> None:
    groups = (group, f"/{SCRIPT}", "/' onmouseover='alert(1)")
    place.iam.users["mallory"] = DemoUser(
        "mallory", f"subject-of-mallory{status}", SCRIPT, f"{SCRIPT}@evil.test", groups
    )
    try:
        answer = browser.get(at_iam(place, browser.get("/hub/oauth_login"), "mallory"))
    finally:
        del place.iam.users["mallory"]
    assert answer.status_code == status, answer.text
    pages = [answer, *(browser.get(f"/hub/{name}", follow_redirects=True) for name in ("home", "spawn", "token"))]
    assert not [page.url for page in pages if SCRIPT in page.text or "' onmouseover='" in page.text]


def test_nobody_writes_lines_of_their_own_into_the_log(place: Place, browser: httpx.Client) -> None:
    line = "\n[I 2026-01-01 00:00:00.000 forged] audit: all is well"
    began = browser.get("/hub/oauth_login")
    state = httpx.URL(began.headers["Location"]).params["state"]
    for query in (
        {"error": f"odd{line}"},
        {"error": "access_denied", "error_description": line},
        {"iss": line, "code": "c"},
    ):
        browser.get("/hub/oauth_callback", params={**query, "state": state})
        began = browser.get("/hub/oauth_login")
        state = httpx.URL(began.headers["Location"]).params["state"]
    controller = place.client("controller")
    controller.get(f"/hub/api/af/people/{quote(line, safe='')}")
    controller.post("/hub/api/af/token/condor", json={"username": line})
    place.stranger().post("/hub/api/af/device", json={"name": line, "issuer": line})
    place.stranger().get(f"/hub/{quote(line, safe='')}", params={"next": line})
    assert b"forged]" in place.log(), "it came there"
    assert not [found for found in place.log().splitlines() if found.startswith(b"[I 2026-01-01")]
