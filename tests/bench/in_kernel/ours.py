"""``RemoteHTCondor`` to the first result, with what controller and job tell of the time between."""

import time
from collections.abc import Iterator
from typing import Any

from dask.distributed import Client

from af_hub.client.remote import RemoteHTCondor

CONNECTS = "connecting"


def measured(site: str, memory: str) -> Iterator[dict[str, Any]]:
    """Begin, end, and logs; the cluster is closed when this is asked to go on."""
    began = time.time()
    cluster = RemoteHTCondor(sitename=site, user_memory=memory, quiet=True)
    client = Client(cluster)
    connected = time.time()
    assert client.submit(lambda: 1 + 1).result() == 2
    ended = time.time()
    runs = next(when.timestamp() for when, text in cluster._cluster_manager_logs if text.endswith(CONNECTS))
    (found,) = (one for one in RemoteHTCondor.list() if one["id"] == cluster.cluster_id)
    said = {"began": began, "ended": ended, "runs": runs, "connected": connected, "cluster": found}
    yield said | {"logs": cluster.logs()}
    client.close()
    cluster.close()
