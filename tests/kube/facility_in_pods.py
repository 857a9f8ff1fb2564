"""The demo's facility with sessions as pods, and with other options than the demo's own, for tests.

``python facility_in_pods.py FOLDER PODS OPTIONS READY_FD`` until SIGTERM, or until its parent dies: ``PODS`` is a file of
:class:`~af_hub.demo.pods.PodSessions`, the options are further ones of :class:`~af_hub.demo.facility.Facility`, as JSON. What dies is
started again, as in the demo.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from af_hub.demo.facility import Facility
from af_hub.demo.pods import PodSessions
from af_hub.demo.processes import be_guarded
from af_hub.demo.revival import Revival
from af_hub.ready import say_ready
from af_hub.session.processes import die_with
from af_hub.testing.places import CHECKOUT

LOOK_SECONDS = 0.25


def main(folder: str, pods: str, options: str, ready_fd: str) -> None:
    """Serve until the end."""
    die_with(os.getppid(), signal.SIGTERM)
    be_guarded(lambda: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    facility = Facility(CHECKOUT, Path(folder), **PodSessions.read(Path(pods)).facility(), **json.loads(options))
    try:
        facility.start()
        say_ready(int(ready_fd), **facility.facts())
        revival = Revival(print)
        while True:
            revival.look(facility.parts())
            time.sleep(LOOK_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        facility.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
