"""The control plane of a test's Kubernetes: etcd, API server, controllers, scheduler, and the proxy that leads to services.

For :mod:`af_hub.testing.kube_cluster`, inside :mod:`af_hub.testing.kube_machine`. Listens on loopback and on the bridge. Its people are
named as Kubernetes' own rules expect them, and have a token each, in a kubeconfig each.
"""

import base64
import json
import secrets
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from af_hub.files import write_private
from af_hub.testing.certificates import Authority
from af_hub.testing.kube_node import GATEWAY, POD_NETWORK, SERVICE_NETWORK
from af_hub.testing.process import Daemon

API = f"https://{GATEWAY}:6443"
ETCD = "http://127.0.0.1:2379"
ADMIN = "admin"
ASK_SECONDS = 5
READY_SECONDS = 120
SERVICE_ADDRESS = "10.96.0.1"
ALONE = {"leader-elect": "false", "bind-address": "127.0.0.1"}
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


def people(nodes: int) -> dict[str, tuple[str, str]]:
    """Who may speak to the API server: the file's name, and the user and the group that it is for."""
    parts = {
        ADMIN: ("admin", "system:masters"),
        "controller-manager": ("system:kube-controller-manager", ""),
        "scheduler": ("system:kube-scheduler", ""),
        "proxy": ("system:kube-proxy", ""),
    }
    return parts | {f"node{i}": (f"system:node:node{i}", "system:nodes") for i in range(1, nodes + 1)}


def kubeconfig(user: str, token: str, authority: str) -> str:
    """A kubeconfig, whole: it holds the authority's certificate. JSON, which is YAML too."""
    cluster = {"server": API, "certificate-authority-data": authority}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "af-kube", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "af-kube", "context": {"cluster": "af-kube", "user": user}}],
            "current-context": "af-kube",
        }
    )


class Api:
    """Asks the API server as its administrator."""

    def __init__(self, token: str, authority: Path) -> None:
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(authority)))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
        self._opener.addheaders = [("Authorization", f"Bearer {token}"), ("Accept", "application/json")]

    def get(self, path: str) -> Any:
        """What it says, as JSON gives it or as text; None while it does not answer, or where there is no such thing."""
        try:
            with self._opener.open(API + path, timeout=ASK_SECONDS) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return json.loads(text) if text.startswith("{") else text

    def ready_nodes(self) -> int:
        """How many nodes are ready and take pods."""
        nodes = (self.get("/api/v1/nodes") or {}).get("items", [])
        return sum(1 for node in nodes if is_ready(node))


def is_ready(node: dict[str, Any]) -> bool:
    """Whether a node says that it is ready, and the controllers have seen it."""
    said = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", [])}
    kept_away = [taint["key"] for taint in node["spec"].get("taints", [])]
    return said.get("Ready") == "True" and "node.kubernetes.io/not-ready" not in kept_away


