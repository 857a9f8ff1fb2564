"""Wires the hub's classes together; who may do what stands in facility.yaml.

Everything that differs between places comes from the environment, and secrets from files of mode 0600 that it names:

============================ ===========================================================================================================
AF_PUBLIC_URL                what people type, with its slash: ``https://hub.example.org/``
AF_STATE_DIR                 folder of mode 0700 for the hub's databases and cookie secret
AF_FACILITY_FILE             ``facility.yaml``; the environment also holds what its ``${NAME}`` name, such as AF_IAM_DISCOVERY, AF_IMAGES
AF_IAM_CLIENT_ID             the hub's client at the IAM; its redirect URI there is ``<AF_PUBLIC_URL>hub/oauth_callback``
AF_IAM_CLIENT_SECRET_FILE    its secret
AF_CRYPT_KEY_FILE            keys of 32 bytes in hex, one a line; the first one seals tokens, all of them open; ``af-hub keys new`` makes it
AF_CONTROLLER_URL            where the proxy finds the controller: ``http://127.0.0.1:8500``
AF_CONTROLLER_TOKEN_FILE     its token at the hub
AF_HUB_URL                   where the hub itself listens and the proxy finds it: ``http://127.0.0.1:8081``
AF_HUB_BIND_URL              where it listens, when that is not where it is found: ``http://0.0.0.0:8081`` in a pod; optional
AF_PROXY_API_URL             traefik's own API, seen by nobody but the hub: ``http://127.0.0.1:8099``
AF_PROXY_PASSWORD_FILE       password of that API, which the hub sets and traefik reads from the rules
AF_PROXY_RULES_FILE          the file of routes (``.toml``) that the hub writes and traefik watches
AF_PROXY_STORE_URL           in the place of that file, where hub and proxy share no disk: a Redis, ``redis://routes:6379``
AF_PROXY_STORE_PASSWORD_FILE its password
AF_SPAWNER                   the spawner's class; ``af_hub.spawner.LocalAFSpawner`` when unset
AF_EXTRA_CONFIG              a further file like this one, read last; optional
============================ ===========================================================================================================
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import bcrypt
from jupyterhub.app import JupyterHub

from af_hub.authenticator import ADMINS, IAMAuthenticator
from af_hub.away import PROXY_READY, proxy_rules
from af_hub.errors import PolicyError
from af_hub.files import private_folder
from af_hub.policy.load import policy_file
from af_hub.tokens.endpoint import PEOPLE_READ, TOKEN_CONDOR, TOKEN_READ, TOKEN_STORAGE
from af_hub.tokens.keys import read_keys
from af_hub.tokens.me import ME_READ
from af_hub.tokens.own_pool import TOKEN_POOL

c = get_config()  # noqa: F821


def secret(name: str) -> str:
    """The content of the file that the environment variable ``name`` names."""
    return Path(os.environ[name]).read_text().strip()


state, public_url = Path(os.environ["AF_STATE_DIR"]).absolute(), os.environ["AF_PUBLIC_URL"]

private_folder(state)
(state / "jupyterhub.sqlite").touch(mode=0o600)  # SQLite itself would let everybody read it

c.JupyterHub.bind_url = c.JupyterHub.public_url = public_url
c.JupyterHub.hub_bind_url = os.environ.get("AF_HUB_BIND_URL") or os.environ["AF_HUB_URL"]
c.JupyterHub.hub_connect_url = os.environ["AF_HUB_URL"]
c.JupyterHub.db_url = f"sqlite:///{state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.pid_file = ""

# Pages: JupyterHub's own, with what stands in templates/ laid over them
try:
    policy = policy_file(os.environ["AF_FACILITY_FILE"])
except PolicyError as error:
    sys.exit(f"The hub does not start without a policy.\n{error}")
c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
c.JupyterHub.template_vars = {
    "facility": lambda _user: policy.current().facility,
    "issuers": lambda _user: policy.current().issuers,
    "notices": lambda user: authenticator().notices(user),
}


def authenticator() -> IAMAuthenticator:
    """The hub's authenticator, which is made after this file was read."""
    return JupyterHub.instance().authenticator


