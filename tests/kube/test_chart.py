"""The chart on a real cluster: put there, used, changed, taken back and away. What is rendered is tested in tests/chart.

The facility's own namespace enforces Pod Security "restricted" here, which the chart does not ask for.
"""

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from af_hub.errors import Unavailable
from af_hub.files import private_folder
from af_hub.testing.browser import sign_in, xsrf_headers
from af_hub.testing.hub import CALLBACK, iam_daemon
from af_hub.testing.kube_cluster import CommandFailed, KubeCluster
from af_hub.testing.kube_node import GATEWAY
from af_hub.testing.places import CONFIGURATION
from af_hub.testing.process import comes_true
from af_hub.testing.require import unavailable

pytestmark = [pytest.mark.kube, pytest.mark.more, pytest.mark.timeout(900)]

CHART = CONFIGURATION / "kubernetes"
IMAGES = ("hub", "controller", "forwarder", "proxy")
PARTS = ("controller", "forwarder", "hub", "proxy", "routes")
SESSIONS = "af-chart-sessions"
CLASS = "af-chart"
PORT = 30080
ADDRESS = f"http://{GATEWAY}:{PORT}/"
CLIENT_SECRET = "of the test alone"
WAIT_SECONDS = 150
KEPT = {"af-hub-keys", "af-hub-iam"}


@dataclass
class Installed:
    """A release of the chart in a namespace of its own."""

    kube: KubeCluster
    namespace: str
    values: dict[str, Any]
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def helm(self, what: str, *arguments: str, values: dict[str, Any] | None = None) -> str:
        """``helm what af-hub …``, timed; with the release's values and these over them."""
        given = [f"--set-json={name}={json.dumps(value)}" for name, value in (self.values | (values or {})).items()]
        argv = [what, "af-hub", *arguments, f"--namespace={self.namespace}"]
        if what in ("install", "upgrade"):
            argv += [str(CHART), *given]
        begun = time.monotonic()
        try:
            return self.kube.helm(*argv, "--wait", f"--timeout={WAIT_SECONDS}s", timeout=3 * WAIT_SECONDS)
        except CommandFailed as error:
            raise AssertionError(f"{error}\n{self.story()}") from error
        finally:
            self.seconds[what] = round(time.monotonic() - begun, 1)

    def story(self) -> str:
        """What the pods say; for a test that fails."""
        with suppress(CommandFailed):
            pods = self.kube.kubectl("get", "pods", "-n", self.namespace, "-o", "wide")
            events = self.kube.kubectl("get", "events", "-n", self.namespace, "--sort-by=.lastTimestamp")
            return "\n".join([pods, events[-4000:], *(f"--- {part}\n{self.log(part)}" for part in (*PARTS, "keys"))])
        return "the cluster says nothing more"

    def log(self, part: str) -> str:
        """The last lines of a part's pods."""
        try:
            told = f"app.kubernetes.io/name={part}"
            return self.kube.kubectl(
                "logs", "-n", self.namespace, f"--selector={told}", "--all-containers", "--tail=25", "--prefix"
            )
        except CommandFailed as error:
            return str(error)

    def find(self, kind: str, *names: str) -> Any:
        """Objects of the release's namespace."""
        return json.loads(self.kube.kubectl("get", kind, *names, "-n", self.namespace, "-o", "json"))

    def names(self, kind: str) -> set[str]:
        """Of everything of this kind there."""
        return {one["metadata"]["name"] for one in self.find(kind)["items"]}

    def pods(self) -> dict[str, str]:
        """The uid of each part's pod that is not about to end."""
        return {
            one["metadata"]["labels"]["app.kubernetes.io/name"]: one["metadata"]["uid"]
            for one in self.find("pods")["items"]
            if "deletionTimestamp" not in one["metadata"]
        }

    def keys(self) -> dict[str, str]:
        """What the keys' Secret holds."""
        data = self.find("secret", "af-hub-keys")["data"]
        return {name: base64.b64decode(text).decode() for name, text in data.items()}

    def kill(self, part: str) -> None:
        """As when its node breaks off: without a word. Another pod is there afterwards, and does not serve yet."""
        old = self.pods()[part]
        self.kube.kubectl("delete", "pod", *self._pods_of(part), "--force", "--grace-period=0")
        until(lambda: self.pods().get(part, old) != old, f"another pod of {part}")

    def until_ready(self, part: str) -> float:
        """Seconds until the pod that is there is ready."""
        begun = time.monotonic()
        wait = ["wait", "pod", *self._pods_of(part), "--for=condition=Ready", f"--timeout={WAIT_SECONDS}s"]
        self.kube.kubectl(*wait, timeout=WAIT_SECONDS + 10)
        return round(time.monotonic() - begun, 1)

    def _pods_of(self, part: str) -> list[str]:
        return ["-n", self.namespace, f"--selector=app.kubernetes.io/name={part}"]


