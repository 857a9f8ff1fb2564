"""``python -m tests.bench.pods``, as ``make bench-pods`` runs it: login to JupyterLab with sessions as pods, beside plain KubeSpawner.

Runs as root in a machine of its own (:mod:`af_hub.testing.kube_machine`). Two hubs, one cluster, one demo IAM: AF Hub with its policy, image
proof and session agent; JupyterHub with GenericOAuthenticator and KubeSpawner 7.1.0, whose pods have the same image, resources, kind of home
and security context. Images are on the nodes before. In turns; the first round is not counted.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from af_hub.demo import check
from af_hub.demo.ground import HOME_CLASS, HOME_SIZE, fetch_images, prepare
from af_hub.demo.pods import GUARANTEED_SHARE, PodSessions
from af_hub.spawning.pod import NOTEBOOK
from af_hub.testing.browser import sign_in, xsrf_headers
from af_hub.testing.hub import RealHub
from af_hub.testing.iam import DemoIAM, in_thread
from af_hub.testing.iam_oauth import read_users
from af_hub.testing.kube_cluster import KubeCluster
from af_hub.testing.kube_node import GATEWAY
from af_hub.testing.other_hub import PLAIN_LOGIN, OtherHub
from af_hub.testing.places import USERS
from tests.bench import machine, stamps
from tests.bench.facility import CHECKOUT, IMAGE, USER
from tests.bench.figures import Ratio, describe_hops, describe_ratios, describe_rounds
from tests.bench.logins import await_lab
from tests.bench.pod_watch import Heard, listening, logged, milestones
from tests.bench.turns import in_turns, times

PAGES = CHECKOUT / "docs" / "_figures"
NAMESPACE = "af-bench"
IMAGES = ("agent", IMAGE)
HUBS = {"ours": "AF Hub, sessions as pods", "plain": "plain JupyterHub, KubeSpawner"}
RATIOS = (Ratio("ours", ("plain",), 1.15),)
SERVER = {
    "JupyterLab is loaded": "Starting jupyterhub single-user server",
    "JupyterLab listens": "is running at:",
}
HUB = {"the hub calls it ready": f"User {USER} took"}
MORE = "c.JupyterHub.cleanup_servers = True\n"
PLAIN = """
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.namespace = {namespace!r}
c.KubeSpawner.image = {image!r}
c.KubeSpawner.pod_name_template = "plain-{{username}}"
c.KubeSpawner.cpu_limit, c.KubeSpawner.mem_limit = 1.0, "2G"
c.KubeSpawner.cpu_guarantee, c.KubeSpawner.mem_guarantee = {cores}, "2G"
c.KubeSpawner.uid, c.KubeSpawner.gid, c.KubeSpawner.fs_gid = 1000, 100, 100
c.KubeSpawner.container_security_context = {{"capabilities": {{"drop": ["ALL"]}}}}
c.KubeSpawner.pod_security_context = {{"runAsNonRoot": True, "seccompProfile": {{"type": "RuntimeDefault"}}}}
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_class, c.KubeSpawner.storage_capacity = {storage_class!r}, {size!r}
c.KubeSpawner.pvc_name_template = "plain-{{username}}"
c.KubeSpawner.volumes = [{{"name": "home", "persistentVolumeClaim": {{"claimName": "plain-{{username}}"}}}}]
c.KubeSpawner.volume_mounts = [{{"name": "home", "mountPath": "/home/{{username}}"}}]
c.KubeSpawner.environment = {{"HOME": "/home/{user}"}}
"""


@dataclass
class Stage:
    """The cluster, what is watched there, and the two hubs."""

    kube: KubeCluster
    heard: Heard
    ours: RealHub
    plain: OtherHub

    def run(self, name: str) -> dict[str, Any]:
        """Log in at one of the hubs, start a session, wait for JupyterLab; the session ends again."""
        hub, form = (self.plain, {}) if name == "plain" else (self.ours, {"image": IMAGE, "size": "small"})
        pod = f"plain-{USER}" if name == "plain" else f"jupyter-{USER}"
        began = time.time()
        with closing(sign_in(hub.url, USER)) as browser:
            passed = {"logged in": time.time()}
            if form:
                browser.get(f"/hub/spawn/{USER}").raise_for_status()
            browser.post(f"/hub/spawn/{USER}", headers=xsrf_headers(browser), data=form).raise_for_status()
            passed["the choice is answered"] = time.time()
            ended = await_lab(browser, USER)
            passed["JupyterLab's page is there"] = ended
            passed |= self._seen(name, pod, began) | self._logged(hub, pod, began)
            check.stop_session(browser, USER)
        self._until_gone(pod)
        return {"began": began, "ended": ended, "passed": passed}

    def _seen(self, name: str, pod: str, began: float) -> dict[str, float]:
        """What the watch saw of the pod, and of its Secret."""
        found = [(at, one) for at, one in self.heard.since("pods", began) if one["metadata"]["name"] == pod]
        secrets = [at for at, _ in self.heard.since("secrets", began)]
        return milestones(found) | ({"the Secret is made": secrets[0]} if secrets and name == "ours" else {})

    def _logged(self, hub: RealHub, pod: str, began: float) -> dict[str, float]:
        """What server and hub wrote."""
        server = self.kube.kubectl("logs", "-n", NAMESPACE, pod, "-c", NOTEBOOK, "--timestamps")
        lines = [line for line in stamps.lines(hub.hub.log.read_text()) if line[0] >= began]
        return stamps.first(logged(server), SERVER) | stamps.first(lines, HUB)

    def _until_gone(self, pod: str) -> None:
        """What the pod leaves to be done shall not fall upon the next run."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}"
        check.wait_until(lambda: self.kube.get(path) is None, "the pod is gone", 60)


