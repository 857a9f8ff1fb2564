"""The address of this node that other nodes of the site reach.

Serves the hop between scheduler and workers, which stays inside the site. The machine ad that HTCondor gives a job (file named by
``_CONDOR_MACHINE_AD``) knows it: ``MyAddress`` is where the startd is reached, ``PrivAddr`` inside it its address on the private network.
"""

import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs

MY_ADDRESS = re.compile(r'^MyAddress\s*=\s*"(.*)"\s*$', re.MULTILINE)
SINFUL = re.compile(r"<(?:\[([0-9a-fA-F:]+)\]|([^:<>?]+)):\d+(?:\?([^<>]*))?>")
"""HTCondor's way to write an address: ``<host:port?name=value&…>``."""


def read_site_addresses(machine_ad: str) -> list[str]:
    """The node's addresses that its machine ad tells, the private one first; empty when it tells none."""
    found = MY_ADDRESS.search(machine_ad)
    return _hosts(found.group(1)) if found else []


def _hosts(sinful: str) -> list[str]:
    match = SINFUL.fullmatch(sinful)
    if not match:
        return []
    private = parse_qs(match.group(3) or "").get("PrivAddr", [])
    return [host for address in private for host in _hosts(address)] + [match.group(1) or match.group(2)]


def site_address(bind: str, towards: str) -> str:
    """The address to listen on: ``bind`` if given, else the machine ad's, else that of packets to ``towards`` (host or IP).

    An address that this process cannot bind (it may be in a network namespace of its own) is passed over.
    """
    candidates = [bind] if bind else [*read_site_addresses(_machine_ad()), *_outbound(towards)]
    return next(filter(_can_bind, candidates), "127.0.0.1")


def _machine_ad() -> str:
    try:
        return Path(os.environ["_CONDOR_MACHINE_AD"]).read_text()
    except (KeyError, OSError):
        return ""


def _outbound(towards: str) -> Iterable[str]:
    try:
        family, kind, _, _, address = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            yield probe.getsockname()[0]
    except OSError:
        return


def _can_bind(host: str) -> bool:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
