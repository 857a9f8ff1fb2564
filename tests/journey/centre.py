"""The facility without its sites, on an address that sites reach: what the outbound test runs in the centre.

``python centre.py FOLDER ADDRESS HOSTNAME CACHE_CLIENTS READY_FD`` until SIGTERM, or until its parent dies.
"""

import os
import signal
import sys
from pathlib import Path

from af_hub.demo.facility import Facility
from af_hub.demo.processes import be_guarded
from af_hub.ready import say_ready
from af_hub.session.processes import die_with
from af_hub.testing.places import CHECKOUT


def main(folder: str, address: str, hostname: str, cache_clients: str, ready_fd: str) -> None:
    """Serve until the end."""
    die_with(os.getppid(), signal.SIGTERM)
    be_guarded(lambda: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    facility = Facility(
        CHECKOUT, Path(folder), address=address, hostname=hostname, sites={}, cache_clients=cache_clients
    )
    try:
        facility.start()
        say_ready(int(ready_fd), **facility.facts())
        signal.pause()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        facility.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
