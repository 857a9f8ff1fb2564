"""A real hub whose sessions are pods, without the rest of a facility, and one person who uses it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from af_hub.demo.ground import prepare
from af_hub.errors import Unavailable
from af_hub.testing.hub import FACILITY, RealHub
from af_hub.testing.kube_cluster import KubeCluster
from af_hub.testing.kube_node import GATEWAY
from af_hub.testing.process import comes_true
from af_hub.testing.require import unavailable

NAMESPACE = "af-spawner"
# Whoever asks for a session is answered at once, and told the rest by the progress.
EXTRA = """
c.JupyterHub.tornado_settings.update({"slow_spawn_timeout": 0})
c.JupyterHub.cleanup_servers = False
c.JupyterHub.allow_named_servers = True
c.Spawner.poll_interval = 2
c.AFSpawner.start_timeout = 240
c.AFSpawner.agent_resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
c.AFSpawner.guaranteed_share = 0.1
"""
MORE_IMAGES = """
  missing: {title: Missing, container: af-hub.test/there-is-none:1}
  no-server: {title: No server, container: af-hub.test/agent:1}
"""


def facility(folder: Path) -> Path:
    """The demo's policy with images that cannot be sessions, and nobody asked about images."""
    text = FACILITY.read_text().replace("images: [python-analysis,", "images: [python-analysis, missing, no-server,")
    text = text.replace("\nimages:\n", "\nimages:" + MORE_IMAGES)
    if "registries:" not in text:
        text += "\nregistries: {af-hub.test: {address: ''}}\n"
    path = folder / "facility.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def pod_hub(kube: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    folder = tmp_path_factory.mktemp("s")
    try:
        for image in ("agent", "python-analysis"):
            kube.push(image)
        pods = replace(prepare(kube, folder, NAMESPACE), more=EXTRA)
        with RealHub(
            folder / "hub",
            environ={**pods.environment(), "AF_REGISTRY": ""},
            extra_config=pods.configuration(f"http://{GATEWAY}:1"),
            facility=facility(folder),
            address=GATEWAY,
        ) as hub:
            yield hub
    except Unavailable as error:
        unavailable(str(error))


class Analyst:
    """One person, and the cluster as its administrator sees it."""

    def __init__(self, hub: RealHub, kube: KubeCluster, username: str = "cms-analyst") -> None:
        self.hub, self.kube, self.username = hub, kube, username
        self.browser = hub.login(username)
        self.api = hub.api(hub.token_for(username))

    def ask(self, server: str = "", **choice: Any) -> httpx.Response:
        where = f"servers/{server}" if server else "server"
        return self.api.post(f"/users/{self.username}/{where}", json=choice, timeout=60)

    def follow(self, server: str = "", timeout: float = 150) -> list[dict[str, Any]]:
        """What the page shows while it starts."""
        where = f"servers/{server}" if server else "server"
        events = []
        with self.api.stream("GET", f"/users/{self.username}/{where}/progress", timeout=timeout) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    events.append(json.loads(line.removeprefix("data:")))
        return events

    def start(self, server: str = "", **choice: Any) -> list[dict[str, Any]]:
        answer = self.ask(server, **choice)
        assert answer.status_code in (201, 202), answer.text
        events = self.follow(server)
        assert events[-1].get("ready"), events
        return events

    def refused(self, **choice: Any) -> str:
        """What is said of a session that does not come up."""
        answer = self.ask(**choice)
        said = answer.json()["message"] if answer.status_code >= 400 else self.follow()[-1]["message"]
        assert comes_true(lambda: "" not in self.servers(), 60, pause=0.3)
        return str(said)

    def servers(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/users/{self.username}").json()["servers"]
        return found

    def stop(self, server: str = "") -> None:
        where = f"servers/{server}" if server else "server"
        assert self.api.delete(f"/users/{self.username}/{where}", timeout=90).status_code in (202, 204, 400, 404)
        assert comes_true(lambda: server not in self.servers(), 90, pause=0.3)

    def get(self, kind: str, *names: str) -> Any:
        return json.loads(self.kube.kubectl("get", kind, *names, "-n", NAMESPACE, "-o", "json"))

    def names(self, kind: str) -> list[str]:
        found = [one["metadata"]["name"] for one in self.get(kind)["items"]]
        return [name for name in found if name.startswith(f"jupyter-{self.username}")]

    def run(self, code: str, pod: str = "", container: str = "notebook") -> str:
        name = pod or f"jupyter-{self.username}"
        return self.kube.kubectl("exec", "-n", NAMESPACE, name, "-c", container, "--", "python3", "-c", code)


@pytest.fixture
def analyst(pod_hub: RealHub, kube: KubeCluster) -> Iterator[Analyst]:
    person = Analyst(pod_hub, kube)
    yield person
    for server in list(person.servers()):
        person.stop(server)
