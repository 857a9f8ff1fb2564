"""What travels with the jobs of one Dask cluster: rendered here, read by :mod:`af_hub.job`.

Serves the hop controller → batch system. A scheduler job has room for scheduler, job agent and the first worker. Keys come from
:mod:`af_hub.controller.keys`; those that a site must not have (authority, controller) stay behind.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from af_hub.controller.keys import ClusterKeys
from af_hub.controller.model import Cluster
from af_hub.controller.pool import Order
from af_hub.controller.states import Role
from af_hub.forwarder.client import ForwarderAddress

MIB = 2**20

WORKER_FILES = ("tls-ca.pem", "tls-worker.pem", "tls-worker.key")
SCHEDULER_FILES = ("ssh.key", "ssh.cert", "tls-scheduler.pem", "tls-scheduler.key", *WORKER_FILES)


def scheduler_memory(memory: int) -> int:
    """Bytes for scheduler, agent and a first worker of ``memory``: 1 GiB, or a fifth of the whole, is for the first two.

    The opposite of :func:`af_hub.job.kit.first_worker_memory`, which the job agent asks.
    """
    return max(memory + 1024 * MIB, -(-memory * 5 // 4))


def worker_memory(memory: int) -> int:
    """Bytes for a worker job: Dask's nanny is a process of its own."""
    return memory + 128 * MIB


def scheduler_order(
    cluster: Cluster, keys: ClusterKeys, forwarder: ForwarderAddress, python: Path, now: float
) -> Order:
    """The scheduler job."""
    job = {
        "cluster": cluster.id,
        "site": cluster.site,
        "forwarder": asdict(forwarder),
        "nthreads": cluster.cores,
        "memory_limit": scheduler_memory(cluster.memory),
        "expires_at": cluster.expires_at,
    }
    return Order(
        cluster=cluster.id,
        role=Role.SCHEDULER,
        site=cluster.site,
        python=python,
        module="af_hub.job.agent",
        files=_keys(keys, SCHEDULER_FILES) | {"job.json": _json(job)},
        cores=cluster.cores,
        memory=scheduler_memory(cluster.memory),
        lifetime=int(cluster.expires_at - now),
    )


def worker_order(
    cluster: Cluster, keys: ClusterKeys, names: Sequence[str], scheduler: str, python: Path, now: float
) -> Order:
    """A worker job for each name; ``scheduler`` is the address at which workers reach it."""
    worker = {
        "cluster": cluster.id,
        "scheduler": scheduler,
        "nthreads": cluster.cores,
        "memory_limit": cluster.memory,
        "expires_at": cluster.expires_at,
    }
    return Order(
        cluster=cluster.id,
        role=Role.WORKER,
        site=cluster.site,
        python=python,
        module="af_hub.job.worker",
        files=_keys(keys, WORKER_FILES),
        cores=cluster.cores,
        memory=worker_memory(cluster.memory),
        lifetime=int(cluster.expires_at - now),
        workers={name: {"worker.json": _json(worker | {"name": name})} for name in names},
    )


def _keys(keys: ClusterKeys, names: Sequence[str]) -> dict[str, bytes]:
    return {name: keys.path(name).read_bytes() for name in names}


def _json(found: dict[str, object]) -> bytes:
    return json.dumps(found, indent=1).encode()
