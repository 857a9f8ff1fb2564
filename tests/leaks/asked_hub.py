"""A hub that logs all that it can and says which routes it has, one person who has a session at it, and those who ask."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from seen import Secrets

from af_hub.testing.browser import xsrf_headers
from af_hub.testing.hub import FACILITY, RealHub
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import comes_true

ROUTES = "hub/af-test/routes"
EXTRA = """
import af_hub.signin
import af_hub.tokens.device
from jupyterhub.handlers import BaseHandler
from tornado.routing import PathMatches

af_hub.signin.FRESH_SECONDS = 0  # the hub asks where the IAM is at each login
af_hub.tokens.device.MOST_OF_ONE = af_hub.tokens.device.MOST_IN_ALL = 10**6

class Routes(BaseHandler):
    def get(self):
        rules = [*self.application.wildcard_router.rules, *self.application.default_router.rules]
        paths = [rule for rule in rules if isinstance(rule.matcher, PathMatches)]
        self.write({"routes": [[rule.matcher.regex.pattern, rule.target.__name__] for rule in paths]})

c.JupyterHub.extra_handlers = [("/af-test/routes", Routes)]
c.JupyterHub.cleanup_servers = True
c.JupyterHub.log_level = "DEBUG"
c.IAMAuthenticator.revoke_at_logout = True
c.IAMAuthenticator.request_rate = c.IAMAuthenticator.service_request_rate = 1e6
c.IAMAuthenticator.request_burst = c.IAMAuthenticator.service_request_burst = 10**6
"""
# A server that says yes to everything: what matters is the session's own token of the hub.
SERVER = """
import http.server, os, urllib.parse
class Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", "0")
        self.end_headers()
    log_message = lambda *_: None
port = urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port
http.server.HTTPServer(("127.0.0.1", port), Yes).serve_forever()
"""

OWNER, OTHER, ADMIN = "cms-analyst", "icsc-analyst", "facility-admin"


@dataclass(eq=False)
class Place:
    """A hub, its IAM, what must not be seen of both, and hub tokens of those who ask."""

    hub: RealHub
    iam: DemoIAM
    secrets: Secrets
    routes: list[tuple[str, str]]
    tokens: dict[str, str] = field(default_factory=dict)
    _clients: dict[str, httpx.Client] = field(default_factory=dict)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What hypothesis shows: nothing of what is secret here."""
        printer.text(f"<hub at {self.hub.url}>")

    def client(self, caller: str) -> httpx.Client:
        """Somebody with one of the tokens; without any for ``nobody``."""
        if caller not in self._clients:
            headers = {"Authorization": f"token {self.tokens[caller]}"} if caller in self.tokens else {}
            self._clients[caller] = httpx.Client(base_url=self.hub.url, headers=headers, timeout=60)
        return self._clients[caller]

    def stranger(self) -> httpx.Client:
        """Somebody with nothing, cookies included."""
        client = self.client("nobody")
        client.cookies.clear()
        return client

    def log(self) -> bytes:
        """What hub and proxy have logged."""
        return b"".join(path.read_bytes() for path in self.hub.plan.folder.glob("*.log"))


def image(folder: Path) -> Path:
    """A policy with one image more, whose server takes no time."""
    programs = folder / "quick" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "jupyterhub-singleuser").write_text(SERVER)
    (programs / "jupyterhub-singleuser").chmod(0o755)
    facility = yaml.safe_load(FACILITY.read_text())
    facility["images"]["quick"] = {"title": "Quick", "environment": str(folder / "quick")}
    for rule in facility["rules"]:
        if "images" in rule:
            rule["images"] = [*rule["images"], "quick"]
    (folder / "facility.yaml").write_text(yaml.safe_dump(facility))
    return folder / "facility.yaml"


def start_session(hub: RealHub, username: str) -> str:
    """The session's own token of the hub."""
    browser = hub.login(username)
    page = browser.get("/hub/spawn")
    action = page.text.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
    browser.post(action, data={"image": "quick", "size": "small"}, headers=xsrf_headers(browser))
    api = f"/hub/api/users/{username}"
    assert comes_true(lambda: browser.get(api, headers=xsrf_headers(browser)).json()["servers"][""]["ready"], 60)
    [agent] = (hub.plan.folder / "run").glob("*/agent.json")
    return str(yaml.safe_load(agent.read_text())["hub_token"])


def service_login(hub: RealHub, username: str) -> str:
    """The token that the controller gets for somebody who comes to its pages."""
    browser, where = hub.login(username), "/services/af-controller/oauth_callback"
    asked = {"client_id": "service-af-controller", "redirect_uri": where, "response_type": "code", "state": "s"}
    answer = browser.get("/hub/api/oauth2/authorize", params=asked, follow_redirects=False)
    code = httpx.URL(answer.headers["Location"]).params["code"]
    secret = {"client_id": asked["client_id"], "client_secret": hub.controller_token, "redirect_uri": where}
    form = {**secret, "grant_type": "authorization_code", "code": code}
    return str(httpx.post(hub.plan.api_url + "/oauth2/token", data=form).json()["access_token"])
