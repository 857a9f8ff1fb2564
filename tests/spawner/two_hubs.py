"""Two real hubs whose sessions are pods of a Kubernetes that only says what it was asked for: AF Hub's, and plain KubeSpawner's.

The plain one is set up as manuals suggest: one profile, an image of the user's own where a pattern matches.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from af_hub.errors import Unavailable
from af_hub.testing.browser import xsrf_headers
from af_hub.testing.fake_kube import FakeKube
from af_hub.testing.fake_registry import FakeRegistry
from af_hub.testing.hub import FACILITY, RealHub
from af_hub.testing.iam import DemoIAM, in_thread
from af_hub.testing.other_hub import PLAIN_LOGIN, OtherHub
from af_hub.testing.process import comes_true
from af_hub.testing.registry import make_image
from af_hub.testing.require import unavailable

USER = "cms-analyst"
GOOD = "good.test/cms/lab:1"
LISTED = "af-hub.test/python-analysis:1"
CARELESS = "^good.test/cms.*:[0-9]+$"
"""As admins write them: the dot is any character, the folder has no end, and ``$`` lets a line break pass."""
LAB = make_image("1000", {"org.af-hub.jupyterhub": "6.1.1"})
CAREFUL = r"good\.test/cms/.*"

PLAIN = """
import json
from pathlib import Path

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
    allow: Callable[[bool], Any] = bool
    """Whether images may be typed, from now on."""
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


@contextmanager
def plain_hub(iam: DemoIAM, folder: Path) -> Iterator[Person]:
    """KubeSpawner as it comes."""
    choice = folder / "choice.json"

    def allow(wanted: bool) -> None:
        choice.write_text(json.dumps({"enabled": wanted, "validation_regex": CARELESS}))

    allow(True)
    with ExitStack() as stack:
        kube = stack.enter_context(in_thread(FakeKube()))
        config = folder / "config" / "jupyterhub_config.py"
        config.parent.mkdir()
        config.write_text(PLAIN_LOGIN + PLAIN.format(port=kube.server_port, choice=str(choice), listed=LISTED))
        hub = start(stack, OtherHub(folder / "h", iam, config, {"KUBECONFIG": str(kube.kubeconfig(folder))}))
        yield Person(hub, kube, allow=allow)


@contextmanager
def our_hub(iam: DemoIAM, folder: Path) -> Iterator[Person]:
    """AF Hub's configuration with the spawner of pods."""
    with ExitStack() as stack:
        kube = stack.enter_context(in_thread(FakeKube()))
        registry = stack.enter_context(in_thread(FakeRegistry({("cms/lab", "1"): LAB})))
        facility = folder / "facility.yaml"

        def allow(wanted: bool) -> None:
            facility.write_text(policy(registry.url, [CAREFUL] if wanted else []))

        allow(True)
        environ = {"AF_SPAWNER": "af_hub.spawner.AFSpawner", "KUBECONFIG": str(kube.kubeconfig(folder))}
        extra = OURS.format(port=kube.server_port)
        hub = start(stack, RealHub(folder / "h", iam, environ, extra, facility=facility))
        yield Person(hub, kube, allow=allow, registry=registry)


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


def running(person: Person) -> bool:
    """Whether the hub says that the session is ready."""
    return bool(person.api.get(f"/users/{person.username}").json()["servers"].get("", {}).get("ready"))
