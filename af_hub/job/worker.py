"""A Dask worker as a process of its own: ``python -m af_hub.job.worker``, one more job, or beside the scheduler again after it was retired.

Serves the start and the end; what is between them is :mod:`af_hub.job.nanny`'s. Promises: each task has one thread of the mathematical
libraries, which is settled before they are loaded; no key is left in the job's sandbox.
"""

import argparse
import os
import sys

from af_hub.errors import AFError
from af_hub.job import sandbox
from af_hub.job.begin import settings
from af_hub.job.enclosure import enclose


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="af_hub.job.worker", description="A Dask worker.")
    parser.add_argument(
        "--agent-fd", type=int, metavar="N", help="socket that brings worker.json's text; its end ends us"
    )
    args = parser.parse_args()
    enclose()
    os.environ.update(settings())
    sandbox.protect_secrets()
    from af_hub.job.dask_nodes import stay_in_sandbox
    from af_hub.job.nanny import work

    stay_in_sandbox()
    try:
        work(args.agent_fd)
    except AFError as error:
        sys.exit(f"af_hub.job.worker: {error}")
    finally:
        if args.agent_fd is None:
            sandbox.remove_secrets()


if __name__ == "__main__":
    main()
