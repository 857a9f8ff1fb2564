"""What the loop does for one Dask cluster: submits, removes, tells its agent, writes into its row.

Serves :mod:`af_hub.controller.reconcile`, which says what and when. Promises: each action may be repeated, and a job is written down before
it is submitted; changes in the pool are made as the cluster's owner.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from af_hub.controller import steps
from af_hub.controller.hub import CondorToken, Hub
from af_hub.controller.jobagent import JobAgents
from af_hub.controller.keys import ClusterKeys, UserCA
from af_hub.controller.kit import scheduler_order, worker_order
from af_hub.controller.model import Cluster
from af_hub.controller.pool import Credential, JobPool, Order
from af_hub.controller.states import Role, State
from af_hub.controller.steps import Action
from af_hub.controller.store import Store
from af_hub.errors import LoginRequired, PoolAway, Refused, Unavailable
from af_hub.forwarder.login import ForwarderAddress
from af_hub.policy.load import PolicyFile

log = logging.getLogger(__name__)

TOKEN_MARGIN = 60.0


@dataclass
class Hands:
    """See the module.

    Parameters
    ----------
    state
        The controller's state folder.
    clock
        Unix time.
    """

    store: Store
    pool: JobPool
    hub: Hub
    agents: JobAgents
    user_ca: UserCA
    state: Path
    policy: PolicyFile
    forwarder: ForwarderAddress
    clock: Callable[[], float] = time.time
    _tokens: dict[str, CondorToken] = field(default_factory=dict, repr=False)

    async def act(self, cluster: Cluster, action: Action, patient: Callable[[], bool]) -> bool:
        """Do one thing; says whether the rest of the plan still holds.

        Parameters
        ----------
        patient
            Whether a batch system that has not answered may be asked again later.
        """
        match action:
            case steps.SubmitScheduler():
                await self._submit_scheduler(cluster, patient)
            case steps.SubmitWorkers(names, scheduler):
                await self._submit_workers(cluster, names, scheduler)
            case steps.WantFirstWorker(wanted):
                await self.agents.want_first_worker(cluster.id, wanted)
            case steps.RetireWorkers(names, jobs):
                self.store.retire(cluster.id, jobs, self.clock())
                await self.agents.retire(cluster.id, names)
                await self._remove(cluster, jobs)
            case steps.RemoveJobs(jobs):
                await self._remove(cluster, jobs)
            case steps.AskToClose():
                await self._ask_to_close(cluster.id)
            case steps.Become(state, reason):
                return self.store.become(cluster.id, State(cluster.state), state, reason, self.clock())
            case steps.Track(jobs):
                log.info("cluster %s: found %s again", cluster.id, ", ".join(job.id for job in jobs))
                self.store.track(cluster.id, jobs)
            case steps.LoseWorkers(names):
                self.store.lose(cluster.id, names)
            case steps.Forget():
                await self._forget(cluster.id)
        return True

    async def _submit_scheduler(self, cluster: Cluster, patient: Callable[[], bool]) -> None:
        self.store.intend(cluster.id, Role.SCHEDULER)
        try:
            keys = ClusterKeys(self.state, cluster.id)
            keys.make(self.user_ca, cluster.expires_at)
            order = scheduler_order(cluster, keys, self.forwarder, self._python(cluster), self.clock())
            await self._submit(cluster, order)
        except (Refused, LoginRequired) as error:
            self.store.become(cluster.id, State(cluster.state), State.FAILED, str(error), self.clock())
        except PoolAway as error:
            if patient():
                raise
            sentence = f"{error}, so it was given up; if its job arrives all the same, it is removed. Try again later"
            self.store.become(cluster.id, State(cluster.state), State.FAILED, sentence, self.clock())

    async def _submit_workers(self, cluster: Cluster, names: tuple[str, ...], scheduler: str) -> None:
        self.store.intend(cluster.id, Role.WORKER, names)
        keys = ClusterKeys(self.state, cluster.id)
        order = worker_order(cluster, keys, names, scheduler, self._python(cluster), self.clock())
        await self._submit(cluster, order)

    async def _submit(self, cluster: Cluster, order: Order) -> None:
        if self._closing(cluster.id):
            return
        credential = await self._credential(cluster)
        log.info("cluster %s: submits %d %s", cluster.id, len(order.workers) or 1, order.role)
        jobs = await self.pool.submit(cluster.pool, order, credential)
        log.info("cluster %s: submitted %s", cluster.id, ", ".join(job.id for job in jobs))
        self.store.track(cluster.id, jobs)

    async def _remove(self, cluster: Cluster, jobs: tuple[str, ...]) -> None:
        self.store.retire(cluster.id, jobs, self.clock())
        credential = await self._credential(cluster)
        try:
            await self.pool.remove(cluster.pool, jobs, credential)
        except Refused as error:
            rest = "what stays ends with the cluster's lifetime, or the facility's administrators remove it"
            raise Refused(f"{error}; {rest}") from error

    async def _ask_to_close(self, cluster: str) -> None:
        """A polite word only: the jobs are removed whether or not it was heard."""
        try:
            await self.agents.ask_to_close(cluster)
        except Unavailable as error:
            log.info("cluster %s was not told that it ends: %s", cluster, error)

    async def _forget(self, cluster: str) -> None:
        ClusterKeys(self.state, cluster).remove()
        await self.agents.forget(cluster)
        self.store.forget(cluster)

    async def _credential(self, cluster: Cluster) -> Credential:
        known = self._tokens.get(cluster.owner)
        if known is None or known.expires_at - self.clock() < TOKEN_MARGIN:
            known = self._tokens[cluster.owner] = await self.hub.condor_token(cluster.owner)
        return Credential(cluster.owner, known.value)

    def _closing(self, cluster: str) -> bool:
        """Whether it was closed since this turn began."""
        now = self.store.get(cluster)
        return now is None or now.state == State.CLOSING

    def _python(self, cluster: Cluster) -> Path:
        image = self.policy.current().images.get(cluster.image)
        if image is None or image.environment is None:
            raise Refused(f"facility.yaml (images.{cluster.image}) names no Python environment for jobs any more")
        return image.environment / "bin" / "python"
