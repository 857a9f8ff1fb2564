"""Starts a demo whose sessions are pods, goes in, ends it, and prints as JSON what was seen and what is left: ``visit_demo.py FOLDER``.

Runs in a machine where nothing else happens, which :mod:`test_demo_kube` makes; the demo makes its own inside of that, as on anybody's machine.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from leftovers import traces

from af_hub.demo.check import CELL_SECONDS, USER, spawn, wait_until
from af_hub.demo.notebook import open_kernel
from af_hub.errors import Unavailable
from af_hub.testing.browser import sign_in
from af_hub.testing.process import Daemon, comes_true

IMAGE = "python-base"
START_SECONDS, END_SECONDS, LEFT_SECONDS = 240, 120, 20
SESSION = """
import json, os
from dask.distributed import Client
from af_hub.client.remote import RemoteHTCondor
cluster = RemoteHTCondor("T2_A", user_memory="512 MiB", start_timeout="60 s", quiet=True)
client = Client(cluster)
answer = client.submit(lambda: 6 * 7).result(timeout=60)
client.close()
cluster.close()
print(json.dumps({"answer": answer, "uid": os.getuid(), "pod": os.uname().nodename}))
"""


def visit(url: str) -> dict[str, Any]:
    """Log in, have a session and a Dask cluster: what was found there. The session goes on."""
    with closing(sign_in(url, USER)) as browser:
        spawn(browser, USER, IMAGE)
        with open_kernel(browser, f"/user/{USER}/") as kernel:
            printed = kernel.run(SESSION, CELL_SECONDS).splitlines()
    # Beside it Dask may warn of another patch level of Python at the sites.
    found: dict[str, Any] = json.loads(next(line for line in printed if line.startswith("{")))
    return found


def open_page(url: str) -> socket.socket:
    """A connection as pages have it that go on waiting."""
    address = urlsplit(url)
    assert address.hostname and address.port
    connection = socket.create_connection((address.hostname, address.port))
    connection.sendall(b"GET / HTTP/1.1\r\n")
    return connection


def pods(kubectl: str) -> list[str]:
    """Names of the sessions' pods, asked from outside with the program that the demo names."""
    argv = [kubectl, "get", "pods", "--namespace=af-sessions", "--output=name"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()


def there_and_back(folder: Path) -> dict[str, Any]:
    """All that was seen, and what is left.

    Raises
    ------
    Unavailable
        When the demo does not start.
    """
    temporary = folder / "t"
    temporary.mkdir()
    argv = [sys.executable, "-m", "af_hub.cli", "demo-kube", "--folder", str(folder / "d"), "--port", "0"]
    argv += ["--with-parent", "--ready-fd", "{ready_fd}"]
    before = traces()
    demo = Daemon("demo-kube", argv, folder / "log", env={**os.environ, "TMPDIR": str(temporary)})
    try:
        url = demo.start().ready(START_SECONDS)["url"]
        wait_until(lambda: "Ctrl-C ends all of it." in demo.log.read_text(), "it says how to end it")
        kubectl = re.findall(r"as root, (\S+) get pods", demo.log.read_text())[0]
        seen = {"url": url, "found": visit(url), "pods": pods(kubectl)}
        assert demo.process
        with open_page(url):
            os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does
            seen["status"] = demo.process.wait(END_SECONDS)
    finally:
        demo.stop(END_SECONDS)
    comes_true(lambda: traces() == before, LEFT_SECONDS, pause=0.2)
    left = {name: sorted(now ^ before[name]) for name, now in traces().items() if now != before[name]}
    return seen | {"left": left, "temporary": [path.name for path in temporary.iterdir()], "said": demo.log.read_text()}


if __name__ == "__main__":
    try:
        print(json.dumps(there_and_back(Path(sys.argv[1]))))
    except Unavailable as reason:
        print(json.dumps({"unavailable": str(reason)}))
