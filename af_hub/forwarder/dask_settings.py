"""What Dask must be told when a tunnel lies between client and scheduler.

Serves the client's end (session, laptop) and the scheduler's (job); both read it here and nowhere else. Measured reasons are with
each setting.
"""

import json
from collections.abc import Mapping

PATIENCE = 600
"""Seconds for which a bridge holds a connection that it cannot pass on yet."""

CLIENT: Mapping[str, object] = {
    # A call that needs a new connection while the way is broken fails after this time, and a client whose connection broke
    # stops trying; the bridge holds what it accepts for PATIENCE, so Dask should wait as long.
    "distributed.comm.timeouts.connect": f"{PATIENCE}s",
    # Becomes TCP_USER_TIMEOUT: with a full window the kernel kills the local connection after this time, although the
    # other end lives (a 200 MB scatter dies after the default 30 s).
    "distributed.comm.timeouts.tcp": "900s",
    # Workers have private addresses: gather and scatter go through the scheduler.
    "distributed.client.direct-to-workers": False,
}

SCHEDULER: Mapping[str, object] = {
    "distributed.comm.timeouts.tcp": "900s",
    # The proxy to workers' own pages would let the dashboard's reader make requests from inside the site.
    "distributed.scheduler.http.routes": [
        "distributed.http.scheduler.prometheus",
        "distributed.http.scheduler.info",
        "distributed.http.scheduler.json",
        "distributed.http.health",
        "distributed.http.statics",
    ],
    # The page is reached under the hub's name, which the job does not know; who may connect is the certificate's matter.
    "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin": ["*"],
}


def as_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """The same as variables that Dask reads at import, e.g. ``DASK_DISTRIBUTED__CLIENT__DIRECT_TO_WORKERS=false``."""
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): value
        if isinstance(value, str)
        else json.dumps(value)
        for name, value in settings.items()
    }
