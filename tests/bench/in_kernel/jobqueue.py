"""dask-jobqueue's HTCondorCluster on the same pool to the first result: its scheduler runs here, its worker as a spooled job."""

import os
import sys
import time
from collections.abc import Iterator, Mapping

from dask.distributed import Client


def measured(
    site: str, memory: str, address: str, folder: str, modules: str, environment: Mapping[str, str]
) -> Iterator[dict[str, float]]:
    """Begin and end; the cluster is closed when this is asked to go on."""
    os.environ |= environment
    sys.path.append(modules)
    from dask_jobqueue.htcondor import HTCondorCluster

    began = time.time()
    cluster = HTCondorCluster(
        n_workers=1,
        cores=1,
        processes=1,
        memory=memory,
        disk="1 GiB",
        security=True,
        shared_temp_directory=folder,
        local_directory="scratch",
        scheduler_options={"host": "tls://127.0.0.1:0", "dashboard_address": "127.0.0.1:0"},
        worker_extra_args=["--host", address],
        submit_command_extra=["-spool"],
        job_extra_directives={
            "requirements": f'TARGET.SiteName == "{site}"',
            "leave_in_queue": "False",
            "transfer_output_files": '""',
        },
    )
    client = Client(cluster)
    assert client.submit(lambda: 1 + 1).result() == 2
    yield {"began": began, "ended": time.time()}
    client.close()
    cluster.close()
