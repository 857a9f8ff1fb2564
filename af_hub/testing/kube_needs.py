"""What a machine must have for a Kubernetes of tests and of ``make demo-kube``: rights, Debian's packages, the kernel's bridge, Go.

Each is told as a sentence that says what to change, before anything is fetched or compiled. ``make`` asks before anything is installed:
standard library only. Leaves what only shows later (the network, a build that fails) to :mod:`af_hub.testing.kube_build`.
"""

import shutil
from pathlib import Path

from af_hub.testing.kube_build import is_built, why_no_go
from af_hub.testing.kube_machine import why_not
from af_hub.testing.kube_node import CNI_PROGRAMS

# What must be installed, and which package of Debian has it.
NEEDED = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "umount": "mount",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "docker-registry": "docker-registry",
    str(CNI_PROGRAMS / "bridge"): "containernetworking-plugins",
}
BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def lacks() -> list[str]:
    """Everything that is missing for a cluster to be made and started, a sentence each; the rights first, since they hide the rest."""
    if reason := why_not():
        return [reason]
    return [sentence for sentence in (machine_lacks(), "" if is_built() else why_no_go()) if sentence]


def machine_lacks() -> str:
    """What must be installed, or loaded, with the command for it; empty when all is there."""
    missing = sorted({package for program, package in NEEDED.items() if not shutil.which(program)})
    if missing:
        return f"Debian's {', '.join(missing)} missing: apt install --no-install-recommends {' '.join(missing)}"
    if not BRIDGED.exists():
        return "the kernel's br_netfilter is not loaded: modprobe br_netfilter"
    return ""