@contextmanager
def staged(folder: Path, say: Any) -> Iterator[Stage]:
    """All of it runs; the cluster too."""
    with ExitStack() as stack:
        kube = stack.enter_context(KubeCluster(folder / "kube", progress=say))
        images = {name: kube.push(name) for name in IMAGES}
        pods = prepare(kube, folder, NAMESPACE)
        fetch_images(kube, images.values())
        iam = stack.enter_context(in_thread(DemoIAM(read_users(USERS), [])))
        ours = stack.enter_context(our_hub(folder, kube, pods, iam))
        plain = stack.enter_context(plain_hub(folder, pods, iam, images[IMAGE]))
        heard = stack.enter_context(listening(kube, NAMESPACE, ("pods", "secrets")))
        yield Stage(kube, heard, ours, plain)


def our_hub(folder: Path, kube: KubeCluster, pods: PodSessions, iam: DemoIAM) -> RealHub:
    """AF Hub, which asks the cluster's registry about images."""
    return RealHub(
        folder / "ours",
        iam,
        environ={**pods.environment(), "AF_REGISTRY": kube.registry},
        extra_config=pods.configuration(f"http://{GATEWAY}:1") + MORE,
        address=GATEWAY,
    )


def plain_hub(folder: Path, pods: PodSessions, iam: DemoIAM, image: str) -> OtherHub:
    """JupyterHub as KubeSpawner's manual sets it up."""
    config = folder / "plain_config" / "jupyterhub_config.py"
    config.parent.mkdir()
    told = {"namespace": NAMESPACE, "image": image, "cores": GUARANTEED_SHARE, "user": USER}
    config.write_text(PLAIN_LOGIN + PLAIN.format(**told, storage_class=HOME_CLASS, size=HOME_SIZE))
    return OtherHub(folder / "plain", iam, config, {"KUBECONFIG": str(pods.kubeconfig)}, address=GATEWAY)


def measure(folder: Path, rounds: int, say: Any) -> dict[str, str]:
    """The tables, by name."""
    began = time.monotonic()
    with staged(folder, say) as stage:
        found = in_turns({name: lambda name=name: stage.run(name) for name in HUBS}, rounds, say)  # type: ignore[misc]
    taken = times(found)
    hops = {name: [stamps.since(run["began"], run["passed"]) for run in runs] for name, runs in found.items()}
    return {
        "pods": describe_rounds(taken, HUBS),
        "pod-ratios": describe_ratios(taken, RATIOS, HUBS),
        "pod-hops": describe_hops(hops["ours"]),
        "pod-plain-hops": describe_hops(hops["plain"]),
        "pod-machine": machine.describe(rounds, (time.monotonic() - began) / 60),
    }


def main() -> None:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pods", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="that count; one more comes first")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/_figures")
    asked = parser.parse_args()
    console = Console(width=140)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=CHECKOUT, ignore_cleanup_errors=True) as folder:
        pages = measure(Path(folder), asked.rounds, lambda text: console.print(f"[dim]{text}[/]"))
    for name, text in pages.items():
        console.print(f"\n[bold]{name}[/]")
        console.print(Markdown(text))
        if asked.write:
            (PAGES / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
