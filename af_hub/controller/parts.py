"""What the routes need, put together once by :mod:`af_hub.controller.app`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from af_hub.controller.batch import BatchTokens
from af_hub.controller.hub import Hub
from af_hub.controller.jobagent import JobAgents
from af_hub.controller.keys import UserCA
from af_hub.controller.login import Login
from af_hub.controller.model import Cluster
from af_hub.controller.pool import JobPool
from af_hub.controller.problems import Problem
from af_hub.controller.reconcile import Reconciler
from af_hub.controller.store import Store
from af_hub.forwarder.login import ForwarderAddress
from af_hub.policy.decide import Rights, decide
from af_hub.policy.load import PolicyFile
from af_hub.policy.model import Policy


@dataclass
class Parts:
    """The controller.

    Parameters
    ----------
    public_url
        Where people find the controller, through the hub's proxy; ends with a slash.
    """

    store: Store
    pool: JobPool
    hub: Hub
    login: Login
    agents: JobAgents
    reconciler: Reconciler
    batch: BatchTokens
    user_ca: UserCA
    state: Path
    policy: PolicyFile
    forwarder: ForwarderAddress
    public_url: str
    clock: Callable[[], float] = time.time

    @property
    def prefix(self) -> str:
        """The path of :attr:`public_url`."""
        return urlsplit(self.public_url).path

    @property
    def origin(self) -> str:
        """Scheme, host and port of :attr:`public_url`, as browsers write it."""
        found = urlsplit(self.public_url)
        return f"{found.scheme}://{found.netloc}"

    def dashboard_url(self, cluster: str) -> str:
        """Where the owner sees the cluster's dashboard."""
        return f"{self.public_url}clusters/{cluster}/dashboard/status"

    async def rights(self, username: str) -> tuple[Rights, Policy]:
        """What the policy gives now, from the claims recorded last; and that policy, as the next look at the file may find another."""
        claims = await self.hub.claims(username)
        policy = self.policy.current()
        return decide(policy, claims, self.clock()), policy

    def own(self, cluster: str, owner: str) -> Cluster:
        """A cluster of this person.

        Raises
        ------
        Problem
            404, the same for a cluster that is another's and for one that never was.
        """
        found = self.store.get(cluster, owner)
        if found is None:
            raise Problem(404, "There is no such Dask cluster of yours.")
        return found
