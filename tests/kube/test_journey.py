"""The way of ``make demo-check`` with sessions as pods of a real Kubernetes, hop by hop; and what a hub that dies on the way does to it.

``AF_SCREENSHOTS=docs/images`` keeps the picture of the page on which somebody waits.
"""

import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from af_hub.demo.check import CELL_SECONDS, USER, Way, go, wait_until
from af_hub.session.processes import Identity

pytestmark = [pytest.mark.kube, pytest.mark.timeout(300, func_only=True)]

HUB = b"\0-m\0jupyterhub\0"

WHOAMI = """
import json, os, pathlib, subprocess
token = pathlib.Path(os.environ["BEARER_TOKEN_FILE"])
print(json.dumps({
    "uid": os.getuid(), "home": os.getcwd(), "host": os.uname().nodename,
    "token": [oct(token.stat().st_mode & 0o777), token.stat().st_uid],
    "whoami": subprocess.run(["af", "whoami"], capture_output=True, text=True).stdout,
}))
"""
KEEP = """
from dask.distributed import Client
from af_hub.client.remote import RemoteHTCondor
kept = Client(RemoteHTCondor("T2_A", user_memory="512 MiB", start_timeout="60 s", quiet=True))
asked = kept.submit(sum, [20, 22])
"""
STILL = (
    "print(asked.result(timeout=60) + kept.submit(sum, [1, 2]).result(timeout=60)); kept.cluster.close(); kept.close()"
)


def test_the_whole_way_in_pods(in_pods, capsys):
    """Login, spawn page, session, token, data, Dask cluster, dashboard, a hub that is killed, end: as :mod:`af_hub.demo.check` goes it."""
    way = Way(Console(highlight=False, soft_wrap=True, width=200), in_pods.folder, url=in_pods.url)

    def in_session(kernel):
        with way.hop("whoami, in a pod") as hop:
            found = json.loads(kernel.run(WHOAMI, CELL_SECONDS))
            hop.says = f"uid {found['uid']} in pod {found['host']}, {found['home']}"
            assert found["token"] == ["0o600", found["uid"]] and found["uid"] == 1000
            assert USER in found["whoami"]
            assert in_pods.names("pods") == [found["host"]]
        with way.hop("hub dies and comes back") as hop:
            kernel.run(KEEP, CELL_SECONDS)
            browser = in_pods.browser(USER)
            before = kill_hub()
            wait_until(lambda: hub() not in (None, before) and serves(browser), "the hub serves again", 60)
            hop.says = kernel.run(STILL, CELL_SECONDS).strip()
            assert hop.says == "45", hop.says
            assert in_pods.names("pods") == [found["host"]]

    go(way, in_pods.facts, in_session, lambda: in_pods.names("pods"))
    in_pods.browsers.clear()

    assert in_pods.names("secrets") == [], "a session's secrets end with its pod"
    assert [hop.name for hop in way.hops if not hop.ok] == []


def hub() -> Identity | None:
    """The hub's process."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if HUB in (process / "cmdline").read_bytes():
                return Identity.of(int(process.name))
        except OSError:
            continue
    return None


def kill_hub() -> Identity:
    found = hub()
    assert found and found.send(signal.SIGKILL)
    return found


def serves(browser) -> bool:
    """Whether the hub knows the session and says that it is ready."""
    try:
        found = browser.get(f"/hub/api/users/{USER}")
    except httpx.HTTPError:
        return False
    return found.status_code == 200 and found.json()["servers"][""]["ready"]


def test_somebody_waits_for_a_pod_in_a_browser(in_pods, person):
    """The page says what the session waits for, then JupyterLab opens, with the notebook in a home of its own."""
    person.go(in_pods.url)
    person.click_on("Sign in with IAM")
    person.click_on("cms-colleague")
    person.see("#spawn_form")
    assert person.faults() == []
    picture(person, "spawn-pods")
    person.click_on("Start")
    person.see("#progress-message")
    person.until(lambda: "session" in person.see("#progress-message").text, "nothing is said")
    assert person.faults() == []
    picture(person, "progress")
    person.see(".jp-DirListing-item[title*='Welcome.ipynb']", 90)
    person.go(f"{in_pods.url}hub/home")
    person.click_on("Stop My Server")
    person.read("Start My Server")
    wait_until(lambda: not any("cms-colleague" in name for name in in_pods.names("pods")), "the pod is gone", 30)


def picture(person, name):
    """Keep what the window shows, for the documentation."""
    if folder := os.environ.get("AF_SCREENSHOTS"):
        person.picture(Path(folder) / f"{name}.png")
