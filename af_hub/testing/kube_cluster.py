"""A real Kubernetes with several nodes and an image registry, for tests and for ``make demo-kube``; starts in seconds, leaves nothing.

Runs inside :mod:`af_hub.testing.kube_machine`. API server, controllers, scheduler, kubelets and proxy are Kubernetes' own
(:mod:`af_hub.testing.kube_build`); etcd, containerd, runc and network plugins are Debian's. Promises: no packet of a pod leaves the machine; names of
services resolve; pods find images of ``af-hub.test`` in :attr:`KubeCluster.registry`. Network policies are accepted and not enforced, which the
bridge plugin cannot. What containerd and registry have stored is kept in the user's cache, for one cluster at a time; another one has another store.
"""

import fcntl
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TextIO

from af_hub.errors import Unavailable
from af_hub.testing import kube_images
from af_hub.testing.debian import Progress, cache_folder
from af_hub.testing.kube_build import FILES, HELM_PROGRAM, KUBERNETES_PROGRAM, is_built
from af_hub.testing.kube_control import ControlPlane
from af_hub.testing.kube_machine import INSIDE, REASON
from af_hub.testing.kube_needs import machine_lacks
from af_hub.testing.kube_node import (
    BRIDGE,
    DNS_SERVICE,
    GATEWAY,
    HOME,
    SERVICE_NETWORK,
    Node,
    NodePlan,
    cni_config,
)
from af_hub.testing.kube_registry import Registry
from af_hub.testing.process import comes_true

SYSCTLS = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
STORES = 9
# In a registry; the images of one state of the sources have about one and a half.
MOST_BYTES = 6_000_000_000
COMMAND_SECONDS = 120
READY_SECONDS = 120
DRAIN_SECONDS = 60


class CommandFailed(Unavailable):
    """kubectl or helm says no; the message is what it said."""


def why_not_here() -> str:
    """Why there can be no cluster here; empty when there can."""
    if os.environ.get(INSIDE) != "1":
        hint = "a real Kubernetes needs a machine of its own: `make test-kube`, or python -m af_hub.testing.kube_machine COMMAND"
        return os.environ.get(REASON) or hint
    if reason := machine_lacks():
        return reason
    return (
        ""
        if is_built()
        else "Kubernetes is not compiled yet: python -m af_hub.testing.kube_build (as root, minutes, once)"
    )


class Store:
    """A folder of the user's cache where images are kept between clusters, held by one of them."""

    def __init__(self, folder: Path, lock: TextIO) -> None:
        self.folder, self._lock = folder, lock
        if size_of(folder / "registry") > MOST_BYTES:  # each image that ever was
            shutil.rmtree(folder)
        if self.in_use.exists():  # the last one was killed: its containers are still in there
            for node in folder.glob("node*"):
                shutil.rmtree(node)
        folder.mkdir(parents=True, exist_ok=True)
        self.in_use.touch()

    @property
    def in_use(self) -> Path:
        """There while a cluster has it."""
        return self.folder / ".in-use"

    @property
    def pushed(self) -> dict[str, str]:
        """Which image the registry has under a name: our names, and ids of buildah."""
        path = self.folder / "pushed.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def note_pushed(self, name: str, image: str) -> None:
        """Remember it."""
        (self.folder / "pushed.json").write_text(json.dumps({**self.pushed, name: image}))

    def give_back(self, tidy: bool) -> None:
        """For the next one."""
        if tidy:
            self.in_use.unlink()
        self._lock.close()


