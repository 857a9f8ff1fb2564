"""Credentials for ``Client("tls://127.0.0.1:…")`` in any kernel of the session.

Dask asks here when an address is given without credentials (``distributed.client.security-loader``). Only the near ends of the session
agent's tunnels are known; for an address elsewhere Dask goes on as if nobody had asked.
"""

# Dask has types in places only.
# mypy: disable-error-code="no-untyped-call"

import os
from typing import Any

import dask
from distributed.security import Security

from af_hub.client.api import SessionAgent, Way
from af_hub.errors import Refused

NEAR_END = "tls://127.0.0.1:"


def load_security(info: dict[str, Any]) -> Security | None:
    """The credentials for the address in ``info``; None for an address that is not ours.

    Raises
    ------
    Unavailable
        When the session agent, which would know, does not answer.
    Refused
        When it knows of no cluster there, and Dask has no credentials of its own.
    """
    address = str(info.get("address", ""))
    if not address.startswith(NEAR_END) or not os.environ.get("AF_AGENT_SOCKET"):
        return None
    ways = SessionAgent.from_environment().ways()
    for way in ways:
        if way.scheduler == address:
            return security_of(way)
    if dask.config.get("distributed.comm.tls.ca-file", None):
        return None  # a cluster of their own, with credentials from Dask's configuration
    known = ", ".join(way.scheduler for way in ways) or "none"
    raise Refused(
        f"No Dask cluster of this session is reached at {address}; reached are: {known}. RemoteHTCondor.list() shows your "
        "clusters, Client(RemoteHTCondor.reach(NAME)) opens the way to one that runs."
    )


def security_of(way: Way) -> Security:
    """Mutual TLS with the cluster's own authority, as Dask takes it; files, so that nothing secret is in memory for long."""
    return Security(
        tls_ca_file=way.ca,
        tls_client_cert=way.certificate,
        tls_client_key=way.key,
        require_encryption=True,
    )
