"""Where a demo's sessions are pods: the cluster as the hub knows it, and the addresses at which pods find the facility.

Serves the hop from the hub to Kubernetes in the demo. Promises: the hub gets the same configuration files as everywhere, and beside them only
what is of this cluster. Leaves the cluster to :mod:`af_hub.testing`, what runs in it to :mod:`af_hub.demo.kube`, the pods to the spawner.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from af_hub.files import write_private

SPAWNER = "af_hub.spawner.AFSpawner"
AGENT_IMAGE = "af-hub.test/agent:1"
NAMESPACE = "af-sessions"
# Of the bridge, which has no route to anywhere else. XRootD tells hosts apart and not their ports, so that the origin has one of its own.
ADDRESS, ORIGIN_ADDRESS = "10.88.0.1", "10.88.0.250"
HOSTNAME, DOMAIN = "facility", "af-hub.test"
EVERYBODY = "*"
# Of a size's cores: both nodes are one machine, on which nobody computes for long.
GUARANTEED_SHARE = 0.1


@dataclass(frozen=True)
class PodSessions:
    """A cluster for the sessions of one facility.

    Parameters
    ----------
    kubeconfig
        With the hub's own service account there, whose Role is all that it may do.
    registry
        Where images are looked at, as ``http://10.88.0.1:5000``; they are not when empty.
    address, origin_address, hostname
        Where pods find the facility and the data's origin; the name means the address, for the facility's processes too.
    iam_port
        Where browsers find the IAM; any free one when 0.
    more
        Further lines of the hub's configuration.
    """

    kubeconfig: Path
    registry: str = ""
    namespace: str = NAMESPACE
    address: str = ADDRESS
    origin_address: str = ORIGIN_ADDRESS
    hostname: str = HOSTNAME
    iam_port: int = 0
    more: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file that :meth:`write` made."""
        found = json.loads(path.read_text())
        return cls(**{**found, "kubeconfig": Path(found["kubeconfig"])})

    def write(self, path: Path) -> Path:
        """Into a file; hands it back."""
        return write_private(path, json.dumps(asdict(self) | {"kubeconfig": str(self.kubeconfig)}))

    def facility(self) -> dict[str, Any]:
        """What a :class:`~af_hub.demo.facility.Facility` is told, whose sessions are these pods."""
        return {
            "pods": self,
            "address": self.address,
            "hostname": self.hostname,
            "origin_address": self.origin_address,
            # Nothing but the cluster and the facility is in this network.
            "origin_clients": EVERYBODY,
            "cache_clients": EVERYBODY,
            "iam_port": self.iam_port,
        }

    def environment(self) -> dict[str, str]:
        """What the hub's process gets beside what every hub gets."""
        return {"AF_SPAWNER": SPAWNER, "AF_AGENT_IMAGE": AGENT_IMAGE, "KUBECONFIG": str(self.kubeconfig)}

    def configuration(self, controller_url: str) -> str:
        """Lines of a configuration file for the hub."""
        aliases = [{"ip": self.address, "hostnames": [f"{self.hostname}.{DOMAIN}", self.hostname]}]
        return (
            f"c.AFSpawner.namespace = {self.namespace!r}\n"
            f"c.AFSpawner.guaranteed_share = {GUARANTEED_SHARE}\n"
            f"c.AFSpawner.controller_url = {controller_url + '/services/af-controller/'!r}\n"
            f"c.AFSpawner.extra_pod_config = {{'hostAliases': {aliases!r}}}\n"
            f"{self.more}"
        )
