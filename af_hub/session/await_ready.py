"""Waits until the session agent of this pod is ready; what Kubernetes runs beside the agent right after its start (``postStart``).

Serves the hop from the agent to the user's server, whose container the kubelet makes when this has ended: at once, while a startup probe would be
looked at once a second. Promises: it ends, with status 0 when the file is there and 1 when it does not come in time.

    python3 -m af_hub.session.await_ready FILE SECONDS
"""

import sys
import time
from pathlib import Path

PAUSE_SECONDS = 0.02


def await_file(path: Path, seconds: float) -> bool:
    """Whether the file is there within so many seconds."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


if __name__ == "__main__":
    path, seconds = sys.argv[1:]
    if not await_file(Path(path), float(seconds)):
        sys.exit(f"the session agent was not ready within {seconds} s: {path} is not there")
