"""What a plan for one Dask cluster is made from and made of: row, jobs, agent's report, circumstances; and the actions.

Values only: :mod:`af_hub.controller.plan` decides with them, :mod:`af_hub.controller.reconcile` acts.
"""

from dataclasses import dataclass

from af_hub.condor.ads import SiteSlots
from af_hub.condor.jobstatus import JobState
from af_hub.condor.why import Ending
from af_hub.controller.states import Role, State
from af_hub.job.kit import worker_name


@dataclass(frozen=True)
class Job:
    """One job in the pool's queue that carries our cluster's id.

    Parameters
    ----------
    reason
        Why it is held, as a clause.
    since
        When it got into its state, Unix time.
    account
        Whose it is in the pool.
    says
        What the job itself says about its trouble.
    starts
        How often it has been started.
    ending
        How it ended; None while it has not.
    """

    id: str
    role: Role
    state: JobState
    worker: str = ""
    reason: str = ""
    since: float = 0.0
    account: str = ""
    says: str = ""
    starts: int = 0
    ending: Ending | None = None


@dataclass(frozen=True)
class Tracked:
    """One job that we submitted, as the row remembers it; ``job`` is empty when the answer to the submit got lost."""

    role: Role
    worker: str = ""
    job: str = ""
    retiring_since: float | None = None


@dataclass(frozen=True)
class Wish:
    """One cluster as its row says; ``ran_at`` is when its scheduler was first seen to serve, Unix time."""

    id: str
    state: State
    site: str
    workers: int
    expires_at: float
    image: str = ""
    cores: int = 1
    memory: int = 0
    account: str = ""
    reason: str = ""
    tracked: tuple[Tracked, ...] = ()
    next_worker: int = 1
    workers_lost: int = 0
    has_run: bool = False
    ran_at: float | None = None
    forgotten: bool = False

    @property
    def scheduler(self) -> Tracked | None:
        """The scheduler job, once it was submitted."""
        return next((one for one in self.tracked if one.role is Role.SCHEDULER), None)

    @property
    def first_worker(self) -> str:
        """The name of the worker that runs beside the scheduler."""
        return worker_name(self.id, 0)


@dataclass(frozen=True)
class Report:
    """What the job agent answered: the scheduler's address for workers (empty until it serves), and the workers' names.

    ``trouble`` says why there is no answer, although the agent is connected to the forwarder.
    """

    scheduler: str = ""
    workers: frozenset[str] = frozenset()
    trouble: str = ""


@dataclass(frozen=True)
class Circumstances:
    """What else is known, for the sentence beside the state.

    Parameters
    ----------
    slots
        What the site has; None when that is not known.
    ending
        How the scheduler job ended that is missing from the queue; None when that is not known.
    forwarder
        Where jobs dial the forwarder, ``host:port``.
    cut_off
        Why the controller itself has no way to the forwarder; empty while it has one.
    tokens
        Why the cluster's jobs get no more tokens, and until when the last one is good; empty while they do.
    """

    slots: SiteSlots | None = None
    ending: Ending | None = None
    forwarder: str = "the forwarder"
    cut_off: str = ""
    tokens: str = ""


@dataclass(frozen=True)
class SubmitScheduler:
    """Submit the scheduler job."""


@dataclass(frozen=True)
class SubmitWorkers:
    """Submit one worker job for each name."""

    names: tuple[str, ...]
    scheduler: str


@dataclass(frozen=True)
class WantFirstWorker:
    """Tell the agent whether the worker beside the scheduler should run."""

    wanted: bool


@dataclass(frozen=True)
class RetireWorkers:
    """Let these workers hand over what they hold, then remove their jobs."""

    names: tuple[str, ...]
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class RemoveJobs:
    """Take these jobs out of the queue."""

    jobs: tuple[str, ...]


@dataclass(frozen=True)
class AskToClose:
    """Tell the agent that the cluster ends."""


@dataclass(frozen=True)
class Become:
    """Write state and reason into the row."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Track:
    """Write jobs into the row that the pool has and the row has not: their submit's answer got lost."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class LoseWorkers:
    """Strike worker jobs from the row that ended by themselves, and count them."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Forget:
    """Remove the cluster's keys and whatever the forwarder still holds of it."""


Action = (
    SubmitScheduler
    | SubmitWorkers
    | WantFirstWorker
    | RetireWorkers
    | RemoveJobs
    | AskToClose
    | Become
    | Track
    | LoseWorkers
    | Forget
)
