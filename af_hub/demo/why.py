"""What ``make demo-check`` shows where a hop failed: the state of the Dask clusters, and the last lines of the logs of the parts concerned.

Serves whoever has to find out, without a search through thirty files. Promises to say something whatever is broken, in a few seconds.
No log holds a secret, so none is shown.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from af_hub.demo.machine import full_disk
from af_hub.errors import AFError
from af_hub.testing.browser import hub_token

LINES, WIDTH = 6, 240
SECONDS = 5
LEAST_SPACE = 20
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# Below the demo's folder; a name may be a pattern.
LOGS = {
    "demo": ("../demo.log",),
    "IAM": ("iam/iam.log",),
    "proxy": ("hub/proxy.log",),
    "hub": ("hub/hub.log",),
    "session": ("hub/log/session-*.log",),
    "controller": ("controller.log",),
    "forwarder": ("forwarder/log",),
    "access point": ("pool/access-point/log/SchedLog",),
    "sites": ("pool/T2_*/log/StarterLog.slot*", "pool/T2_*/log/StartLog"),
    "cache": ("cache/log",),
    "origin": ("origin/log",),
    "data rules": ("data-rules.log",),
}


def explain(folder: Path, concerned: tuple[str, ...], url: str, browser: httpx.Client | None) -> Iterator[str]:
    """Lines for the terminal.

    Parameters
    ----------
    folder
        The demo's.
    concerned
        Names of parts, as in ``LOGS``.
    url, browser
        The hub's address, and a browser in which somebody is logged in there; empty and None before the login.
    """
    if browser is not None and {"controller", "sites"} & {*concerned}:
        yield from clusters(url, browser)
    for part in concerned:
        for pattern in LOGS[part]:
            for log in sorted(folder.glob(pattern)):
                yield from last_lines(part, log)
    if full := full_disk(folder, LEAST_SPACE):
        yield full


def last_lines(part: str, log: Path) -> Iterator[str]:
    """A heading with the place of the log, and its end."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        lines = [f"(cannot be read: {error.strerror})"]
    yield f"{part}: {log.resolve()}{'' if lines else ' is empty'}"
    yield from (f"    {COLOUR.sub('', line)[:WIDTH]}" for line in lines[-LINES:])


def clusters(url: str, browser: httpx.Client) -> Iterator[str]:
    """What the controller says of the clusters of whoever is logged in."""
    try:
        username = browser.get("/hub/api/user", timeout=SECONDS).raise_for_status().json()["name"]
        headers = {"Authorization": f"Bearer {hub_token(browser, username)}"}
        answer = httpx.get(f"{url}services/af-controller/api/clusters", headers=headers, timeout=SECONDS)
        found = answer.raise_for_status().json()
    except (httpx.HTTPError, AFError, ValueError, KeyError) as error:
        yield f"clusters: the controller does not say ({error})"
        return
    yield from (line for cluster in found for line in describe(cluster))


def describe(cluster: dict[str, Any]) -> Iterator[str]:
    """One cluster: where and how it is, and what happened to it last."""
    running = f"{cluster['workers_running']} of {cluster['workers_wanted']} workers"
    yield f"cluster {cluster['id'][:8]} at {cluster['site']}: {cluster['state']}, {running}; {cluster['reason']}"
    for event in cluster["events"][-LINES:]:
        yield f"    {time.strftime('%H:%M:%S', time.localtime(event['at']))}  {event['state']}: {event['sentence']}"
