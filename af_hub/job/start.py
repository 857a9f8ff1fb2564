"""What the Python of an image runs first in a scheduler job: ``python start.py MODULE``, in the job's sandbox.

Serves whoever waits for the Dask cluster: it runs the module, and when that fails it writes the last words into the job's own ad, where
the controller reads them with the job's state. So they arrive from an image that lacks everything, and where the forwarder cannot be
reached. It comes along as a file and needs the standard library only. Promises: words are one printable line of bounded length; that they
could not be written fails nothing. Job ads can be read by everybody who may read the queue, so nothing secret is said.

The way is the proxy that HTCondor's starter keeps for a job with ``+WantRemoteUpdates`` (HTCondor manual, "Chirp").
"""

import os
import re
import runpy
import socket
import sys
import traceback
from contextlib import suppress

ATTRIBUTE = "AFSays"
LENGTH = 1500
SECONDS = 5
LINES = 5
BETWEEN = " | "


def one_line(text: str) -> str:
    """The last lines of ``text`` as one, without what would end a ClassAd string; its end counts most."""
    lines = [" ".join(re.sub(r"[^ -~]", " ", line).split()) for line in text.splitlines()]
    line = BETWEEN.join([line for line in lines if line.strip("^~ ")][-LINES:])
    return line.replace('"', "'").replace("\\", "/")[-LENGTH:]


def command(text: str) -> bytes:
    """The proxy's command that sets the attribute; blanks inside a word are escaped."""
    value = '"' + one_line(text) + '"'
    return ("set_job_attr " + ATTRIBUTE + " " + value.replace(" ", "\\ ") + "\n").encode()


def say(text: str) -> bool:
    """Put ``text`` into the job's ad, in the place of what was said before; says whether that worked."""
    with suppress(OSError, ValueError):
        with open(os.path.join(os.environ.get("_CONDOR_SCRATCH_DIR", "."), ".chirp.config")) as file:  # noqa: PTH118, PTH123
            host, port, cookie = file.read().split()
        with socket.create_connection((host, int(port)), SECONDS) as stream, stream.makefile("rb") as answers:
            for order in (f"cookie {cookie}\n".encode(), command(text)):
                stream.sendall(order)
                if not answers.readline().startswith(b"0"):
                    return False
            return True
    return False


def main() -> None:
    """Run the module that the command line names."""
    module = sys.argv[1]
    sys.argv[:] = [module]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        say(traceback.format_exc())
        raise


if __name__ == "__main__":
    main()
