"""What travels with the jobs of one Dask cluster: put together here, in the shape that :mod:`af_hub.job.kit` reads.

Serves the hop controller → batch system. A scheduler job has room for scheduler, job agent and the first worker. Keys come from
:mod:`af_hub.controller.keys`; those that a site must not have (authority, controller) stay behind.
"""

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from af_hub.controller.keys import ClusterKeys
from af_hub.controller.model import Cluster
from af_hub.controller.pool import Order
from af_hub.controller.states import Role
from af_hub.forwarder.login import ForwarderAddress
from af_hub.job.kit import SCHEDULER_FILES, START, WORKER_FILES, JobKit, WorkerKit, scheduler_memory, worker_job_memory


def scheduler_order(
    cluster: Cluster, keys: ClusterKeys, forwarder: ForwarderAddress, python: Path, now: float
) -> Order:
    """The scheduler job."""
    memory = scheduler_memory(cluster.memory)
    job = JobKit(cluster.id, cluster.site, forwarder, cluster.cores, memory, cluster.expires_at)
    return Order(
        cluster=cluster.id,
        role=Role.SCHEDULER,
        site=cluster.site,
        python=python,
        arguments=(START, "af_hub.job.agent"),
        files=_keys(keys, SCHEDULER_FILES) | {"job.json": job.as_json().encode(), START: _start_program()},
        cores=cluster.cores,
        memory=memory,
        lifetime=int(cluster.expires_at - now),
    )


def worker_order(
    cluster: Cluster, keys: ClusterKeys, names: Sequence[str], scheduler: str, python: Path, now: float
) -> Order:
    """A worker job for each name; ``scheduler`` is the address at which workers reach it."""

    def kit(name: str) -> bytes:
        worker = WorkerKit(cluster.id, scheduler, name, cluster.cores, cluster.memory, cluster.expires_at)
        return worker.as_json().encode()

    return Order(
        cluster=cluster.id,
        role=Role.WORKER,
        site=cluster.site,
        python=python,
        arguments=("-m", "af_hub.job.worker"),
        files=_keys(keys, WORKER_FILES),
        cores=cluster.cores,
        memory=worker_job_memory(cluster.memory),
        lifetime=int(cluster.expires_at - now),
        workers={name: {"worker.json": kit(name)} for name in names},
    )


def _keys(keys: ClusterKeys, names: Sequence[str]) -> dict[str, bytes]:
    return {name: keys.path(name).read_bytes() for name in names}


def _start_program() -> bytes:
    """Read, not imported: it is the job's."""
    return importlib.resources.files("af_hub.job").joinpath(START).read_bytes()