def volume(namespace: str, name: str, folder: Path) -> dict[str, Any]:
    """A volume for one claim of the chart; the cluster makes none by itself."""
    folder.mkdir()
    folder.chmod(0o770)
    os.chown(folder, 0, 100)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "claimRef": {"namespace": namespace, "name": name},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
        },
    }


def told(kube: KubeCluster, discovery: str) -> dict[str, Any]:
    """The values of the release."""
    storage = {f"{part}.persistence.storageClass": CLASS for part in ("hub", "controller", "routes")}
    environment = {"AF_IAM_DISCOVERY": discovery, "AF_REGISTRY": kube.registry}
    return {
        **storage,
        **{f"facility.environment.{name}": value for name, value in environment.items()},
        "publicURL": ADDRESS,
        "iam.clientID": "af-hub",
        "iam.clientSecret.name": "af-hub-iam",
        "proxy.service": {"type": "NodePort", "nodePort": PORT},
        "sessions.namespace": SESSIONS,
        "hub.config": {"AFSpawner": {"home_volume": {"emptyDir": {}}}},
    }


@pytest.fixture
def release(kube: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Everything that the chart wants to find; nothing of it is installed yet."""
    folder = private_folder(tmp_path_factory.mktemp("chart"))
    folder.chmod(0o711)
    with ExitStack() as stack:
        try:
            for image in IMAGES:
                kube.push(image)
        except Unavailable as reason:
            unavailable(str(reason))
        client = {"client_id": "af-hub", "client_secret": CLIENT_SECRET, "redirect_uris": [ADDRESS + CALLBACK]}
        iam = iam_daemon(folder, [client], address=GATEWAY)
        stack.callback(iam.stop)
        discovery = iam.start().ready()["discovery"]
        namespace = stack.enter_context(kube.namespace("chart", enforce="restricted"))
        secret = folder / "client-secret"
        secret.write_text(CLIENT_SECRET)
        kube.kubectl(
            "create", "secret", "generic", "af-hub-iam", "-n", namespace, f"--from-file=client-secret={secret}"
        )
        volumes = [volume(namespace, part, folder / part) for part in ("hub", "controller", "routes")]
        kube.apply(*volumes)
        stack.callback(kube.kubectl, "delete", "pv", *[one["metadata"]["name"] for one in volumes], "--wait=false")
        stack.callback(kube.kubectl, "delete", "namespace", SESSIONS, "--ignore-not-found", "--wait=false")
        installed = Installed(kube, namespace, told(kube, discovery), folder)
        stack.callback(gone, installed)
        yield installed
        print(f"seconds: {installed.seconds}")


def gone(installed: Installed) -> None:
    """Take the release away, if it is there."""
    with suppress(AssertionError):
        installed.helm("uninstall")


def answers(path: str, *, browser: httpx.Client | None = None) -> int:
    """The status of what people see there; 0 when nobody takes the connection."""
    try:
        ask = browser.get if browser else httpx.get
        return ask(ADDRESS + path, timeout=10).status_code
    except httpx.TransportError:
        return 0


def until(wanted: Callable[[], bool], what: str) -> float:
    """Seconds until it is so."""
    begun = time.monotonic()
    assert comes_true(wanted, WAIT_SECONDS), what
    return round(time.monotonic() - begun, 1)


def test_installed_used_changed_taken_back_and_away(release: Installed) -> None:
    release.helm("install")
    assert set(release.pods()) == set(PARTS) and not release.names("job")
    first, keys = release.pods(), release.keys()
    assert answers("hub/health") == 200 and answers("services/af-controller/api/health") == 200
    browser = sign_in(ADDRESS, "cms-analyst")
    assert answers("hub/home", browser=browser) == 200
    release.seconds["hub is back"] = killed_hub_cuts_nobody(release, browser)

    wrong = release.values | {"facility.yaml": "version: 1\nfacility: {}\n"}
    with pytest.raises(AssertionError, match="pre-upgrade hooks failed"):
        release.helm("upgrade", values=wrong)
    assert answers("hub/home", browser=browser) == 200 and release.pods()["proxy"] == first["proxy"]

    before = release.pods()
    release.helm("upgrade", values={"hub.config": {"JupyterHub": {"active_server_limit": 7}}, "keys.numbers.crypt": 2})
    assert answers("hub/home", browser=browser) == 200, "still logged in, with keys of another Secret and a new hub"
    changed = {name for name, text in release.keys().items() if keys[name] != text}
    assert changed == {"crypt_key"} and release.keys()["crypt_key"].split()[1:] == keys["crypt_key"].split()
    after = release.pods()
    assert not set(before.values()) & set(after.values())

    release.helm("rollback", "1")
    assert answers("hub/home", browser=browser) == 200
    assert len(release.keys()["crypt_key"].split()) == 2, "a rollback brings no old key back"

    release.helm("uninstall")
    assert until(lambda: not release.names("pods"), "all pods have gone") < WAIT_SECONDS
    kinds = ("deployment", "service", "configmap", "serviceaccount", "role", "rolebinding", "networkpolicy", "job")
    left = {kind: release.names(kind) - {"kube-root-ca.crt", "default"} for kind in kinds}
    assert left == {kind: set() for kind in kinds}
    assert {name for name in release.names("secret") if not name.startswith("sh.helm")} == KEPT
    assert release.names("persistentvolumeclaim") == {"hub", "controller", "routes"}
    assert SESSIONS in release.kube.kubectl("get", "namespace", SESSIONS)


def killed_hub_cuts_nobody(release: Installed, browser: httpx.Client) -> float:
    """While there is no hub the proxy goes on; seconds until there is one again, for whoever was logged in."""
    release.kill("hub")
    until(lambda: answers("hub/health") in (0, 502, 503, 504), "there is no hub for a while")
    assert answers("services/af-controller/api/health") == 200
    return until(lambda: answers("hub/home", browser=browser) == 200, "the hub is back")


@pytest.mark.long
def test_each_part_comes_back_and_a_session_does_not_notice(release: Installed) -> None:
    for image in ("agent", "python-base"):
        release.kube.push(image)
    release.helm("install", values={"images.agent": "af-hub.test/agent:1"})
    browser = sign_in(ADDRESS, "cms-analyst")
    headers = xsrf_headers(browser)
    asked = browser.post(
        "/hub/api/users/cms-analyst/server", json={"image": "python-base", "size": "small"}, headers=headers
    )
    assert asked.status_code in (201, 202), asked.text
    server = "user/cms-analyst/"

    def serves() -> bool:
        return answers(server + "api/status", browser=browser) == 200

    def opened() -> bool:
        answers(server + "lab", browser=browser)  # the server knows its owner by this visit's cookie
        return serves()

    def pod() -> str:
        told = release.kube.kubectl(
            "get",
            "pods",
            "-n",
            SESSIONS,
            "-o",
            "jsonpath={.items[*].metadata.uid} {.items[*].status.containerStatuses[*].restartCount}",
        )
        return told.strip()

    release.seconds["session"] = until(opened, "the session serves")
    same = pod()
    for part in PARTS:
        release.kill(part)
        if part not in ("proxy",):
            assert serves(), f"the session answers while there is no {part}"
        release.seconds[f"{part} is back"] = release.until_ready(part)
        until(serves, f"the session serves after {part} came back")
    # With nobody to ask, a new proxy has its routes from the store.
    release.kube.kubectl("scale", "deployment/hub", "--replicas=0", "-n", release.namespace)
    until(lambda: answers("hub/health") in (502, 503), "no hub")
    release.kill("proxy")
    release.seconds["proxy without hub"] = release.until_ready("proxy")
    until(serves, "a new proxy knows the session's route")
    release.kube.kubectl("scale", "deployment/hub", "--replicas=1", "-n", release.namespace)
    until(lambda: answers("hub/home", browser=browser) == 200, "the hub is back")
    release.helm(
        "upgrade",
        values={"images.agent": "af-hub.test/agent:1", "keys.numbers": {"proxy": 2, "store": 2, "controller": 2}},
    )
    until(serves, "the session serves after all parts began anew with new passwords")
    release.helm("rollback", "1")
    until(serves, "the session serves after a rollback")
    assert pod() == same, "it is the same pod, and nothing in it was started anew"
    assert browser.delete("/hub/api/users/cms-analyst/server", headers=headers).status_code in (202, 204)
    until(lambda: not pod(), "the session has ended")
