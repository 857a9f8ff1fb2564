"""Login to JupyterLab: ours, and a plain JupyterHub with its simple local spawner behind the same kind of proxy, with the same image."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from af_hub.demo import check
from af_hub.testing.browser import sign_in, xsrf_headers
from af_hub.testing.hub import HubPlan, hub_serves, proxy_daemon
from af_hub.testing.process import Daemon, comes_true
from tests.bench import stamps
from tests.bench.facility import CHECKOUT, IMAGE, USER, Place

SECONDS = 60
PAUSE_SECONDS = 0.05
SESSION = {
    "the session agent is started": "the session agent is started",
    "JupyterLab is started": "the server is started",
    "JupyterLab is loaded": "Starting jupyterhub single-user server",
    "JupyterLab listens": "is running at:",
}
PLAIN = "ada"
PLAIN_CONFIG = """
import os
c.JupyterHub.bind_url = "{url}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.JupyterHub.db_url = "sqlite:///{folder}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.pid_file = ""
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.should_start = False
c.TraefikFileProviderProxy.dynamic_config_file = "{rules}"
c.TraefikFileProviderProxy.traefik_api_url = "http://127.0.0.1:{api_port}"
c.TraefikFileProviderProxy.traefik_api_username = "hub"
c.TraefikFileProviderProxy.traefik_api_password = "{password}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "jupyterhub.spawner.SimpleLocalProcessSpawner"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home/{{username}}"
c.Spawner.cmd = ["{python}", "{server}"]
c.Spawner.default_url = "/lab"
"""


@dataclass
class PlainHub:
    """A JupyterHub without anything of ours."""

    url: str
    log: Path

    def login(self) -> httpx.Client:
        """A browser in which somebody is logged in."""
        browser = httpx.Client(base_url=self.url, follow_redirects=True, timeout=SECONDS)
        page = browser.get("/hub/login")
        token = re.search(r'name="_xsrf"\s+value="([^"]+)"', page.text)
        form = {"username": PLAIN, "password": "any", "_xsrf": token[1] if token else ""}
        browser.post("/hub/login?next=/hub/home", data=form).raise_for_status()
        return browser


@contextmanager
def plain_hub(folder: Path, python: Path) -> Iterator[PlainHub]:
    """It runs."""
    plan = HubPlan(folder)
    config = folder / "config.py"
    config.write_text(
        PLAIN_CONFIG.format(
            url=plan.url,
            hub_port=plan.hub_port,
            api_port=plan.api_port,
            folder=folder,
            rules=plan.rules,
            password=(folder / "proxy_password").read_text(),
            python=python,
            server=python.parent / "jupyterhub-singleuser",
        )
    )
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    argv = [sys.executable, "-m", "jupyterhub", "--config", str(config)]
    with (
        proxy_daemon(plan),
        Daemon("plain hub", argv, folder / "hub.log", env=env, cwd=folder) as hub,
    ):
        hub.wait_until(lambda: hub_serves(plan), SECONDS)
        yield PlainHub(plan.url, hub.log)
        hub.stop(grace=SECONDS)


def image_python() -> Path:
    """The Python of the image that both sessions run in."""
    return CHECKOUT / ".images" / IMAGE / "bin" / "python"


def lab_of(browser: httpx.Client, user: str) -> Callable[[], bool]:
    """Whether JupyterLab's page is there."""

    def serves() -> bool:
        lab = browser.get(f"/user/{user}/lab")
        return (
            lab.status_code == 200
            and lab.url.path.startswith(f"/user/{user}/lab")
            and "jupyter-config-data" in lab.text
        )

    return serves


def await_lab(browser: httpx.Client, user: str) -> float:
    """When JupyterLab's page was there."""
    if not comes_true(lab_of(browser, user), SECONDS, PAUSE_SECONDS):
        raise TimeoutError(f"no JupyterLab of {user} within {SECONDS} s")
    return time.time()


def ours(place: Place) -> dict[str, Any]:
    """Log in by the IAM, choose, wait for JupyterLab; the session ends again."""
    began = time.time()
    with closing(sign_in(place.facts["url"], USER)) as browser:
        logged_in = time.time()
        browser.get(f"/hub/spawn/{USER}").raise_for_status()
        form = {"image": IMAGE, "size": "small"}
        browser.post(f"/hub/spawn/{USER}", headers=xsrf_headers(browser), data=form).raise_for_status()
        asked = time.time()
        ended = await_lab(browser, USER)
        log = Path(place.facts["folder"], "hub", "log", f"session-{USER}.log").read_text()
        check.stop_session(browser, USER)
    passed = {"logged in": logged_in, "the choice is answered": asked, "JupyterLab's page is there": ended}
    return {"began": began, "ended": ended, "passed": passed | stamps.first(stamps.lines(log), SESSION)}


def plain(hub: PlainHub) -> dict[str, Any]:
    """Log in, ask for a server, wait for JupyterLab; the server ends again."""
    began = time.time()
    with closing(hub.login()) as browser:
        logged_in = time.time()
        browser.post(f"/hub/spawn/{PLAIN}", headers=xsrf_headers(browser)).raise_for_status()
        asked = time.time()
        ended = await_lab(browser, PLAIN)
        check.stop_session(browser, PLAIN)
    passed = {"logged in": logged_in, "the choice is answered": asked, "JupyterLab's page is there": ended}
    lines = [line for line in stamps.lines(hub.log.read_text()) if line[0] >= began]
    return {"began": began, "ended": ended, "passed": passed | stamps.first(lines, SESSION)}


def hops(run: dict[str, Any]) -> dict[str, float]:
    """Milestones, seconds after the browser's first request."""
    return stamps.since(run["began"], run["passed"])
