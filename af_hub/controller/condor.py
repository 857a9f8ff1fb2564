"""HTCondor as the controller's batch system: its words to :mod:`af_hub.condor`'s and back, and nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from af_hub.condor.ads import DaskJob, SiteSlots, these_jobs
from af_hub.condor.jobstatus import JobState
from af_hub.condor.jobtoken import Owner
from af_hub.condor.pool import CondorPool
from af_hub.condor.submit import JobDescription, describe_job
from af_hub.condor.why import Ending
from af_hub.controller.pool import Credential, Order
from af_hub.controller.states import Role
from af_hub.controller.steps import Job
from af_hub.errors import Refused
from af_hub.policy.load import PolicyFile


class CondorPools:
    """The pools of ``facility.yaml``; a :class:`~af_hub.controller.pool.JobPool`.

    Parameters
    ----------
    reader_token_file
        Tokens of the pools that may read, one a line.
    scratch
        Folder for tokens and keys while a call lasts.
    """

    def __init__(self, policy: PolicyFile, reader_token_file: Path, scratch: Path | None = None) -> None:
        self._policy = policy
        self._reader_token_file = reader_token_file
        self._scratch = scratch

    async def jobs(self, pool: str) -> Mapping[str, Sequence[Job]]:
        """All jobs of Dask clusters in the queue, by cluster."""
        found: dict[str, list[Job]] = {}
        for job in await self._pool(pool).jobs(self._reader_token_file):
            if job.role in list(Role):
                found.setdefault(job.cluster, []).append(translate(job))
        return found

    async def submit(self, pool: str, order: Order, credential: Credential) -> Sequence[Job]:
        """Submit all jobs of the order, or none."""
        ids = await self._pool(pool).submit(credential.token, describe_job(describe(order)), spooled(order))
        return [
            Job(id, order.role, JobState.IDLE, worker) for id, worker in zip(ids, order.workers or ("",), strict=True)
        ]

    async def remove(self, pool: str, jobs: Sequence[str], credential: Credential) -> None:
        """Remove jobs of the credential's owner."""
        await self._pool(pool).remove(credential.token, these_jobs(jobs))

    async def ending(self, pool: str, job: str) -> Ending | None:
        """How a job ended, by the access point's history."""
        return await self._pool(pool).ending(self._reader_token_file, job)

    async def slots(self, pool: str) -> Mapping[str, SiteSlots]:
        """What each site has."""
        return await self._pool(pool).slots(self._reader_token_file)

    async def keep_token(self, pool: str, credential: Credential, job_token: str) -> None:
        """Leave a token at the access point, for the jobs of the credential's owner."""
        await self._pool(pool).keep_token(credential.token, job_token)

    async def token_owners(self, pool: str) -> frozenset[Owner]:
        """Who has jobs that ask for a token and have not ended."""
        return await self._pool(pool).token_owners(self._reader_token_file)

    def _pool(self, name: str) -> CondorPool:
        pool = self._policy.current().pools.get(name)
        if pool is None:
            raise Refused(f"facility.yaml has no pool {name} any more")
        return CondorPool(pool.collector, pool.schedd, pool.ca_file, scratch=self._scratch)


def translate(job: DaskJob) -> Job:
    """A job in the queue in the controller's words."""
    return Job(
        id=job.id,
        role=Role(job.role),
        state=job.state,
        worker=job.worker,
        reason=job.reason,
        since=job.since,
        account=job.account,
        says=job.says,
        starts=job.starts,
        ending=job.ending,
    )


def describe(order: Order) -> JobDescription:
    """The order as a job description."""
    return JobDescription(
        cluster=order.cluster,
        role=order.role,
        site=order.site,
        python=order.python,
        arguments=order.arguments,
        files=tuple(order.files),
        cores=order.cores,
        memory=order.memory,
        lifetime=order.lifetime,
        workers=tuple(order.workers),
        worker_files=tuple(next(iter(order.workers.values()), ())),
    )


def spooled(order: Order) -> dict[str, bytes]:
    """All files of the order, a worker's own below its name."""
    own = {f"{worker}/{name}": content for worker, files in order.workers.items() for name, content in files.items()}
    return dict(order.files) | own
