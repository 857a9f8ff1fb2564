"""The IAM fails in every way while the hub logs all that it can: logs, databases, files, pages and answers hold no secret."""

import base64
import json
import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from asked_hub import OWNER, Place
from seen import cell, rows

from af_hub.testing.browser import xsrf_headers
from af_hub.testing.iam_faults import Kind
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.process import comes_true

pytestmark = pytest.mark.real

# Where secrets lie, below the hub's folder; everything else is searched.
PLACES = {"iam_client_secret", "controller_token", "crypt_key", "cookie_secret", "proxy_password", "rules.toml"}
RUNNING = ("run", "home", "issuer-keys.json")


@pytest.fixture(autouse=True)
def well_again(place: Place) -> Iterator[None]:
    yield
    place.iam.recover()


@pytest.fixture
def people(place: Place) -> Iterator[Callable[[str], str]]:
    """People who have never been here, and are gone from the IAM afterwards."""
    made: list[str] = []

    def make(name: str) -> str:
        place.iam.users[name] = DemoUser(name, f"subject-of-{name}", groups=("/icsc",))
        made.append(name)
        return name

    yield make
    for name in made:
        del place.iam.users[name]


class Visitor(httpx.Client):
    """A browser that remembers all pages, and what of its way is secret."""

    def __init__(self, place: Place) -> None:
        super().__init__(base_url=place.hub.url, timeout=30)
        self.place, self.pages = place, b""
        self.event_hooks = {"response": [self._remember]}

    def _remember(self, answer: httpx.Response) -> None:
        answer.read()
        if str(answer.url).startswith(self.place.hub.url):
            self.pages += answer.content

    def to_iam(self) -> tuple[httpx.URL, str]:
        """The IAM's page, and its ticket."""
        answer = self.get("/hub/oauth_login")
        kept = self.cookies.get("oauthenticator-state", "").strip('"').split("|")
        packed = base64.urlsafe_b64decode(kept[4].partition(":")[2]).decode()
        state = json.loads(base64.urlsafe_b64decode(packed))
        self.place.secrets.add(f"verifier {state['state_id']}", state["code_verifier"])
        page = httpx.get(answer.headers["Location"])
        return page.url, page.text.partition('name="ticket" value="')[2].partition('"')[0]

    def back(self, url: httpx.URL, ticket: str, username: str) -> httpx.Response:
        """Be this user at the IAM; what the hub makes of it."""
        answer = httpx.post(url.join("/login"), data={"ticket": ticket, "user": username})
        where = httpx.URL(answer.headers["Location"])
        self.place.secrets.add(f"code {where.params['code']}", where.params["code"])
        answer = self.get(where)
        if login := self.cookies.get("jupyterhub-hub-login"):
            self.place.secrets.add(f"cookie of {username}", login.strip('"').rpartition("|")[2])  # its signature
        return answer


@pytest.fixture
def visitor(place: Place) -> Iterator[Visitor]:
    with Visitor(place) as visitor:
        yield visitor


FAULTS = [
    pytest.param("token", "echo", id="500 that repeats the request"),
    pytest.param("token", "tells", id="invalid_grant that repeats the token"),
    pytest.param("userinfo", "echo", id="userinfo, 500 that repeats the request"),
    *(
        pytest.param(endpoint, kind, marks=pytest.mark.long)
        for endpoint, kind in [
            ("token", "down"),
            ("token", "slow"),
            ("token", "crash"),
            ("token", "gone"),
            ("token", "cut"),
            ("token", "list"),
            ("token", "html"),
            ("token", "huge"),
            ("token", "silent"),
            ("userinfo", "tells"),
            ("userinfo", "refuses"),
            ("discovery", "other issuer"),
            ("keys", "echo"),
            ("keys", "list"),
            ("keys", "tells"),
            ("discovery", "echo"),
            ("devicecode", "echo"),
            ("devicecode", "tells"),
        ]
    ),
]


# Faults after which logout says nothing of revocation: it went well, or there was no login any more.
NOTHING_TOLD = ("slow", "cut", "tells")


