"""Reading as a client does: in a process of its own, since XRootD takes its configuration from the environment once."""

import json
import subprocess
import sys

READ = """
import json, os, sys, time
from XRootD import client
began = time.monotonic()
file = client.File()
status, _ = file.open(sys.argv[1])
answer = {"ok": status.ok, "message": status.message.strip(), "server": "", "bytes": 0}
if status.ok:
    answer["server"] = file.get_property("DataServer").rpartition("@")[2]
    status, data = file.read()
    answer |= {"ok": status.ok, "message": status.message.strip(), "bytes": len(data or b"")}
    file.close()
answer["seconds"] = time.monotonic() - began
print(json.dumps(answer), flush=True)
os._exit(0)
"""


def read(url: str, environment: dict[str, str], seconds: float = 60) -> dict:
    """Read a whole file and say what came of it."""
    done = subprocess.run(
        [sys.executable, "-c", READ, url], env=environment, capture_output=True, text=True, timeout=seconds, check=True
    )
    return json.loads(done.stdout)
