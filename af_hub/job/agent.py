"""The job agent, main process of a scheduler job: ``python -m af_hub.job.agent`` in the job's sandbox.

Serves the hop from the site to the forwarder. What it does all its life is :mod:`af_hub.job.life`'s; this is its beginning and its end.
Promises: Dask begins to load before all else, for it takes longest; after the agent ended there is no child, no key file and no socket of
its own.

Exit status: 0 closed, expired, or shut down by a client; 3 the scheduler died; 4 the files that came with the job cannot be used; 5 the
forwarder could never be reached. Whatever is not 0 leaves its reason in the job's ad (:mod:`af_hub.job.start`).
"""

import logging
import sys

from af_hub.job.begin import age, begin_dask
from af_hub.job.enclosure import enclose

log = logging.getLogger("af_hub.job.agent")


def main() -> None:
    """Run the job; its log is ``agent.log``."""
    enclose()
    logging.basicConfig(
        filename="agent.log", level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    log.info("the job agent begins, %.2f s after its process", age())
    dask = begin_dask()
    from af_hub.job.life import live  # takes as long as a third of Dask

    sys.exit(live(dask))


if __name__ == "__main__":
    main()
