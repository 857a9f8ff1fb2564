"""What a notebook says of a Dask cluster: its state, why it is over, what a broken way means. Pure.

The reason is the controller's sentence; here it gets the cluster's name and a place in the text or the page.
"""

import html
from collections.abc import Iterable, Mapping
from typing import Any

from dask.utils import parse_bytes, parse_timedelta

from af_hub.errors import Refused
from af_hub.policy.units import MEBIBYTE

OVER = ("closing", "closed", "failed", "lost")


def read_size(memory: str | int) -> int:
    """Bytes.

    Raises
    ------
    Refused
        When it is no size, or so small that its unit was forgotten.
    """
    try:
        size = int(parse_bytes(memory))
    except (ValueError, TypeError, AttributeError):
        raise Refused(f'user_memory={memory!r} is no size of memory; wanted is one as "2 GiB", or bytes.') from None
    if size < MEBIBYTE:
        unit = f'"{size} GiB"' if size > 0 else '"2 GiB"'
        raise Refused(f"user_memory={memory!r} is less than a worker can start with; give the unit, too, as in {unit}.")
    return size


def read_duration(start_timeout: str | float) -> float:
    """Seconds.

    Raises
    ------
    Refused
        When it is no duration.
    """
    try:
        return float(parse_timedelta(start_timeout))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused(
            f'start_timeout={start_timeout!r} is no duration; wanted is one as "30 minutes", or seconds.'
        ) from None


def newest(found: Mapping[str, Any]) -> float | None:
    """When the newest event of a cluster was; None when it is told without events."""
    events = found.get("events")
    return float(events[-1]["at"]) if events else None


def state_words(found: Mapping[str, Any]) -> str:
    """State and reason."""
    return f"{found['state']}: {found['reason']}" if found["reason"] else str(found["state"])


def say_over(found: Mapping[str, Any]) -> str:
    """That a cluster is over, and why."""
    return f"The Dask cluster {found['name']} is {found['state']}: {found['reason'] or 'it was closed'}."


def html_table(title: str, rows: Mapping[str, object], link: str) -> str:
    """A small table with a link to the dashboard below; everything is escaped."""
    cells = "".join(
        f'<tr><td style="text-align:left"><b>{html.escape(name)}</b></td>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    address = html.escape(link, quote=True)
    dashboard = f'<a href="{address}" target="_blank" rel="noopener">Dashboard</a>' if link else ""
    return f"<div><h4>{html.escape(title)}</h4><table>{cells}</table>{dashboard}</div>"


def find_running(clusters: Iterable[Mapping[str, Any]], wanted: str) -> Mapping[str, Any]:
    """The running one of that id or name; of several, the first.

    Raises
    ------
    Refused
        When there is none; with those that there are.
    """
    running = [one for one in clusters if one["state"] == "running"]
    for one in running:
        if wanted in (one["id"], one["name"]):
            return one
    names = ", ".join(str(one["name"]) for one in running)
    raise Refused(f"You have no running Dask cluster {wanted!r}; running are: {names or 'none'}.")


def say_broken(found: Mapping[str, Any], agent_before: int, agent_now: int) -> str:
    """What happened to the connection to a scheduler, and what follows; ``agent_*`` are the session agent's process numbers."""
    name = found["name"]
    if found["state"] in OVER:
        return say_over(found)
    who = "the connection to the forwarder broke"
    if agent_now != agent_before:
        who = "the session agent was started anew" if agent_now else "the session agent does not answer"
    return (
        f"The way to the Dask cluster {name} broke: {who}. The cluster lives on, and clients connect again by themselves. What they "
        "were waiting for is cancelled: submit it again."
    )