@pytest.mark.parametrize("endpoint, kind", FAULTS)
def test_nothing_leaks_when_the_iam_fails(
    place: Place, visitor: Visitor, people: Callable[[str], str], endpoint: str, kind: Kind
) -> None:
    """A login, a token of somebody who is in, a laptop's wait and a logout meet the fault; then everything is searched."""
    known, new = (people(re.sub("[^a-z]", "", f"{who}{endpoint}{kind}")) for who in ("known", "new"))
    url, ticket = visitor.to_iam()
    assert visitor.back(url, ticket, known).status_code == 302
    other = Visitor(place)
    url, ticket = other.to_iam()
    begun = visitor.post("/hub/api/af/device", json={"name": "a laptop"}).json()
    secret = place.secrets.add(f"wait {begun['id']}", begun["secret"])
    place.iam.devices.answer(begun["user_code"], known)
    for code in place.iam.devices._logins:
        place.secrets.add(f"device code {code}", code)
    written = len(place.log())

    place.iam.faults[endpoint] = place.iam.faults["revoke"] = kind
    answer = other.back(url, ticket, new)
    assert answer.status_code in (302, 403, 503), answer.text
    controller = place.client("controller")
    for purpose in ("condor", "storage"):
        answer = controller.post(f"/hub/api/af/token/{purpose}", json={"username": known}, timeout=60)
        assert answer.status_code in (200, 401, 403, 404, 503), answer.text
    polled = visitor.post(f"/hub/api/af/device/{begun['id']}", json={"secret": secret})
    assert polled.status_code in (200, 202, 403, 410, 503), polled.text
    assert visitor.post("/hub/api/af/device", json={}).status_code in (200, 503)
    assert visitor.get("/hub/home").status_code in (200, 302)
    assert visitor.get("/hub/logout").status_code == 200

    assert comes_true(lambda: b"not revoked" in place.log()[written:] or kind in NOTHING_TOLD, 20)
    seen = visitor.pages + other.pages + place.log()[written:] + controller.get("/hub/api/af/people/" + known).content
    if polled.status_code == 200:
        place.secrets.add(f"token of {known}'s laptop", polled.json()["token"])
    given = {f"wait {begun['id']}", f"token of {known}'s laptop"}
    assert b" token: " in seen or b"audit: " in seen
    assert not (found := place.secrets.within(seen, mine=given)), found
    assert not (found := place.secrets.within(place.log(), mine=())), found
    other.close()


def test_broken_requests_are_not_logged_with_their_secrets(place: Place) -> None:
    stranger = place.client("nobody")
    secret = place.secrets.add("a wait's secret", "wait-for-" + "me" * 12)
    for content in (f'{{"secret": "{secret}"', f'{{"secret": ["{secret}"]}}', f"secret={secret}", f'"{secret}"'):
        assert stranger.post("/hub/api/af/device/0123456789abcdef", content=content).status_code in (400, 410)
    form = {"code": "c" * 20, "state": "s", "_xsrf": "x", "password": secret}
    assert stranger.post("/hub/login", data=form).status_code in (400, 403)
    browser = place.hub.login(OWNER)
    headers = {"X-XSRFToken": xsrf_headers(browser)["X-XSRFToken"], "Referer": place.hub.url}
    posted = browser.post("/hub/login", data={"code": secret, "password": secret}, headers=headers)
    assert posted.status_code == 400 and "button" in posted.text
    assert not place.secrets.within(place.log() + posted.content)


def test_databases_hold_tokens_sealed_and_nowhere_else(place: Place) -> None:
    folder, living = place.hub.plan.folder, place.iam.refresh_tokens()
    opened = {}
    for name in ("jupyterhub.sqlite", "keeper.sqlite"):
        for table, row in rows(folder / name):
            for column, value in row.items():
                sealed = cell(value)
                if table == "logins" and column == "sealed":
                    opened[row["username"]] = json.loads(place.secrets.opened(sealed))
                else:
                    assert not (found := place.secrets.within(sealed)), f"{name}: {table}.{column} holds {found}"
                assert "auth_state" not in column or value is None, "auth_state is not used"
    assert opened[OWNER]["refresh_token"] in living, "the search would have found it"


def test_files_hold_no_secret_but_in_their_places(place: Place) -> None:
    folder = place.hub.plan.folder
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and path.name not in PLACES and inside.parts[0] not in RUNNING:
            found = place.secrets.within(path.read_bytes())
            if path.name.startswith("keeper.sqlite"):
                found = [one for one in found if not one.startswith("something sealed")]
            assert not found, f"{inside} holds {found}"


def test_error_pages_repeat_nothing(place: Place, visitor: Visitor) -> None:
    """What comes with an address may be a secret of somebody who was led there."""
    secret = place.secrets.add("in an address", "led-here-with-" + "7" * 16)
    visitor.to_iam()
    for path in (
        "hub/oauth_callback",
        "hub/oauth_login",
        "hub/login",
        "hub/nowhere",
        "hub/api/af/nowhere",
        "hub/logout",
    ):
        for name in ("code", "state", "token", "access_token", "error_description"):
            answer = visitor.get(f"/{path}", params={name: secret})
            assert answer.status_code < 500 and secret not in answer.text, (path, name)
