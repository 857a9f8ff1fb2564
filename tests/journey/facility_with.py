"""The demo's facility with other options than the demo's own, for tests.

``python facility_with.py FOLDER OPTIONS READY_FD`` until SIGTERM, or until its parent dies; the options are those of
:class:`~af_hub.demo.facility.Facility`, as JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path

from af_hub.demo.facility import Facility
from af_hub.demo.processes import be_guarded
from af_hub.ready import say_ready
from af_hub.session.processes import die_with
from af_hub.testing.places import CHECKOUT


def main(folder: str, options: str, ready_fd: str) -> None:
    """Serve until the end."""
    die_with(os.getppid(), signal.SIGTERM)
    be_guarded(lambda: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    facility = Facility(CHECKOUT, Path(folder), **json.loads(options))
    try:
        facility.start()
        say_ready(int(ready_fd), **facility.facts())
        signal.pause()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        facility.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
