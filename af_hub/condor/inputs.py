"""Files that a submit description names and that are not there, found before the access point is asked to take the jobs.

Serves the hop laptop → access point: HTCondor finds out only after it took the jobs, and does not say which file it is. Promises to name none
that may be there; what only HTCondor knows (the cluster's number, which part of a list is taken, what a program prints or a container holds) is left
to HTCondor.
"""

import os
import re
from collections.abc import Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import htcondor2

LOOK_AT = 1000
"""Jobs of a description; it takes a third of a second."""

Values = Mapping[str, str | None]
"""What macros stand for in one job; None where only HTCondor knows."""

_LATER: Values = dict.fromkeys(["Cluster", "ClusterId", "JobId", "Node"])
_NUMBERS: Values = dict.fromkeys(["Process", "ProcId", "Step", "Row", "ItemIndex"])
_SWITCHES = ("universe", "should_transfer_files", "transfer_executable", "transfer_input", "container_image")
_KEYS = (*_SWITCHES, "docker_image", "initialdir", "executable", "input", "transfer_input_files")
_QUEUE = re.compile(
    r"(?P<number>\d+(?![^\s,]))?(?P<names>.*?)(?P<items>\b(?:in|from|matching)\b.*)?\Z", re.DOTALL | re.IGNORECASE
)
_YES = {"", "true", "t", "yes", "1"}


def missing_files(text: str, folder: Path) -> list[str]:
    """Names of files to be sent along that are not there or cannot be read, as HTCondor reads ``text`` in ``folder``.

    Raises
    ------
    ValueError
        When the file is not there that lists the items of the ``queue`` statement.
    """
    import htcondor2

    description = htcondor2.Submit(text)
    jobs = islice(_jobs(description), LOOK_AT)
    named = dict(pair for values in jobs for pair in _inputs(description, values, folder))
    return [name for name, places in named.items() if not any(os.access(place, os.R_OK) for place in places)]


def _jobs(description: "htcondor2.Submit") -> Iterator[Values]:
    """What the macros stand for in each job; only the first one where it is not known how many there are."""
    statement = (description.getQArgs() or "").strip()
    found = _QUEUE.match(statement)
    assert found is not None  # it matches everything
    names = found["names"].strip()
    items = _items(description, statement) if found["items"] else [{}]
    if items is None:
        yield {**_NUMBERS, "Item": None, **dict.fromkeys(re.findall(r"[A-Za-z_]\w*", names))}
        return
    computed = re.search(r"[^\w\s,]", names) or (names and not found["items"])  # as in `queue $(N)`
    process = count()
    for row, item in enumerate(items):
        for step in range(int(found["number"] or 1)):
            number = next(process)
            numbers = zip(_NUMBERS, (number, number, step, row, row), strict=True)
            yield {**{name: str(value) for name, value in numbers}, **item}
            if computed:
                return


def _items(description: "htcondor2.Submit", statement: str) -> list[dict[str, str]] | None:
    """What the ``queue`` statement lists; None for a slice of it, for what a program prints, and for a pattern of nothing."""
    if "[" in statement or "|" in statement:
        return None
    try:
        found = description.itemdata()
        return None if found is None else [dict(item) for item in found]
    except (ValueError, LookupError) as error:
        if "open file" in str(error):
            raise
        return None


def _inputs(description: "htcondor2.Submit", values: Values, folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """What one job sends along, and where that may be."""
    # What is not the same in both readings depends on what only HTCondor knows: a number, or a path of which functions take parts.
    one, other = (_read(description, {**_LATER, **values}, stand_in) for stand_in in ("70001", "/70002/of.it"))
    if one["should_transfer_files"].lower() in {"no", "never", "false"}:
        return
    folders = [folder, folder / one["initialdir"]] if one["initialdir"] == other["initialdir"] else []
    names = [name.strip() for name in one["transfer_input_files"].split(",")]
    also = [name.strip() for name in other["transfer_input_files"].split(",")]
    sure = [name for name in names if name in also]
    if one["input"] == other["input"] and one["transfer_input"].lower() in _YES:
        sure.append(one["input"])
    if one["executable"] == other["executable"] and _sends_executable(one):
        sure.append(one["executable"])
    for name in sure:
        if name and not re.search(r'://|"|\$\$', name) and (folders or name.startswith("/")):
            yield name, [place / name for place in folders or [folder]]


def _sends_executable(job: Mapping[str, str]) -> bool:
    contained = job["container_image"] or job["docker_image"] or job["universe"].lower() not in {"", "vanilla", "5"}
    return not contained and job["transfer_executable"].lower() in _YES


def _read(description: "htcondor2.Submit", values: Values, stand_in: str) -> dict[str, str]:
    """The settings, with ``stand_in`` for what is not known."""
    for name, value in values.items():
        description[name] = stand_in if value is None else value
    return {key: description.expand(key).strip() if key in description else "" for key in _KEYS}
