"""Ways round the choice: each is refused by AF Hub's spawner with a sentence, and each works on plain KubeSpawner 7.1.0.

Both hubs are real; the Kubernetes behind them is a small one that only says what it was asked for. The plain one is set up as manuals
suggest: one profile, an image of the user's own where a pattern matches.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import yaml

from af_hub.errors import Unavailable
from af_hub.testing.browser import xsrf_headers
from af_hub.testing.fake_kube import FakeKube
from af_hub.testing.fake_registry import FakeRegistry
from af_hub.testing.hub import FACILITY, RealHub
from af_hub.testing.iam import DemoIAM, in_thread
from af_hub.testing.other_hub import OtherHub
from af_hub.testing.process import comes_true
from af_hub.testing.registry import make_image
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

USER = "cms-analyst"
EVIL = "evil.test/miner:1"
GOOD = "good.test/cms/lab:1"
LISTED = "af-hub.test/python-analysis:1"
CARELESS = "^good.test/cms.*:[0-9]+$"
"""As admins write them: the dot is any character, the folder has no end, and ``$`` lets a line break pass."""
CAREFUL = r"good\.test/cms/.*:[0-9]+"

PLAIN = """
import json
from pathlib import Path

c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.scope = ["openid", "profile"]
c.GenericOAuthenticator.username_claim = "preferred_username"
c.GenericOAuthenticator.allow_all = True
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.namespace = "sessions"
c.KubeSpawner.port = {port}
c.KubeSpawner.delete_grace_period = 0


def profiles(_spawner):
    unlisted = {{"display_name": "Another", "kubespawner_override": {{"image": "{{value}}"}}, **json.loads(Path({choice!r}).read_text())}}
    choices = {{"base": {{"display_name": "Base", "kubespawner_override": {{"image": {listed!r}}}}}}}
    image = {{"display_name": "Image", "choices": choices, "unlisted_choice": unlisted}}
    return [{{"display_name": "Default", "slug": "d", "default": True, "profile_options": {{"image": image}}}}]


c.KubeSpawner.profile_list = profiles
"""
OURS = """
c.JupyterHub.cleanup_servers = True
c.AFSpawner.namespace = "sessions"
c.AFSpawner.port = {port}
c.AFSpawner.agent_image = "af-hub.test/agent:1"
c.AFSpawner.delete_grace_period = 0
"""


@dataclass(eq=False)
class Person:
    """One person at a hub whose pods are those of ``kube``."""

    hub: RealHub
    kube: FakeKube
    username: str = USER
    withdraw: Any = None
    registry: FakeRegistry = field(default_factory=FakeRegistry)

    def __post_init__(self) -> None:
        self.browser = self.hub.login(self.username)
        self.api = self.hub.api(self.hub.token_for(self.username))

    def send(self, request: "Request") -> httpx.Response:
        """The same request to whichever hub it is."""
        if request.kind == "api":
            return self.api.post(f"/users/{self.username}/server", content=json.dumps(request.body))
        if request.kind == "saved":
            return self.api.post(f"/users/{self.username}/server")
        if request.kind == "link":
            strange = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Referer": "https://evil.test/"}
            return self.browser.get("/hub/spawn", params=request.body, headers=strange)
        self.browser.get("/hub/spawn")
        return self.browser.post("/hub/spawn", data=request.body, headers=xsrf_headers(self.browser))

    def stop(self) -> None:
        """End the session, if there is one, and wait until it is gone."""

        def gone() -> bool:
            if not self.api.get(f"/users/{self.username}").json()["servers"]:
                return True
            self.api.delete(f"/users/{self.username}/server")
            return False

        assert comes_true(gone, 30), "the session does not end"


@dataclass(frozen=True)
class Request:
    """``api`` (POST with a body), ``saved`` (POST without), ``link`` (GET from another site) or ``form``."""

    kind: str
    body: Any = None


@pytest.fixture(scope="module")
def plain(iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    folder = tmp_path_factory.mktemp("plain")
    choice = folder / "choice.json"
    choice.write_text(json.dumps({"enabled": True, "validation_regex": CARELESS}))
    with ExitStack() as stack:
        kube = stack.enter_context(in_thread(FakeKube()))
        config = folder / "config" / "jupyterhub_config.py"
        config.parent.mkdir()
        config.write_text(PLAIN.format(port=kube.server_port, choice=str(choice), listed=LISTED))
        hub = start(stack, OtherHub(folder / "h", iam, config, {"KUBECONFIG": str(kube.kubeconfig(folder))}))
        yield Person(hub, kube, withdraw=lambda: choice.write_text('{"enabled": false}'))


@pytest.fixture(scope="module")
def ours(iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    folder = tmp_path_factory.mktemp("ours")
    with ExitStack() as stack:
        kube = stack.enter_context(in_thread(FakeKube()))
        registry = stack.enter_context(in_thread(FakeRegistry({("cms/lab", "1"): make_image()})))
        facility = folder / "facility.yaml"
        facility.write_text(policy(registry.url, [CAREFUL]))
        environ = {"AF_SPAWNER": "af_hub.spawner.AFSpawner", "KUBECONFIG": str(kube.kubeconfig(folder))}
        extra = OURS.format(port=kube.server_port)
        hub = start(stack, RealHub(folder / "h", iam, environ, extra, facility=facility))
        yield Person(hub, kube, withdraw=lambda: facility.write_text(policy(registry.url, [])), registry=registry)


def start(stack: ExitStack, hub: RealHub) -> RealHub:
    try:
        return stack.enter_context(hub)
    except Unavailable as error:
        unavailable(str(error))


def policy(registry: str, own_images: list[str]) -> str:
    """The shipped one, with a pattern for the analysts' group, and no registry but one of ours."""
    found = yaml.safe_load(FACILITY.read_text())
    found["rules"][0]["own_images"] = own_images
    hosts = {"good.test": registry, "evil.test": registry, "af-hub.test": ""}
    found["registries"] = {host: {"address": address} for host, address in hosts.items()}
    return yaml.safe_dump(found)


