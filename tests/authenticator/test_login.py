"""Logging in through a real hub behind a real proxy, and its token endpoint: who gets what."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from af_hub.testing.browser import sign_in, xsrf_headers
from af_hub.testing.hub import RealHub
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_tokens import DemoUser
from af_hub.tokens.records import read_record

pytestmark = pytest.mark.real

READ = "custom:af-token:read"


@pytest.fixture
def honest(iam: DemoIAM) -> Iterator[DemoIAM]:
    """The IAM, which forges nothing any more when the test is over."""
    yield iam
    iam.forged, iam.forged_algorithm, iam.down = {}, None, False


def test_analyst_reaches_the_hub(hub: RealHub) -> None:
    page = hub.login("cms-analyst").get("/hub/home")
    assert page.status_code == 200 and "cms-analyst" in page.text
    record = read_record(hub.plan.database, "cms-analyst")
    assert record is not None and record.claims.groups == ("/cms", "/cms/itcms") and time.time() - record.seen_at < 60


def test_outsider_is_told_which_group_is_missing_and_whom_to_ask(hub: RealHub) -> None:
    with pytest.raises(PermissionError) as refused:
        hub.login("outsider")
    for part in "HTTP 403", "/cms/itcms", "/icsc", "/guests", "facility-admin@af-hub.test":
        assert part in str(refused.value)
    assert read_record(hub.plan.database, "outsider") is None


def test_login_asks_for_pkce_state_and_nonce(hub: RealHub) -> None:
    answer = httpx.get(hub.url + "hub/oauth_login")
    asked = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert asked["code_challenge_method"] == ["S256"] and len(asked["nonce"][0]) == 43 and asked["state"]
    assert asked["redirect_uri"] == [hub.url + "hub/oauth_callback"]


@pytest.mark.parametrize(
    "forged, algorithm",
    [
        pytest.param({"nonce": "another"}, None, id="answers another login"),
        pytest.param({"nonce": None}, None, id="no nonce"),
        pytest.param({"aud": "another-client"}, None, id="for another client"),
        pytest.param({"iss": "https://evil.test/"}, None, id="another issuer"),
        pytest.param({"exp": int(time.time()) - 120}, None, id="expired"),
        pytest.param({"sub": "somebody-else"}, None, id="userinfo speaks of somebody else"),
        pytest.param({}, "none", id="unsigned"),
    ],
)
def test_forged_id_token_opens_nothing(
    hub: RealHub, honest: DemoIAM, forged: dict[str, object], algorithm: str | None
) -> None:
    honest.forged, honest.forged_algorithm = forged, algorithm
    with pytest.raises(PermissionError, match="HTTP 403"):
        hub.login("cms-analyst")


def test_elliptic_curves_are_fine(hub: RealHub, honest: DemoIAM) -> None:
    honest.forged_algorithm = "ES256"
    assert hub.login("cms-analyst").get("/hub/home").status_code == 200


def test_iam_that_is_down_at_login_is_no_500(hub: RealHub, honest: DemoIAM) -> None:
    browser = hub.login("cms-analyst")
    page = httpx.get(hub.url + "hub/oauth_login", follow_redirects=True)
    state = page.request.url.params["state"]
    honest.down = True
    answer = httpx.get(
        hub.url + "hub/oauth_callback", params={"code": "c", "state": state}, cookies=page.history[0].cookies
    )
    assert answer.status_code == 503 and "Try again" in answer.text
    assert browser.get("/hub/home").status_code == 200


def test_name_that_belongs_to_somebody_else(hub: RealHub, honest: DemoIAM, iam_user: Callable[..., DemoUser]) -> None:
    first = iam_user("grace", groups=("/icsc",))
    hub.login("grace")
    honest.users["grace"] = replace(first, subject="another-subject")
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        hub.login("grace")


def test_code_is_not_in_the_log(hub: RealHub) -> None:
    with pytest.raises(PermissionError):
        hub.login("outsider")
    log = (hub.plan.folder / "hub.log").read_text()
    assert "oauth_callback" in log and "code=[secret]" in log
    assert not [line for line in log.splitlines() if "code=" in line and "code=[secret]" not in line]


def test_own_token(hub: RealHub, iam: DemoIAM) -> None:
    answer = hub.api(hub.token_for("cms-analyst", [READ])).get("/af/token")
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    claims = iam.verified(found["access_token"])
    assert claims["sub"] == iam.users["cms-analyst"].subject and claims["wlcg.groups"] == ["/cms", "/cms/itcms"]
    assert not [scope for scope in str(claims["scope"]).split() if scope.startswith("compute")]
    assert found["issuer"] == iam.issuer and abs(found["expires_at"] - int(str(claims["exp"]))) < 5


def test_condor_token_is_short_and_for_the_pool(hub: RealHub, iam: DemoIAM) -> None:
    hub.login("cms-analyst")
    answer = hub.api(hub.controller_token).post("/af/token/condor", json={"username": "cms-analyst"})
    claims = iam.verified(answer.json()["access_token"])
    assert claims["aud"] == "htcondor.af-hub.test" and claims["sub"] == iam.users["cms-analyst"].subject
    assert {"compute.read", "compute.create", "compute.modify", "compute.cancel"} < set(str(claims["scope"]).split())
    assert claims["wlcg.groups"] == ["/cms", "/cms/itcms"]
    assert answer.json()["expires_at"] - time.time() <= 600


def test_people(hub: RealHub, iam: DemoIAM) -> None:
    hub.login("icsc-analyst")
    found = hub.api(hub.controller_token).get("/af/people/icsc-analyst").json()
    assert found.pop("seen_at") <= time.time()
    user = iam.users["icsc-analyst"]
    assert found == {
        "issuer": iam.issuer,
        "subject": user.subject,
        "username": "icsc-analyst",
        "groups": ["/icsc"],
        "name": user.name,
        "email": user.email,
    }


@pytest.mark.parametrize(
    "caller, method, path, body, status",
    [
        pytest.param("user", "GET", "/af/token", None, 200, id="own token"),
        pytest.param("other scope", "GET", "/af/token", None, 403, id="own token without the scope"),
        pytest.param("nobody", "GET", "/af/token", None, 403, id="token of nobody"),
        pytest.param("cookie", "GET", "/af/token", None, 403, id="token for a page in a browser"),
        pytest.param("controller", "GET", "/af/token", None, 403, id="a service has no token of its own"),
        pytest.param(
            "user", "POST", "/af/token/condor", {"username": "icsc-analyst"}, 403, id="condor token of another"
        ),
        pytest.param(
            "user", "POST", "/af/token/condor", {"username": "cms-analyst"}, 403, id="condor token of one's own"
        ),
        pytest.param(
            "admin", "POST", "/af/token/condor", {"username": "cms-analyst"}, 403, id="condor token by an admin"
        ),
        pytest.param(
            "controller",
            "POST",
            "/af/token/condor",
            {"username": "cms-analyst"},
            200,
            id="condor token by the controller",
        ),
        pytest.param(
            "controller", "POST", "/af/token/condor", {"username": "ghost"}, 404, id="condor token of a stranger"
        ),
        pytest.param("user", "GET", "/af/token?purpose=storage", None, 200, id="own token that reads data"),
        pytest.param("user", "GET", "/af/token?purpose=condor", None, 400, id="a purpose that is not one's own"),
        pytest.param(
            "user", "POST", "/af/token/storage", {"username": "icsc-analyst"}, 403, id="storage token of another"
        ),
        pytest.param(
            "controller",
            "POST",
            "/af/token/storage",
            {"username": "cms-analyst"},
            200,
            id="storage token by the controller",
        ),
        pytest.param("controller", "POST", "/af/token/condor", {"user": "cms-analyst"}, 400, id="wrong key"),
        pytest.param("controller", "POST", "/af/token/condor", ["cms-analyst"], 400, id="no object"),
        pytest.param("controller", "POST", "/af/token/condor", {"username": 3}, 400, id="no name"),
        pytest.param("user", "GET", "/af/people/icsc-analyst", None, 403, id="who another is"),
        pytest.param("user", "GET", "/af/people/cms-analyst", None, 403, id="who oneself is"),
        pytest.param("admin", "GET", "/af/people/cms-analyst", None, 403, id="who somebody is, by an admin"),
        pytest.param("controller", "GET", "/af/people/cms-analyst", None, 200, id="who somebody is, by the controller"),
        pytest.param("controller", "GET", "/af/people/ghost", None, 404, id="who a stranger is"),
    ],
)
def test_endpoint(hub: RealHub, caller: str, method: str, path: str, body: object, status: int) -> None:
    browser = hub.login("cms-analyst")
    hub.login("icsc-analyst")
    clients: dict[str, Callable[[], httpx.Client]] = {
        "user": lambda: hub.api(hub.token_for("cms-analyst")),
        "other scope": lambda: hub.api(hub.token_for("cms-analyst", ["read:users:name!user"])),
        "admin": lambda: hub.api(hub.token_for("facility-admin")),
        "controller": lambda: hub.api(hub.controller_token),
        "nobody": lambda: hub.api("0" * 64),
    }
    if caller == "cookie":
        answer = browser.request(method, "/hub/api" + path, headers=xsrf_headers(browser))
    else:
        answer = clients[caller]().request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")


def test_every_request_leaves_an_audit_line_without_a_token(hub: RealHub) -> None:
    hub.login("cms-analyst")
    token = (
        hub.api(hub.controller_token).post("/af/token/condor", json={"username": "cms-analyst"}).json()["access_token"]
    )
    hub.api(hub.token_for("cms-analyst", ["read:users:name!user"])).get("/af/token")
    log = (hub.plan.folder / "hub.log").read_text()
    assert "POST /hub/api/af/token/condor by service af-controller" in log and "about 'cms-analyst'" in log
    assert "GET /hub/api/af/token by user cms-analyst" in log
    assert token not in log and "eyJ" not in log


def test_users_hold_what_the_controller_checks_and_cannot_share(hub: RealHub) -> None:
    api = hub.api(hub.token_for("cms-analyst"))
    me = api.get("/user").json()
    assert "access:services!service=af-controller" in me["scopes"] and me["admin"] is False
    assert api.post("/shares/cms-analyst/", json={"user": "icsc-analyst"}).status_code in (403, 404)
    assert api.post("/share-codes/cms-analyst/", json={}).status_code in (403, 404)


def test_admin_by_role_reads_no_secrets(hub: RealHub) -> None:
    me = hub.api(hub.token_for("facility-admin")).get("/user").json()
    assert me["admin"] is False
    assert {"admin-ui", "list:users"} <= set(me["scopes"])
    assert not {
        scope for scope in me["scopes"] if scope.split("!")[0] in {"admin:users", "admin:auth_state", "access:servers"}
    } - {"access:servers!user=facility-admin"}


def test_refresh_token_is_nowhere(hub: RealHub, iam: DemoIAM) -> None:
    tokens = [hub.controller_token, hub.token_for("cms-analyst"), hub.token_for("facility-admin")]
    hub.api(tokens[0]).post("/af/token/condor", json={"username": "cms-analyst"})
    routes = [
        "/user",
        "/users",
        "/users/cms-analyst",
        "/users/cms-analyst/tokens",
        "/groups",
        "/services",
        "/info",
        "/proxy",
        "/shared",
    ]
    routes += ["/af/token", "/af/people/cms-analyst"]
    told = "".join(hub.api(token).get(route).text for token in tokens for route in routes)
    kept = b"".join(file.read_bytes() for file in hub.plan.folder.rglob("*") if file.is_file())
    assert iam.refresh_tokens()
    assert not [token for token in iam.refresh_tokens() if token in told or token.encode() in kept]
    with closing(sqlite3.connect(hub.plan.folder / "jupyterhub.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM users WHERE encrypted_auth_state IS NOT NULL").fetchone() == (0,)


def test_secrets_lie_in_private_files(hub: RealHub) -> None:
    assert hub.plan.folder.stat().st_mode & 0o777 == 0o700
    for name in (
        "iam_client_secret",
        "controller_token",
        "crypt_key",
        "proxy_password",
        "cookie_secret",
        "keeper.sqlite",
        "jupyterhub.sqlite",
    ):
        assert (hub.plan.folder / name).stat().st_mode & 0o777 == 0o600, name


def test_hub_as_processes_of_its_own_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RealHub(tmp_path_factory.mktemp("alone")) as hub:
        sign_in(hub.url, "cms-analyst").close()
        daemons = list(hub._daemons)
        assert [daemon.name for daemon in daemons] == ["proxy", "demo IAM", "hub"]
    assert not [daemon.name for daemon in daemons if daemon.alive()]
    with pytest.raises(httpx.ConnectError):
        httpx.get(hub.url)