# Login
c.JupyterHub.authenticator_class = IAMAuthenticator
c.IAMAuthenticator.policy_file = os.environ["AF_FACILITY_FILE"]
c.IAMAuthenticator.client_id = os.environ["AF_IAM_CLIENT_ID"]
c.IAMAuthenticator.client_secret_file = os.environ["AF_IAM_CLIENT_SECRET_FILE"]
c.IAMAuthenticator.oauth_callback_url = public_url + "hub/oauth_callback"
c.IAMAuthenticator.database = str(state / "keeper.sqlite")
try:
    c.CryptKeeper.keys = read_keys(Path(os.environ["AF_CRYPT_KEY_FILE"]))
except PolicyError as error:
    sys.exit(f"The hub does not start without keys.\n{error}")

# Sessions
c.JupyterHub.spawner_class = os.environ.get("AF_SPAWNER", "af_hub.spawner.LocalAFSpawner")
c.JupyterHub.cleanup_servers = False

# The proxy runs by itself: neither a restart of the hub nor its end takes anybody's connection away.
c.JupyterHub.cleanup_proxy = False
c.TraefikProxy.should_start = False
c.TraefikProxy.traefik_api_url = os.environ["AF_PROXY_API_URL"]
c.TraefikProxy.traefik_api_username = "hub"
c.TraefikProxy.traefik_api_password = secret("AF_PROXY_PASSWORD_FILE")
# traefik compares the password at each request of the hub. It is random, so that the least cost of bcrypt (4) is enough.
c.TraefikProxy.traefik_api_hashed_password = bcrypt.hashpw(
    secret("AF_PROXY_PASSWORD_FILE").encode(), bcrypt.gensalt(4)
).decode()
# While the controller is down, the proxy asks the hub what to say of it.
rules = proxy_rules(urlsplit(public_url).path, os.environ["AF_CONTROLLER_URL"], os.environ["AF_HUB_URL"])
c.TraefikProxy.extra_dynamic_config = rules
if store := os.environ.get("AF_PROXY_STORE_URL"):
    c.JupyterHub.proxy_class = "traefik_redis"
    rules["http"]["routers"]["af-ready"] = PROXY_READY
    c.TraefikRedisProxy.redis_url = store
    c.TraefikRedisProxy.redis_password = secret("AF_PROXY_STORE_PASSWORD_FILE")
    c.TraefikRedisProxy.redis_client_kwargs = {"socket_timeout": 5, "socket_connect_timeout": 5}
else:
    c.JupyterHub.proxy_class = "traefik_file"
    c.TraefikFileProviderProxy.dynamic_config_file = os.environ["AF_PROXY_RULES_FILE"]

# The controller, an external service: it lives on when the hub ends.
ACCESS_CONTROLLER = "access:services!service=af-controller"
c.JupyterHub.services = [
    {
        "name": "af-controller",
        "url": os.environ["AF_CONTROLLER_URL"],
        "api_token": secret("AF_CONTROLLER_TOKEN_FILE"),
        "oauth_no_confirm": True,
        "display": False,  # templates/page.html has a link with a name for people
        "timeout": 1,  # seconds that the hub waits for it at its own start; it may well be down
    }
]
c.JupyterHub.extra_user_scopes = {ACCESS_CONTROLLER, ME_READ, TOKEN_READ, TOKEN_POOL}
c.JupyterHub.load_roles = [
    {"name": "af-controller", "scopes": [TOKEN_CONDOR, TOKEN_STORAGE, PEOPLE_READ], "services": ["af-controller"]},
    # Rights by role, never the admin flag: admin:users would open everybody's account. The authenticator fills the group.
    {
        "name": "af-admin",
        "scopes": [
            "admin-ui",
            "list:users",
            "list:services",
            "read:users:activity",
            "servers",
            "read:metrics",
            "read:hub",
        ],
        "groups": [ADMINS],
    },
]

if extra := os.environ.get("AF_EXTRA_CONFIG"):
    load_subconfig(extra)  # noqa: F821