OPTION = "image--unlisted-choice"
FORM = f"profile-option-d--{OPTION}"
ROWS = [
    pytest.param(
        Request("api", {OPTION: EVIL}),
        EVIL,
        [Request("api", {"image": EVIL}), Request("api", {"image": EVIL, "size": "small"})],
        "image-not-allowed",
        id="an image by REST without a profile",
    ),
    pytest.param(
        Request("api", {"profile": None, OPTION: EVIL}),
        EVIL,
        [Request("api", {"size": "small", "image": EVIL}), Request("form", {"image": EVIL, "size": "small"})],
        "image-not-allowed",
        id="an unlisted choice of the default profile",
    ),
    pytest.param(
        Request("api", {"profile": "d", OPTION: "good.test/cms-of-others/lab:1"}),
        "good.test/cms-of-others/lab:1",
        [
            Request("api", {"image": "good.test/cms-of-others/lab:1"}),
            Request("form", {"image": ":own", "own_image": "good.test/cms-of-others/lab:1", "size": "small"}),
        ],
        "image-not-allowed",
        id="a folder that begins like another",
    ),
    pytest.param(
        Request("api", {"profile": "d", OPTION: "goodxtest/cms/miner:1"}),
        "goodxtest/cms/miner:1",
        [Request("api", {"image": "goodxtest/cms/miner:1"}), Request("api", {"image": "good.test.evil.test/cms/a:1"})],
        "image-not-allowed",
        id="a dot that is any character",
    ),
    pytest.param(
        Request("api", {"profile": "d", OPTION: f"{GOOD}\n"}),
        f"{GOOD}\n",
        [
            Request("api", {"image": f"{GOOD}\n"}),
            Request("api", {"image": f"{EVIL}\n{GOOD}"}),
            Request("api", {"image": f"\n{GOOD}"}),
        ],
        "image-name",
        id="a line break",
    ),
    pytest.param(
        Request("api", {OPTION: [EVIL]}),
        f"['{EVIL}']",
        [Request("api", {"image": wrong}) for wrong in ([EVIL], {"image": EVIL}, 7, True, None)]
        + [Request("api", [EVIL]), Request("api", {"image": GOOD, "size": ["small"]})],
        "form",
        id="another type than text",
    ),
    pytest.param(
        Request("link", {"profile": "d", FORM: "good.test/cms-of-others/lab:1"}),
        "good.test/cms-of-others/lab:1",
        [
            Request("link", {"image": GOOD, "size": "small"}),
            Request("link", {"opt-image": GOOD}),
            Request("link", {"image": ":own", "own_image": GOOD}),
            Request("link", {"image": "python-base"}),
        ],
        "link",
        id="a link on another site",
    ),
]
SAYS = {
    "image-not-allowed": "is not one of those that you may type",
    "image-name": "is no name of an image",
    "form": "must be",
    "link": "A link does not choose for you",
}


@pytest.mark.parametrize("request_, image, others, reason", ROWS)
def test_it_works_on_plain_kubespawner(
    plain: Person, request_: Request, image: str, others: list[Request], reason: str
) -> None:
    before = len(plain.kube.asked)
    plain.send(request_)
    assert comes_true(lambda: len(plain.kube.asked) > before, 20), "no pod was asked for"
    assert plain.kube.images_asked()[before] == image
    plain.stop()


@pytest.mark.parametrize("request_, image, others, reason", ROWS)
def test_it_is_refused_here(ours: Person, request_: Request, image: str, others: list[Request], reason: str) -> None:
    """The same request, and what it would be in our form; nothing is asked of Kubernetes or of a registry."""
    for one in [request_, *others]:
        answer = ours.send(one)
        said = json.dumps(answer.json()) if one.kind in ("api", "saved") else answer.text
        assert answer.status_code in (400, 403), (one, answer.status_code, said)
        if one is not request_:
            assert SAYS[reason] in said or "is no object" in said, (one, said)
        assert "Traceback" not in said
    assert ours.kube.asked == [] == ours.registry.asked


def test_saved_options_outlive_the_policy_on_plain_kubespawner_only(plain: Person, ours: Person) -> None:
    """What was allowed once is saved; when the policy has withdrawn it, a start without a choice must not bring it back."""
    first = {plain: Request("api", {OPTION: GOOD}), ours: Request("api", {"image": GOOD, "size": "small"})}
    for person in (plain, ours):
        assert person.send(first[person]).status_code in (201, 202)
        assert comes_true(lambda person=person: running(person), 30)
        person.stop()
        person.withdraw()
    pinned = f"good.test/cms/lab@{make_image().digest}"
    assert ours.kube.images_asked() == [pinned], "what was proven is what starts"
    assert comes_true(lambda: "own_image" not in ours.browser.get("/hub/spawn").text, 10), (
        "the policy is not read again"
    )

    refused = ours.send(Request("saved"))
    assert refused.status_code == 403 and f"There is no image '{GOOD}'" in refused.json()["message"]
    assert ours.kube.images_asked() == [pinned]

    before = len(plain.kube.asked)
    plain.send(Request("saved"))
    assert comes_true(lambda: len(plain.kube.asked) > before, 20)
    assert plain.kube.images_asked()[before:] == [GOOD]
    plain.stop()


def running(person: Person) -> bool:
    return bool(person.api.get(f"/users/{person.username}").json()["servers"].get("", {}).get("ready"))
