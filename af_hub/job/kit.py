"""The files that come with a job: what controller and job agree on, said once.

Serves the controller, which makes them (:mod:`af_hub.controller.kit`), and agent, scheduler and worker at their start. Promises: what is
missing or cannot be is named in one sentence; a key never shows. The files lie in the working directory, the job's sandbox: ``job.json``
and keys for the job agent, ``worker.json`` and keys for one more worker.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from af_hub.errors import JobKitError
from af_hub.forwarder.access import is_dask_cluster
from af_hub.forwarder.login import ForwarderAddress

GIB = 1 << 30

CA = "tls-ca.pem"
SCHEDULER_CERTIFICATE, SCHEDULER_KEY = "tls-scheduler.pem", "tls-scheduler.key"
WORKER_CERTIFICATE, WORKER_KEY = "tls-worker.pem", "tls-worker.key"
SSH_CERTIFICATE, SSH_KEY = "ssh.cert", "ssh.key"
DASHBOARD_SOCKET = Path("dashboard.sock")
AGENT_SOCKET = Path("agent.sock")
WORKER_FILES = (CA, WORKER_CERTIFICATE, WORKER_KEY)
SCHEDULER_FILES = (SSH_KEY, SSH_CERTIFICATE, SCHEDULER_CERTIFICATE, SCHEDULER_KEY, *WORKER_FILES)
SECRET_FILES = (SCHEDULER_KEY, WORKER_KEY, SSH_KEY)

START = "start.py"
"""The program that a scheduler job runs first, :mod:`af_hub.job.start`, as it comes along."""

PATIENCE = 60.0

LOG_PARTS = ("agent", "scheduler", "worker")
"""Who writes a log in a scheduler job: ``agent.log`` and so on."""

T = TypeVar("T")


@dataclass(frozen=True)
class JobKit:
    """``job.json``: what the job agent has to run.

    Attributes
    ----------
    memory_limit
        Bytes that the whole job may use.
    expires_at
        Unix time at which the job ends.
    bind
        Address to listen on; the machine ad's when empty.
    patience
        Seconds for which the forwarder may be out of reach at first.
    """

    dask_cluster: str
    site: str
    forwarder: ForwarderAddress
    nthreads: int
    memory_limit: int
    expires_at: float
    bind: str = ""
    patience: float = PATIENCE

    def as_json(self) -> str:
        """The text of ``job.json``."""
        return _as_json(self)


@dataclass(frozen=True)
class WorkerKit:
    """``worker.json``: what one worker has to know."""

    dask_cluster: str
    scheduler: str
    name: str
    nthreads: int
    memory_limit: int
    expires_at: float
    bind: str = ""

    def as_json(self) -> str:
        """The text of ``worker.json``, on one line."""
        return _as_json(self)


def read_job_kit(text: str) -> JobKit:
    """Read the text of ``job.json``; raises JobKitError."""
    facts = _object("job.json", text)
    forwarder = _get("job.json", facts, "forwarder", dict)
    return JobKit(
        site=_get("job.json", facts, "site", str),
        forwarder=ForwarderAddress(
            host=_get("job.json forwarder", forwarder, "host", str),
            port=_get("job.json forwarder", forwarder, "port", int),
            host_key=_get("job.json forwarder", forwarder, "host_key", str),
        ),
        patience=_get("job.json", {"patience": PATIENCE, **facts}, "patience", float),
        **_in_common("job.json", facts),
    )


def read_worker_kit(text: str) -> WorkerKit:
    """Read the text of ``worker.json``; raises JobKitError."""
    facts = _object("worker.json", text)
    return WorkerKit(
        scheduler=_get("worker.json", facts, "scheduler", str),
        name=_get("worker.json", facts, "name", str),
        **_in_common("worker.json", facts),
    )


def _in_common(what: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dask_cluster": _dask_cluster(what, facts),
        "nthreads": _get(what, facts, "nthreads", int),
        "memory_limit": _get(what, facts, "memory_limit", int),
        "expires_at": _get(what, facts, "expires_at", float),
        "bind": _get(what, {"bind": "", **facts}, "bind", str),
    }


def _as_json(kit: JobKit | WorkerKit) -> str:
    facts = asdict(kit)
    return json.dumps({"cluster": facts.pop("dask_cluster"), **facts})


def scheduler_memory(worker_memory: int) -> int:
    """Bytes for a scheduler job whose first worker may use ``worker_memory``; what undoes it is :func:`first_worker_memory`."""
    return max(worker_memory + GIB, -(-worker_memory * 5 // 4))


def worker_job_memory(worker_memory: int) -> int:
    """Bytes for a worker job: Dask's nanny is a process of its own."""
    return worker_memory + GIB // 8


def first_worker_memory(job_memory: int) -> int:
    """Bytes that the first worker may use: what scheduler and agent need, 20 % and at least 1 GiB, stays theirs.

    A job too small for that gives them half.
    """
    return job_memory - max(job_memory // 5, min(GIB, job_memory // 2))


def worker_name(dask_cluster: str, number: int) -> str:
    """The name of a worker; 0 is the first, which runs beside the scheduler."""
    return f"{dask_cluster[:8]}-{number}"


def _object(what: str, text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise JobKitError(f"{what} is no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise JobKitError(f"{what} is no JSON object")
    return facts


def _get(what: str, facts: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = facts.get(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value <= 0):
        raise JobKitError(
            f"{what}: {name!r} should be {kind.__name__}{' above 0' if kind is int else ''}, found {value!r}"
        )
    return value


def _dask_cluster(what: str, facts: Mapping[str, Any]) -> str:
    dask_cluster = _get(what, facts, "cluster", str)
    if not is_dask_cluster(dask_cluster):
        raise JobKitError(f"{what}: 'cluster' should be 32 lowercase hexadecimal digits")
    return dask_cluster
