"""Submit descriptions of the jobs of a Dask cluster: rendering, nothing that acts.

It serves the hop controller → access point. A description never holds a secret: job ads can be read by everybody who may read
the queue, so keys travel as spooled files and nothing is put into ``environment``. ``htcondor2.Submit`` parses all that is
rendered here (golden tests).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from af_hub.policy.units import MEBIBYTE

HELD_SECONDS = 600
"""How long a job that ended in error is kept with its reason."""
VACATE_SECONDS = 8
"""How long a removed job may take to end by itself before it is killed."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f]|\$\(|\$\$")
_WORKER = re.compile(r"[A-Za-z0-9_.-]+\Z")


@dataclass(frozen=True)
class JobDescription:
    """The scheduler job of a Dask cluster, or several of its worker jobs, which are then submitted at once.

    Parameters
    ----------
    cluster
        Id of the Dask cluster, ``AFCluster`` in the ad.
    role
        ``scheduler`` or ``worker``, ``AFRole`` in the ad.
    site
        ``SiteName`` of the worker nodes where it may run.
    python
        Python of the image at the site.
    arguments
        What it is called with.
    files
        Names of the spooled files.
    memory, disk
        Bytes.
    lifetime
        Seconds after submission at which the pool removes it.
    workers
        Names of the Dask workers, one job for each, ``AFWorker`` in its ad; empty for a scheduler.
    worker_files
        Names of files that each worker has of its own: the submitter keeps them in a folder with the worker's name.
    """

    cluster: str
    role: str
    site: str
    python: PurePath
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    cores: int
    memory: int
    lifetime: int
    workers: tuple[str, ...] = ()
    worker_files: tuple[str, ...] = ()
    disk: int = 1024 * MEBIBYTE


def describe_job(job: JobDescription) -> str:
    """The submit description (HTCondor manual, condor_submit).

    Raises
    ------
    ValueError
        When a value would change the description's meaning.
    """
    if unfit := [name for name in job.workers if not _WORKER.match(name)]:
        raise ValueError(f"{unfit[0]!r} cannot be a worker's name: letters, digits, `_`, `.`, `-` were wanted")
    files = [*(plain(name) for name in job.files), *(f"$(AFName)/{plain(name)}" for name in job.worker_files)]
    lines = {
        "universe": "vanilla",
        "batch_name": f"Dask {job.cluster[:8]} {job.role}",
        "executable": plain(str(job.python)),
        "transfer_executable": "False",
        "arguments": quote_arguments(job.arguments),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": ", ".join(files),
        # Standard output and error only: without it, whatever the job leaves in its folder comes back.
        "transfer_output_files": '""',
        "output": "job.out",
        "error": "job.err",
        "requirements": f"TARGET.SiteName == {quote_string(job.site)}",
        "request_cpus": str(job.cores),
        "request_memory": f"{-(-job.memory // MEBIBYTE)}MB",
        "request_disk": f"{-(-job.disk // 1024)}KB",
        "notification": "Never",
        # A spooled job otherwise stays for ten days, with its files, until they are fetched.
        "leave_in_queue": "False",
        "job_max_vacate_time": str(VACATE_SECONDS),
        "periodic_remove": f"time() - QDate > {job.lifetime} || (JobStatus == 5 && time() - EnteredCurrentStatus > {HELD_SECONDS})",
        "periodic_remove_reason": quote_string("the Dask cluster has reached the end of its lifetime"),
        "+AFCluster": quote_string(job.cluster),
        "+AFRole": quote_string(job.role),
    }
    return "".join(f"{name} = {value}\n" for name, value in (lines | _of_role(job)).items()) + _queue(job)


def _of_role(job: JobDescription) -> dict[str, str]:
    if job.workers:
        return {"+AFWorker": '"$(AFName)"'}
    return {
        # The job may say in its own ad why it ends (af_hub.job.start); what the access point calls immutable stays as it is.
        "+WantRemoteUpdates": "True",
        "on_exit_hold": "ExitBySignal || ExitCode != 0",
        "on_exit_hold_reason": 'ExitBySignal ? strcat("the job agent was ended by signal ", ExitSignal) '
        ': strcat("the job agent ended with status ", ExitCode)',
    }


def _queue(job: JobDescription) -> str:
    return f"queue AFName in ({', '.join(job.workers)})\n" if job.workers else "queue\n"


def quote_arguments(arguments: Sequence[str]) -> str:
    """Arguments in HTCondor's new syntax: the whole in double quotes, an argument with blanks in single ones."""
    words = (plain(word).replace('"', '""').replace("'", "''") for word in arguments)
    return '"' + " ".join(f"'{word}'" if not word or " " in word or "'" in word else word for word in words) + '"'


def quote_string(text: str) -> str:
    """A ClassAd string literal."""
    return '"' + plain(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def plain(text: str) -> str:
    """``text``, which holds no line break and no macro.

    Raises
    ------
    ValueError
        When it does: it would change the description's meaning.
    """
    if _UNFIT.search(text):
        raise ValueError(f"{text!r} cannot stand in a submit description: it holds a control character or a macro")
    return text
