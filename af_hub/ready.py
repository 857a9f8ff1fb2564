"""How our daemons tell whoever started them that they serve: one line of JSON on an inherited pipe, then end of file."""

import json
import os


def say_ready(ready_fd: int | None, **facts: object) -> None:
    """Write ``facts`` (addresses, never secrets) to the pipe and close it; nothing happens without a pipe."""
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w") as pipe:
            pipe.write(json.dumps(facts) + "\n")
