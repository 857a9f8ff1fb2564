"""One person's Dask cluster, made through the controller's REST API as a laptop would, with the keys for it."""

import asyncio
import time
from dataclasses import dataclass, field

import httpx
from distributed.security import Security

from af_hub.forwarder.login import Credentials, ForwarderAddress
from af_hub.session.keys import SessionKeys, make_keys

RUNNING_SECONDS = 90


@dataclass
class OwnedCluster:
    """A running Dask cluster and everything that its owner holds."""

    id: str
    rest: httpx.Client
    keys: SessionKeys = field(repr=False)
    answer: dict = field(repr=False)

    @property
    def forwarder(self) -> ForwarderAddress:
        return ForwarderAddress(**self.answer["forwarder"])

    @property
    def ssh(self) -> Credentials:
        return Credentials(f"session:{self.id}", self.keys.ssh, self.answer["ssh_certificate"])

    @property
    def security(self) -> Security:
        """What Dask's client shows."""
        return Security(
            require_encryption=True,
            tls_ca_file=self.answer["tls_ca"],
            tls_client_cert=self.answer["tls_certificate"],
            tls_client_key=self.keys.tls,
        )

    def show(self) -> dict:
        found = self.rest.get(f"api/clusters/{self.id}")
        found.raise_for_status()
        return found.json()


def new_cluster(rest: httpx.Client, image: str, site: str = "T2_A", workers: int = 1) -> OwnedCluster:
    """Create one and wait until it runs."""
    asked = {"site": site, "image": image, "workers": workers, "cores": 1, "memory": 1 << 30}
    created = rest.post("api/clusters", json=asked)
    assert created.status_code == 201, created.text
    cluster = wait_for(rest, created.json()["id"], "running")
    keys = make_keys()
    answer = rest.post(
        f"api/clusters/{cluster['id']}/credentials", json={"ssh_public_key": keys.ssh_public, "tls_csr": keys.tls_csr}
    )
    assert answer.status_code == 200, answer.text
    return OwnedCluster(cluster["id"], rest, keys, answer.json())


def wait_for(rest: httpx.Client, cluster_id: str, state: str) -> dict:
    """The cluster once it is in that state; ends badly states fail at once."""
    deadline = time.monotonic() + RUNNING_SECONDS
    while True:
        cluster = rest.get(f"api/clusters/{cluster_id}").json()
        if cluster["state"] == state:
            return cluster
        ended = cluster["state"] in ("failed", "lost", "closed")
        assert not ended and time.monotonic() < deadline, f"{cluster['state']}: {cluster['reason']} {cluster['events']}"
        time.sleep(0.2)


async def read_some(reader: asyncio.StreamReader, seconds: float = 5) -> bytes:
    """What comes, or nothing."""
    try:
        return await asyncio.wait_for(reader.read(4096), seconds)
    except (TimeoutError, OSError):
        return b""