class ControlPlane:
    """Its processes, with files in ``home`` and the programs of Kubernetes in ``programs``."""

    def __init__(self, home: Path, programs: Path, logs: Path, nodes: int) -> None:
        self.home, self.programs, self.logs = home, programs, logs
        self.keys = home / "keys"
        self.authority = write_keys(self.keys)
        self.api = Api(self._write_people(nodes), self.authority)
        self.etcd = self._daemon("etcd", "etcd", etcd_options(home))
        self.apiserver = self._program("kube-apiserver", apiserver_options(home, self.keys))
        self.others = [
            self._program("kube-controller-manager", self._controller_options()),
            self._program("kube-scheduler", {"kubeconfig": self.kubeconfig("scheduler"), **ALONE}),
            self._program("kube-proxy", {"config": self._write_proxy_config()}),
        ]

    def kubeconfig(self, name: str = ADMIN) -> Path:
        """The file of one of :func:`people`."""
        return self.home / f"{name}.kubeconfig"

    def start_server(self) -> None:
        """Start etcd and the API server; returns at once."""
        self.etcd.start()
        self.apiserver.start()

    def wait_for_server(self) -> None:
        """Wait until the API server serves."""
        self.apiserver.wait_until(lambda: self.api.get("/readyz") == "ok", READY_SECONDS)

    def start_others(self) -> None:
        """Start what asks the API server; returns at once."""
        for daemon in self.others:
            daemon.start()

    def stop(self) -> None:
        """End all of it; nothing of it is kept, so it has a moment only."""
        for daemon in (*self.others, self.apiserver, self.etcd):
            daemon.stop(grace=0.2)

    def _write_people(self, nodes: int) -> str:
        """A token and a kubeconfig for everybody, and the API server's list of them; the administrator's token."""
        certificate = base64.b64encode(self.authority.read_bytes()).decode()
        tokens = {name: secrets.token_hex(16) for name in people(nodes)}
        for name, (user, _) in people(nodes).items():
            write_private(self.kubeconfig(name), kubeconfig(user, tokens[name], certificate))
        rows = [f"{tokens[name]},{user},{user},{group}\n" for name, (user, group) in people(nodes).items()]
        write_private(self.home / "tokens.csv", "".join(rows))
        return tokens[ADMIN]

    def _controller_options(self) -> dict[str, object]:
        return {
            "kubeconfig": self.kubeconfig("controller-manager"),
            "service-account-private-key-file": self.keys / "accounts.key",
            "root-ca-file": self.authority,
            "use-service-account-credentials": "true",
            **ALONE,
        }

    def _write_proxy_config(self) -> Path:
        """One for all nodes, since they share a network. It leaves the machine's limits for connections alone."""
        settings = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": POD_NETWORK,
            "hostnameOverride": "node1",
            "healthzBindAddress": "127.0.0.1:10256",
            "nodePortAddresses": [POD_NETWORK],
            "clientConnection": {"kubeconfig": str(self.kubeconfig("proxy"))},
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
        path = self.home / "proxy.json"
        path.write_text(json.dumps(settings))
        return path

    def _program(self, name: str, options: Mapping[str, object]) -> Daemon:
        return self._daemon(name, str(self.programs / name), options)

    def _daemon(self, name: str, program: str, options: Mapping[str, object]) -> Daemon:
        argv = [program, *(f"--{key}={value}" for key, value in options.items())]
        return Daemon(name, argv, self.logs / f"{name}.log")


def write_keys(folder: Path) -> Path:
    """The cluster's authority, the API server's two certificates, and the key that signs service accounts' tokens; the authority's file.

    With the second certificate the API server speaks to kubelets; without it ``kubectl logs`` and ``exec`` fail with "Unauthorized".
    """
    authority = Authority(folder, "af-kube")
    authority.issue(folder / "server", GATEWAY, "127.0.0.1", SERVICE_ADDRESS, "localhost", *SERVICE_NAMES)
    authority.issue(folder / "client", "kube-apiserver")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / "accounts.key", secret)
    write_private(
        folder / "accounts.pub", key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return authority.file


def etcd_options(home: Path) -> dict[str, object]:
    """Alone, in memory."""
    return {
        "data-dir": home / "etcd",
        "listen-client-urls": ETCD,
        "advertise-client-urls": ETCD,
        "listen-peer-urls": "http://127.0.0.1:2380",
    }


def apiserver_options(home: Path, keys: Path) -> dict[str, object]:
    """What differs from the defaults. Names of nodes are known to no resolver, so that it calls their addresses."""
    return {
        "etcd-servers": ETCD,
        "bind-address": GATEWAY,
        "advertise-address": GATEWAY,
        "service-cluster-ip-range": SERVICE_NETWORK,
        "tls-cert-file": keys / "server/tls.pem",
        "tls-private-key-file": keys / "server/tls.key",
        "client-ca-file": keys / "ca.pem",
        "token-auth-file": home / "tokens.csv",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-account-key-file": keys / "accounts.pub",
        "service-account-signing-key-file": keys / "accounts.key",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "kubelet-client-certificate": keys / "client/tls.pem",
        "kubelet-client-key": keys / "client/tls.key",
        "kubelet-preferred-address-types": "InternalIP",
        "allow-privileged": "true",
    }
