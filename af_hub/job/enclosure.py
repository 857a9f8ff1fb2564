"""What each process of a job does before all else, so that its neighbours on the worker node get nothing of it.

Serves agent and workers, whose children inherit it. Promises: files are made for their owner only; temporary files, which hold whatever
tasks and libraries put there, lie in the job's sandbox and not in the node's ``/tmp``; no memory image, which would hold keys, is written
when a process crashes; no token of the node's own is taken for the person's. Imports next to nothing, since a job is waited for.
"""

import os
import resource

SCRATCH = "scratch"
TEMPORARY = ("TMPDIR", "TEMP", "TMP")
TOKEN = "BEARER_TOKEN"  # noqa: S105
"""Clients look here before they look for a file (WLCG Bearer Token Discovery, step 1)."""


def enclose() -> None:
    """Keep to the working directory, the sandbox, from now on."""
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    scratch = os.path.abspath(SCRATCH)  # noqa: PTH100
    os.makedirs(scratch, mode=0o700, exist_ok=True)  # noqa: PTH103
    os.environ.update(dict.fromkeys(TEMPORARY, scratch))
    os.environ.pop(TOKEN, None)
