"""The demo's facility with other options than the demo's own, for tests; what dies is started again, as in the demo.

``python facility_with.py FOLDER OPTIONS READY_FD`` until SIGTERM, or until its parent dies. The options are those of
:class:`~af_hub.demo.facility.Facility`, as JSON; ``pods`` among them is a file of :class:`~af_hub.demo.pods.PodSessions`, where sessions are pods.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from af_hub.demo.facility import Facility
from af_hub.demo.pods import PodSessions
from af_hub.demo.processes import be_guarded
from af_hub.demo.revival import Revival
from af_hub.ready import say_ready
from af_hub.session.processes import die_with
from af_hub.testing.places import CHECKOUT

LOOK_SECONDS = 0.25


def make(folder: Path, pods: str = "", **options: Any) -> Facility:
    """The facility, not started yet."""
    in_pods = PodSessions.read(Path(pods)).facility() if pods else {}
    return Facility(CHECKOUT, folder, **in_pods, **options)


def main(folder: str, options: str, ready_fd: str) -> None:
    """Serve until the end."""
    die_with(os.getppid(), signal.SIGTERM)
    be_guarded(lambda: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    facility = make(Path(folder), **json.loads(options))
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
