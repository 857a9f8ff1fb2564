"""The loop that makes the pool match the rows.

Each round looks at the pool once, then takes each cluster on its own: :func:`~af_hub.controller.plan.plan` decides,
:mod:`af_hub.controller.hands` act. Beside it :mod:`af_hub.controller.tokens` keeps the tokens of the jobs fresh.
Promises: a cluster whose turn still runs, or whose jobs were looked up before its last turn ended, waits for the next round, so
nothing is decided on old news; trouble with one cluster, one person or one pool stops no other; the process may end between any
two actions. Leaves to :mod:`af_hub.controller.pool` how jobs come and go, and to :mod:`af_hub.controller.sight` what is seen of them.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from af_hub.backoff import backoff
from af_hub.condor.jobstatus import JobState
from af_hub.condor.why import Ending
from af_hub.controller.hands import Hands
from af_hub.controller.model import Cluster
from af_hub.controller.plan import POOL_PATIENCE, known_unseen, missing_job, plan, without_pool
from af_hub.controller.sight import Sight
from af_hub.controller.states import State
from af_hub.controller.steps import Circumstances, Job
from af_hub.controller.tokens import Tokens
from af_hub.errors import AFError

log = logging.getLogger(__name__)

BUSY_SECONDS = 1.0
"""Between two looks at the pool while some cluster is on its way up or down."""

CALM_SECONDS = 5.0
"""... while all are as wanted."""

SWEEP_SECONDS = 60.0
"""... while there is none; finds jobs of clusters that were over before their submit was through."""

REST_SECONDS = 0.2
"""After each look, whoever calls: a job may come to the forwarder and go again as often as its owner likes."""

LONGEST_PAUSE = 30.0
"""Before a cluster whose last turn failed is tried again."""


@dataclass
class Turn:
    """What the loop remembers of one cluster between rounds; forgetting it all at a restart does no harm."""

    task: asyncio.Task[None] | None = None
    began_at: float = 0.0
    troubled_since: float | None = None
    ended_at: float = 0.0
    failures: int = 0
    not_before: float = 0.0


@dataclass
class Reconciler:
    """The loop, which looks and says what is to be done; ``hands`` do it, and have all that it works with."""

    hands: Hands
    _turns: dict[str, Turn] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _hasty: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _swept_at: float = 0.0

    def __post_init__(self) -> None:
        hands = self.hands
        self._store, self._pool, self._agents, self._clock = hands.store, hands.pool, hands.agents, hands.clock
        self._sight = Sight(self._pool, self._clock, self.wake)
        self.tokens = Tokens(self._store, hands.hub, self._agents, self._clock)

    async def keep_matching(self) -> None:
        """Go on for ever."""
        while True:
            self._wake.clear()
            try:
                pause = await self.round()
            except Exception:
                log.exception("a round failed; the next one comes")
                pause = CALM_SECONDS
            await asyncio.sleep(REST_SECONDS)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def wake(self, cluster: str = "") -> None:
        """Look at once, and do not let ``cluster`` wait for earlier failures."""
        if cluster in self._turns:
            self._turns[cluster].not_before = 0.0
        self._wake.set()

    def hasten(self, cluster: str) -> None:
        """Something became known of ``cluster`` that may need no look at the pool."""
        self.tokens.changed(cluster)
        self._hasty.put_nowait(cluster)

    async def keep_hastening(self) -> None:
        """Go on for ever; a look comes after what needed none, so as not to take its time."""
        while True:
            cluster = await self._hasty.get()
            try:
                turn = self.without_look(cluster)
            except Exception:
                log.exception("cluster %s cannot be hastened; its turn comes", cluster)
                turn = None
            if turn is None:
                self._wake.set()
            else:
                turn.add_done_callback(lambda _: self._wake.set())

    def without_look(self, cluster_id: str) -> asyncio.Task[None] | None:
        """Begin the turn of a cluster whose jobs are known without a look, unless it has just had one."""
        cluster, now = self._store.get(cluster_id), self._clock()
        jobs = known_unseen(cluster.wish(), self._agents.came(cluster_id), now) if cluster else None
        if cluster and jobs is not None and self._may_turn(cluster_id, now - REST_SECONDS):
            return self._begin_turn(cluster, jobs)
        return None

    async def round(self) -> float:
        """Look at the pool once and begin a turn of every cluster that needs one; returns seconds until the next look."""
        sweep = self._clock() - self._swept_at >= SWEEP_SECONDS
        if not sweep and not self._store.unfinished():
            return SWEEP_SECONDS
        if sweep:
            self._swept_at = self._clock()
        pools = list(self.hands.policy.current().pools)
        seen = await self._sight.look(pools)
        clusters = self._store.unfinished(also={name for look in seen.values() for name in look.jobs or ()})
        for cluster in clusters:
            look = seen.get(cluster.pool)
            if cluster.pool not in pools:
                self._without_pool(cluster, f"facility.yaml has no pool {cluster.pool} any more", POOL_PATIENCE)
            elif look and look.jobs is None:
                self._without_pool(cluster, look.trouble, look.silent_for)
            elif look and look.jobs is not None and self._may_turn(cluster.id, look.at):
                self._begin_turn(cluster, self._sight.owned(cluster, look.jobs.get(cluster.id, ())))
        for over in set(self._turns) - {cluster.id for cluster in clusters}:
            if self._turns[over].task is None:
                del self._turns[over]
        on_their_way = [one for one in clusters if one.state != State.RUNNING and not one.forgotten]
        hurry = any(one.pool not in seen or seen[one.pool].silent_for < 2 * POOL_PATIENCE for one in on_their_way)
        return BUSY_SECONDS if hurry else CALM_SECONDS

    async def settle(self) -> None:
        """Wait for the turns that have begun."""
        await asyncio.gather(*(turn.task for turn in self._turns.values() if turn.task))
        await self._sight.settle()
        await self.tokens.settle()

    async def close(self) -> None:
        """End all turns, wherever they are."""
        tasks = [turn.task for turn in self._turns.values() if turn.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sight.close()
        await self.tokens.close()

    def _may_turn(self, cluster: str, looked_at: float) -> bool:
        turn = self._turns.get(cluster)
        return turn is None or (turn.task is None and turn.ended_at <= looked_at and turn.not_before <= self._clock())

    def _begin_turn(self, cluster: Cluster, jobs: tuple[Job, ...]) -> asyncio.Task[None]:
        turn = self._turns.setdefault(cluster.id, Turn())
        turn.began_at = self._clock()
        turn.task = asyncio.create_task(self._turn(cluster, jobs, turn))
        return turn.task

    def _without_pool(self, cluster: Cluster, trouble: str, silent_for: float) -> None:
        for action in without_pool(cluster.wish(), trouble, silent_for):
            self._store.become(cluster.id, State(cluster.state), action.state, action.reason, self._clock())

    async def _turn(self, cluster: Cluster, jobs: tuple[Job, ...], turn: Turn) -> None:
        """One cluster's turn: decide, act, and take what goes wrong for itself."""
        try:
            await self._match(cluster, jobs)
            turn.failures, turn.troubled_since = 0, None
        except AFError as error:
            self._trouble(cluster, turn, str(error))
        except Exception:
            log.exception("cluster %s: a fault of ours", cluster.id)
            self._trouble(cluster, turn, "the controller made a mistake, its log says more; it tries again")
        finally:
            turn.ended_at = self._clock()
            turn.task = None

    def _trouble(self, cluster: Cluster, turn: Turn, sentence: str) -> None:
        turn.failures += 1
        turn.troubled_since = turn.troubled_since or turn.began_at
        turn.not_before = self._clock() + backoff(turn.failures, least=1, most=LONGEST_PAUSE)
        log.warning("cluster %s of %s (%s): %s", cluster.id, cluster.owner, cluster.state, sentence)
        self._tell(cluster.id, sentence)

    def _tell(self, cluster: str, sentence: str) -> None:
        """Put a sentence beside the state; how it ended is not written over."""
        now = self._store.get(cluster)
        if now and not State(now.state).over:
            self._store.become(cluster, State(now.state), State(now.state), sentence, self._clock())

    async def _match(self, cluster: Cluster, jobs: tuple[Job, ...]) -> None:
        report = None if State(cluster.state).over else await self._agents.report(cluster.id)
        if report and len(report.workers) != cluster.workers_running:
            self._store.report(cluster.id, len(report.workers))
        if report and report.scheduler and not cluster.has_run:
            await self.tokens.before_use(cluster.id, cluster.owner)
        around = await self._circumstances(cluster, jobs)
        for action in plan(cluster.wish(), jobs, report, self._clock(), around):
            if not await self.hands.act(cluster, action, lambda: self._is_patient(cluster.id)):
                return

    def _is_patient(self, cluster: str) -> bool:
        """Whether the batch system has not been away for this cluster long enough to give it up."""
        turn = self._turns[cluster]
        return self._clock() - (turn.troubled_since or turn.began_at) < POOL_PATIENCE

    async def _circumstances(self, cluster: Cluster, jobs: tuple[Job, ...]) -> Circumstances:
        waits = any(job.state is JobState.IDLE for job in jobs)
        return Circumstances(
            slots=self._sight.slots(cluster.pool, cluster.site) if waits else None,
            ending=await self._ending(cluster, jobs),
            forwarder=f"the forwarder at {self.hands.forwarder.host} port {self.hands.forwarder.port}",
            cut_off=self._agents.cut_off,
            tokens=self.tokens.trouble(cluster.id, cluster.owner),
        )

    async def _ending(self, cluster: Cluster, jobs: tuple[Job, ...]) -> Ending | None:
        """How the scheduler job ended, if it is missing; nothing depends on the answer."""
        job = missing_job(cluster.wish(), jobs)
        try:
            return await self._pool.ending(cluster.pool, job) if job else None
        except AFError as error:
            log.info("cluster %s: the end of job %s is not known: %s", cluster.id, job, error)
            return None
