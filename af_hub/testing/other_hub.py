"""A real JupyterHub with a configuration that is not AF Hub's, behind a real proxy, whose people log in at the demo IAM.

For the tests of other hubs: their own ``jupyterhub_config.py`` is read as it is; what must be the test's own is set after it: ports,
database, cookie secret, and the proxy, which is traefik.

The configuration finds the IAM under oauthenticator's own names in its environment: ``OAUTH_CLIENT_ID``, ``OAUTH_CLIENT_SECRET``,
``OAUTH_CALLBACK_URL``, ``OAUTH2_AUTHORIZE_URL``, ``OAUTH2_TOKEN_URL``, ``OAUTH2_USERDATA_URL``, so that a plain ``GenericOAuthenticator``
needs no address at all. ``IAM_ISSUER`` and ``IAM_DISCOVERY`` are for the others.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from af_hub.files import write_private
from af_hub.testing.hub import CALLBACK, HubPlan, RealHub
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import Daemon

PLAIN_LOGIN = """
c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.scope = ["openid", "profile"]
c.GenericOAuthenticator.username_claim = "preferred_username"
c.GenericOAuthenticator.allow_all = True
"""
"""For a configuration of a test's own: everybody whom the demo IAM knows, by JupyterHub's usual means."""

OWN = """
load_subconfig({config!r})
c.JupyterHub.bind_url = {url!r}
c.JupyterHub.hub_bind_url = {hub_url!r}
c.JupyterHub.db_url = {database!r}
c.JupyterHub.cookie_secret_file = {cookie_secret!r}
c.JupyterHub.pid_file = ""
c.JupyterHub.cleanup_servers = True
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.should_start = False
c.TraefikFileProviderProxy.dynamic_config_file = {rules!r}
c.TraefikFileProviderProxy.traefik_api_url = {api_url!r}
c.TraefikFileProviderProxy.traefik_api_username = "hub"
c.TraefikFileProviderProxy.traefik_api_password = {password!r}
"""


class OtherHub(RealHub):
    """As :class:`~af_hub.testing.hub.RealHub`, with the configuration file ``config``.

    Parameters
    ----------
    environ
        Further variables for the configuration; they go before ours.
    address
        Where its sessions find the hub, when that is not this machine alone.
    """

    def __init__(
        self,
        folder: Path,
        iam: DemoIAM,
        config: Path,
        environ: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        super().__init__(folder, iam, environ, address=address)
        self._config, self._own = config, iam

    def _hub_daemon(self, environ: Mapping[str, str], extra: Path) -> Daemon:
        given = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": os.environ.get("HOME", "/"),
            **oauth_environment(self._own, self.plan),
            **environ,
        }
        # It holds a password, and so is private.
        config = write_private(self.plan.folder / "jupyterhub_config.py", own_settings(self.plan, self._config))
        argv = [sys.executable, "-m", "jupyterhub", "--config", str(config)]
        return Daemon("hub", argv, self.plan.folder / "hub.log", env=given, cwd=self._config.parent)


def oauth_environment(iam: DemoIAM, plan: HubPlan) -> dict[str, str]:
    """How the configuration finds the IAM, and what its client there is."""
    return {
        "OAUTH_CLIENT_ID": plan.client_id,
        "OAUTH_CLIENT_SECRET": plan.client_secret,
        "OAUTH_CALLBACK_URL": plan.url + CALLBACK,
        "OAUTH2_AUTHORIZE_URL": iam.url + "authorize",
        "OAUTH2_TOKEN_URL": iam.url + "token",
        "OAUTH2_USERDATA_URL": iam.url + "userinfo",
        "IAM_ISSUER": iam.issuer,
        "IAM_DISCOVERY": iam.discovery,
    }


def own_settings(plan: HubPlan, config: Path) -> str:
    """A configuration file that reads ``config`` and then sets what must be the test's own."""
    return OWN.format(
        config=str(config.absolute()),
        url=plan.url,
        hub_url=f"http://{plan.address}:{plan.hub_port}",
        database=f"sqlite:///{plan.folder / 'jupyterhub.sqlite'}",
        cookie_secret=str(plan.folder / "cookie_secret"),
        rules=str(plan.rules),
        api_url=f"http://127.0.0.1:{plan.api_port}",
        password=(plan.folder / "proxy_password").read_text().strip(),
    )