def size_of(folder: Path) -> int:
    """Bytes of the files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def take_store(folder: Path) -> Store:
    """The first store that nobody has."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, STORES + 1):
        lock = (folder / f"{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Store(folder / str(number), lock)
    raise Unavailable(f"{STORES} clusters run already, and there are no more stores in {folder}")


class KubeCluster:
    """A cluster, from the start of a ``with`` to its end.

    Parameters
    ----------
    folder
        Gets the logs of all parts.
    nodes
        How many; their names are ``node1`` and following.
    progress
        Told of what takes long.
    """

    def __init__(self, folder: Path, nodes: int = 2, progress: Progress = lambda _: None) -> None:
        self.logs, self.progress, self.count = folder, progress, nodes
        self.nodes: list[str] = [f"node{number}" for number in range(1, nodes + 1)]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.control.kubeconfig()

    @property
    def registry(self) -> str:
        """The address of the image registry, such as ``http://10.88.0.1:40123``; the nodes take what begins with ``af-hub.test`` from there."""
        return self._registry.url

    @property
    def environ(self) -> dict[str, str]:
        """For programs that speak to the cluster as its administrator: ``KUBECONFIG``, and a ``PATH`` with kubectl and helm."""
        path = os.pathsep.join([str(KUBERNETES_PROGRAM.folder), str(HELM_PROGRAM.folder), os.environ.get("PATH", "")])
        helm = {f"HELM_{kind}_HOME": str(HOME / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path, **helm}

    # --- commands

    def kubectl(self, *arguments: str, text: str = "", timeout: float = COMMAND_SECONDS) -> str:
        """What kubectl says, as the administrator; ``text`` is its standard input.

        Raises
        ------
        CommandFailed
            When it fails, or takes more than ``timeout`` seconds.
        """
        return self._command(["kubectl", *arguments], text, timeout)

    def helm(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        """What helm says; as :meth:`kubectl`."""
        return self._command(["helm", *arguments], "", timeout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make objects, or make them as they shall be."""
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, path: str) -> Any:
        """What the API server says at ``/api/v1/…``; None while it does not answer or has no such thing."""
        return self.control.api.get(path)

    def _command(self, argv: Sequence[str], text: str, timeout: float) -> str:
        program = shutil.which(argv[0], path=self.environ["PATH"])
        assert program, argv[0]
        try:
            done = subprocess.run(
                [program, *argv[1:]], input=text, capture_output=True, text=True, timeout=timeout, env=self.environ
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{' '.join(argv)[:200]} did not finish in {timeout:g} s") from error
        if done.returncode:
            raise CommandFailed(f"{' '.join(argv)[:200]}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    # --- images

    def push(self, name: str) -> str:
        """Have an image of the project in the registry, built anew if something of it has changed; what pods call it.

        Also ``debian``, a small one with a shell and nothing of ours. Built beforehand by ``make test-kube``: it may take minutes.

        Raises
        ------
        Unavailable
            When it cannot be built.
        """
        return self._bring(kube_images.provide(name, self.progress))

    def build(self, name: str, base: str, *lines: str) -> str:
        """Have an image of a test's own in the registry: ``kube.build("test-of-root", "agent", "USER 0")``; what pods call it."""
        return self._bring(kube_images.derive(name, base, lines, self.progress))

    def _bring(self, image: kube_images.Image) -> str:
        """Have it in the registry; nodes forget another one of that name."""
        if self._store.pushed.get(image.name) != image.id:
            kube_images.push(image.id, image.reference, self._registry.address)
            for node in self._nodes:
                node.forget_image(image.reference)
            self._store.note_pushed(image.name, image.id)
        return image.reference

    def find_registry(self, host: str, address: str) -> None:
        """Have nodes take images whose references begin with ``host`` from a registry at ``address``, without TLS."""
        for node in self._nodes:
            node.find_registry(host, address)

    # --- places for tests

    @contextmanager
    def namespace(self, prefix: str, enforce: str = "") -> Iterator[str]:
        """A Kubernetes namespace, deleted afterwards; ``enforce`` names a Pod Security Standard, such as ``restricted``."""
        name = f"{prefix}-{uuid.uuid4().hex[:6]}"
        labels = {"pod-security.kubernetes.io/enforce": enforce} if enforce else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        try:
            if not comes_true(lambda: self.get(account) is not None, READY_SECONDS):
                raise Unavailable(f"the namespace {name} got no service account in {READY_SECONDS} s")
            yield name
        finally:
            with suppress(CommandFailed):
                self.kubectl("delete", "namespace", name, "--wait=false")
                self.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=1", "--wait=false")

    # --- what happens to clusters

    def stop_apiserver(self) -> None:
        """End the API server; what runs goes on."""
        self.control.apiserver.stop(grace=1)

    def start_apiserver(self) -> None:
        """Have it again."""
        self.control.apiserver.start()
        self.control.wait_for_server()

    def stop_kubelet(self, node: str) -> None:
        """End the kubelet of a node; its containers go on."""
        self.node(node).kubelet.stop()

    def start_kubelet(self, node: str) -> None:
        """Have it again; returns when its node is ready and it knows its pods, so that it takes commands for them."""
        kubelet = self.node(node).kubelet.start()
        kubelet.wait_until(lambda: self._known(node) >= self._meant_for(node), READY_SECONDS)
        self.wait_for_nodes()

    def _known(self, node: str) -> set[str]:
        """The pods that a kubelet says it has."""
        return uids(self.get(f"/api/v1/nodes/{node}/proxy/pods"))

    def _meant_for(self, node: str) -> set[str]:
        """The pods that the API server gives to a node."""
        return uids(self.get(f"/api/v1/pods?fieldSelector=spec.nodeName={node}"))

    def restart_kubelet(self, node: str) -> None:
        """End and start it."""
        self.stop_kubelet(node)
        self.start_kubelet(node)

    def drain(self, node: str) -> None:
        """Send all pods of a node away, as admins do before they work on it, and let no new ones in."""
        self.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={DRAIN_SECONDS}s"
        )

    def uncordon(self, node: str) -> None:
        """Let pods in again."""
        self.kubectl("uncordon", node)

    def node(self, name: str) -> Node:
        """A node by its name."""
        return next(node for node in self._nodes if node.name == name)

    def wait_for_nodes(self) -> None:
        """Wait until all nodes are ready."""
        kubelet = self._nodes[0].kubelet
        kubelet.wait_until(lambda: self.control.api.ready_nodes() == self.count, READY_SECONDS)

    # --- start and end

    def __enter__(self) -> Self:
        if reason := why_not_here():
            raise Unavailable(reason)
        if HOME.exists():
            raise Unavailable(f"there is a cluster in this machine already ({HOME})")
        self.logs.mkdir(parents=True, exist_ok=True)
        self._store = take_store(cache_folder() / "kube" / "stores")
        self._nodes: list[Node] = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        make_network(self.count)
        self.control = ControlPlane(HOME, KUBERNETES_PROGRAM.folder, self.logs, self.count)
        self.control.start_server()
        self._registry = Registry(self._store.folder / "registry", self.logs, host=GATEWAY)
        self._registry.__enter__()
        self._nodes = [self._make_node(number) for number in range(1, self.count + 1)]
        for node in self._nodes:
            node.start_containerd()
        self.push(kube_images.PAUSE)
        dns = self.push(kube_images.DNS)
        self.control.wait_for_server()
        self.control.start_others()
        for node in self._nodes:
            node.start_kubelet()
        self.kubectl("apply", "-f", "-", text=read_dns(dns))
        self.wait_for_nodes()
        self.kubectl("rollout", "status", "deployment/coredns", "-n", "kube-system", f"--timeout={READY_SECONDS}s")

    def _make_node(self, number: int) -> Node:
        plan = NodePlan(
            number,
            self._store.folder / f"node{number}",
            self._registry.address,
            kube_images.HOST,
            kube_images.reference(kube_images.PAUSE),
            self.control.authority,
        )
        programs = KUBERNETES_PROGRAM.folder
        return Node(plan, programs / "kubelet", self.control.kubeconfig(plan.name), self.logs)

    def stop(self) -> None:
        """End all of it."""
        stopped = [node.stop() for node in self._nodes]
        if hasattr(self, "control"):
            self.control.stop()
        if hasattr(self, "_registry"):
            self._registry.__exit__()
        remove_network()
        remove_home()
        self._store.give_back(tidy=all(stopped))


def uids(found: dict[str, Any] | None) -> set[str]:
    """Which objects are in a list."""
    return {one["metadata"]["uid"] for one in (found or {}).get("items") or []}


def read_dns(image: str) -> str:
    """The objects of the cluster's name server."""
    return (FILES / "dns.yaml").read_text().replace("IMAGE", image).replace("ADDRESS", DNS_SERVICE)


def make_network(nodes: int) -> None:
    """The bridge with the nodes' addresses, and the files of the network plugin.

    Services have a way to the bridge too: kube-proxy turns their packets before they take it, and what it does not know goes nowhere.
    """
    (HOME / "cni").mkdir(parents=True)
    (HOME / "cni/10-af.conflist").write_text(cni_config())
    (HOME / "resolv.conf").touch()
    ip("link", "add", BRIDGE, "type", "bridge")
    for number in range(1, nodes + 1):
        ip("address", "add", f"10.88.0.{number}/16", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    ip("route", "add", SERVICE_NETWORK, "dev", BRIDGE, "src", GATEWAY)
    for name, value in SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)


def remove_network() -> None:
    """Take it away with the pods' links, which go with their bridge's other end, and with kube-proxy's rules."""
    for port in Path(f"/sys/class/net/{BRIDGE}/brif").glob("*"):
        quietly("ip", "link", "delete", port.name)
    quietly("ip", "link", "delete", BRIDGE)
    for family in ("ip", "ip6"):
        quietly("nft", "delete", "table", family, "kube-proxy")


def remove_home() -> None:
    """Unmount what pods had and remove the cluster's files."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in reversed([point for point in mounted if point.startswith(f"{HOME}/")]):
        quietly("umount", "--lazy", point)
    shutil.rmtree(HOME, ignore_errors=True)


def ip(*arguments: str) -> None:
    """``ip``, which must succeed."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise Unavailable(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")


def quietly(*argv: str) -> None:
    """A command that may fail, when there is nothing to do for it."""
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS)
