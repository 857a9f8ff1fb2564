"""One node of a test's Kubernetes: a kubelet with a containerd of its own.

For :mod:`af_hub.testing.kube_cluster`, inside :mod:`af_hub.testing.kube_machine`. All nodes share the machine's network: a bridge on which each
node has an address and each pod another. What containerd unpacked is kept in ``store``; everything else is in memory and ends with the machine.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from af_hub.testing.process import Daemon

BRIDGE = "afcni0"
POD_NETWORK = "10.88.0.0/16"
GATEWAY = "10.88.0.1"
FIRST_POD = "10.88.1.1"
SERVICE_NETWORK = "10.96.0.0/16"
DNS_SERVICE = "10.96.0.10"
CNI_PROGRAMS = Path("/usr/lib/cni")
HOME = Path("/run/af-kube")

CONTAINERD_SECONDS = 60
CTR_SECONDS = 60


@dataclass(frozen=True)
class NodePlan:
    """Where a node is and what it needs to know; names, addresses, ports and folders follow from ``index``, 1 for the first."""

    index: int
    store: Path
    registry: str
    images: str
    pause: str
    authority: Path

    @property
    def name(self) -> str:
        """What Kubernetes calls it."""
        return f"node{self.index}"

    @property
    def address(self) -> str:
        """Its address on the bridge; the first node has the gateway's."""
        return f"10.88.0.{self.index}"

    @property
    def home(self) -> Path:
        """Its files in memory; short, since sockets lie below."""
        return HOME / self.name

    @property
    def socket(self) -> Path:
        """Where its containerd answers."""
        return self.home / "containerd.sock"


def cni_config() -> str:
    """Pods get a way to each other and to services, and none to the world. All nodes share the bridge and the list of addresses in use."""
    ipam = {
        "type": "host-local",
        "dataDir": str(HOME / "addresses"),
        "ranges": [[{"subnet": POD_NETWORK, "rangeStart": FIRST_POD, "gateway": GATEWAY}]],
        "routes": [{"dst": SERVICE_NETWORK}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipMasq": False, "ipam": ipam}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "af", "plugins": [bridge, portmap]}, indent=1)


def containerd_config(plan: NodePlan) -> str:
    """What differs from the defaults; TOML.

    ``restrict_oom_score_adj``: without CAP_SYS_RESOURCE no pod would start ("write /proc/self/oom_score_adj: permission denied").
    """
    return f"""\
version = 2
root = "{plan.store}"
state = "{plan.home}/state"
[grpc]
  address = "{plan.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{plan.home}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{plan.pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{plan.home}/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{HOME}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def mirror(registry: str) -> str:
    """Where containerd finds a registry's images (its hosts.toml)."""
    return f'server = "http://{registry}"\n[host."http://{registry}"]\n  capabilities = ["pull", "resolve"]\n'


def kubelet_config(plan: NodePlan) -> str:
    """What differs from the defaults.

    ``cgroupsPerQOS`` false, ``enforceNodeAllocatable`` empty, ``failCgroupV1`` false: where cgroups are of version 1 or mixed, the kubelet cannot
    build its tree; each container still gets its own limits. ``evictionHard`` empty and no collection of images: somebody's full disk must not
    end pods. ``syncFrequency``: how late a changed Secret may be in a volume.
    """
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.address,
        "port": 10250,
        "healthzPort": 10148 + 100 * plan.index,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(plan.authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{plan.socket}",
        "podLogsDir": str(plan.home / "pod-logs"),
        "volumePluginDir": str(plan.home / "volume-plugins"),
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": str(HOME / "resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "syncFrequency": "5s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }
    return json.dumps(settings, indent=1)


class Node:
    """A node, from :meth:`start_containerd` to :meth:`stop`."""

    def __init__(self, plan: NodePlan, kubelet: Path, kubeconfig: Path, logs: Path) -> None:
        self.plan, self.name = plan, plan.name
        home = plan.home
        self.containerd = Daemon(
            f"containerd of {plan.name}",
            ["containerd", "--config", str(home / "containerd.toml")],
            logs / f"containerd-{plan.name}.log",
        )
        argv = [str(kubelet), f"--config={home}/kubelet.json", f"--kubeconfig={kubeconfig}"]
        argv += [f"--root-dir={home}/kubelet", f"--cert-dir={home}/kubelet-certificates"]
        argv += [f"--hostname-override={plan.name}", f"--node-ip={plan.address}"]
        shown = [sys.executable, "-m", "af_hub.testing.kube_sysctls", str(home / "sysctls")]
        self.kubelet = Daemon(f"kubelet of {plan.name}", [*shown, *argv], logs / f"kubelet-{plan.name}.log")

    def start_containerd(self) -> None:
        """Write the node's files and start its containerd; returns at once."""
        self.plan.home.mkdir(parents=True)
        (self.plan.home / "containerd.toml").write_text(containerd_config(self.plan))
        (self.plan.home / "kubelet.json").write_text(kubelet_config(self.plan))
        for host in (self.plan.images, self.plan.registry):
            self.find_registry(host, self.plan.registry)
        self.containerd.start()

    def start_kubelet(self) -> None:
        """Start the kubelet when containerd answers."""
        if not self.kubelet.alive():
            self.containerd.wait_until(self.answers, CONTAINERD_SECONDS)
            self.kubelet.start()

    def find_registry(self, host: str, address: str) -> None:
        """Have images whose references begin with ``host`` taken from the registry at ``address``, without TLS; holds for the next pull."""
        folder = self.plan.home / "registries" / host
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(mirror(address))

    def answers(self) -> bool:
        """Whether containerd serves."""
        return self.plan.socket.exists() and self.ctr("version") is not None

    def ctr(self, *arguments: str) -> str | None:
        """What containerd's own command says about the containers of Kubernetes; None when it fails."""
        argv = ["ctr", "--address", str(self.plan.socket), "--namespace", "k8s.io", *arguments]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CTR_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        return done.stdout if done.returncode == 0 else None

    def forget_image(self, reference: str) -> None:
        """Have the next pod that wants this reference pull it."""
        self.ctr("images", "delete", "--sync", reference)

    def delete_all(self, kind: str, *options: str) -> bool:
        """Delete all ``tasks`` (what runs) or ``containers`` (what they were); whether there are none now."""
        found = (self.ctr(kind, "list", "--quiet") or "").split()
        if found:
            self.ctr(kind, "delete", *options, *found)
        left = self.ctr(kind, "list", "--quiet")
        return left is not None and not left.split()

    def stop(self) -> bool:
        """End it; whether its store is tidy. Kubelet first, so that nobody starts what is being ended, containerd last, since it ends the containers."""
        self.kubelet.stop(grace=2)
        tidy = self.containerd.alive() and self.delete_all("tasks", "--force") and self.delete_all("containers")
        self.containerd.stop()
        return tidy
