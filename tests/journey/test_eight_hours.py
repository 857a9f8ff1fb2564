"""Eight hours of a cluster whose tokens live one: notebook, scheduler and workers read protected data all the time.

An hour of the IAM is 20 seconds here; all else is real and has the real time: hub, controller, forwarder, HTCondor, Dask, XRootD with TLS,
``ztn`` and SciTokens. XRootD lets a token count for up to a minute after its end, so the first one is out long before the end.
"""

import json
import re
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest

from af_hub.demo.check import spawn, stop_session
from af_hub.demo.notebook import open_kernel
from af_hub.errors import Unavailable
from af_hub.testing.browser import sign_in
from af_hub.testing.condor import RealPool
from af_hub.testing.process import Daemon
from af_hub.testing.require import unavailable

pytestmark = [pytest.mark.real, pytest.mark.long, pytest.mark.timeout(600)]

USER = "cms-analyst"
HOURS, HOUR = 8, 20.0
CELL_SECONDS = 120
PREPARE = """
    import json, os, subprocess, sys, time
    from dask.distributed import Client
    from af_hub.client.data import dataset
    from af_hub.client.remote import RemoteHTCondor

    url = dataset("protected")[0]

    def read(url):
        import base64, json, os
        from XRootD import client

        with open(os.environ["BEARER_TOKEN_FILE"]) as file:
            claims = file.read().split(".")[1]
        with client.File() as file:
            status, _ = file.open(url, timeout=20)
            answer = len(file.read(0, 1000)[1]) if status.ok else status.message
        return answer, json.loads(base64.urlsafe_b64decode(claims + "=="))["jti"]

    # It opens the file again and again over the connection that it has, since nobody sends it to another one.
    stubborn = subprocess.Popen(
        [sys.executable, "-c", '''if True:
            import sys, time
            from XRootD import client
            while True:
                with client.File() as file:
                    print(file.open(sys.argv[1], timeout=20)[0].message.strip(), flush=True)
                time.sleep(2)
        ''', url],
        stdout=open("stubborn.log", "w"),
        env={**os.environ, "XROOT_PROXY": os.environ["AF_CACHE"] + "//"},
    )
    cluster = RemoteHTCondor("T2_A", user_memory="512 MiB", workers=2, start_timeout="60 s", quiet=True)
    client = Client(cluster)
    client.wait_for_workers(2, timeout=60)
    print(cluster.cluster_id)
"""
LOOK = """
    time.sleep(2)
    print(json.dumps({"notebook": read(url), "scheduler": client.run_on_scheduler(read, url), **client.run(read, url)}))
"""
FINISH = """
    stubborn.kill()
    print(open("stubborn.log").read())
    client.close()
    cluster.close()
"""


@pytest.fixture
def facts(tmp_path):
    """A facility whose tokens live an hour of its own."""
    argv = [sys.executable, str(Path(__file__).parents[1] / "facility_with.py"), str(tmp_path / "d")]
    options = json.dumps({"token_seconds": HOUR})
    facility = Daemon("facility", [*argv, options, "{ready_fd}"], tmp_path / "facility.log")
    try:
        try:
            yield facility.start().ready(120)
        except Unavailable as reason:
            unavailable(str(reason))
    finally:
        facility.stop(grace=40)


def test_everybody_reads_for_eight_hours(facts):
    with closing(sign_in(facts["url"], USER)) as browser:
        spawn(browser, USER, "python-analysis")
        with open_kernel(browser, f"/user/{USER}/") as kernel:

            def run(code):
                return kernel.run(textwrap.dedent(code), CELL_SECONDS).strip()

            cluster = run(PREPARE).rpartition("\n")[2]
            seen, looks, end = {}, 0, time.monotonic() + HOURS * HOUR
            while time.monotonic() < end:
                for name, (answer, token) in json.loads(run(LOOK).rpartition("\n")[2]).items():
                    assert answer == 1000, (name, looks, answer, seen)
                    seen.setdefault(name, set()).add(token)
                looks += 1
            ads = queue(facts)
            stubborn = run(FINISH)
        stop_session(browser, USER)
    print(f"{looks} looks; tokens seen:", {name: len(tokens) for name, tokens in seen.items()})
    assert len(seen) == 4
    assert all(len(tokens) >= HOURS for tokens in seen.values())
    assert cluster in ads and leaks(facts, ads) == []
    assert stubborn.startswith("[SUCCESS]") and "permission denied" in stubborn.splitlines()[-2]


def queue(facts):
    """All that everybody may read of the jobs."""
    return RealPool(Path(facts["pool_folder"]), Path(facts["condor_prefix"])).tool("condor_q", "-allusers", "-long")


def leaks(facts, ads):
    """What the batch system keeps and looks like a token."""
    logs = [path for path in Path(facts["pool_folder"]).rglob("*") if path.is_file() and "log" in str(path).lower()]
    texts = {"ads": ads, **{str(path): path.read_text(errors="replace") for path in logs}}
    return [name for name, text in texts.items() if re.search(r"eyJ[\w-]{10,}\.eyJ", text)]
