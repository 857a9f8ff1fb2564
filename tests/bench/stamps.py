"""When what happened on the way to a first result: read out of logs and events. Pure.

Milestones come from where an operator would look, too: the cluster's events, the logs of controller, session and job, and HTCondor's own.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

LINE = re.compile(r"^\[?(?:[IWE] )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[,.](\d{3})\]?(.*)", re.MULTILINE)
CONDOR = re.compile(r"^(\d\d/\d\d/\d\d \d\d:\d\d:\d\d)\.(\d{3}) (.*)", re.MULTILINE)
PROCESS_AGE = re.compile(r"the job agent begins, ([0-9.]+) s after its process")

JOB = {
    "Dask is loaded": "distributed.scheduler - INFO - State start",
    "the scheduler listens": "the Dask scheduler of ",
    "the job agent has dialled the forwarder": "connected to the forwarder as job:",
    "the first worker is ready": "Register worker addr",
}
CONTROLLER = {
    "the submit is started": ": submits 1 scheduler",
    "the job is submitted": ": submitted ",
    "the session has its certificates": ": certificates for a session",
}
SESSION = {"the session has dialled the forwarder": "connected to the forwarder as session:{cluster}"}
ACCESS_POINT = {"its files are spooled (HTCondor rests 1 s)": "Job {job} released from hold: Data files spooled"}
CENTRAL_MANAGER = {"it is matched": "Matched {job} "}
EVENTS = {"requested": "the request is answered", "running": "the controller knows that it runs"}


def lines(text: str, line: re.Pattern[str] = LINE, form: str = "%Y-%m-%d %H:%M:%S") -> list[tuple[float, str]]:
    """Time (Unix) and text of each line that begins with a time."""
    return [
        (datetime.strptime(when, form).timestamp() + int(thousandths) / 1000, rest)
        for when, thousandths, rest in line.findall(text)
    ]


def condor_lines(text: str) -> list[tuple[float, str]]:
    """The same for logs of HTCondor (``ALL_DEBUG = D_SUB_SECOND``)."""
    return lines(text, CONDOR, "%m/%d/%y %H:%M:%S")


def first(found: Iterable[tuple[float, str]], wanted: Mapping[str, str]) -> dict[str, float]:
    """For each milestone the time of the first line that holds its words."""
    passed: dict[str, float] = {}
    for at, text in found:
        for milestone, words in wanted.items():
            if milestone not in passed and words in text:
                passed[milestone] = at
    return passed


def of_job(logs: str) -> dict[str, float]:
    """Milestones in the logs of a scheduler job."""
    found = lines(logs)
    passed = first(found, JOB)
    for at, text in found:
        if age := PROCESS_AGE.search(text):
            passed["its process starts"] = at - float(age[1])
    return passed


def of_events(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Milestones among a cluster's events."""
    passed: dict[str, float] = {}
    for event in events:
        if event["state"] in EVENTS:
            passed.setdefault(EVENTS[event["state"]], float(event["at"]))
    return passed


def since(began: float, passed: Mapping[str, float]) -> dict[str, float]:
    """Seconds after ``began``."""
    return {name: at - began for name, at in passed.items()}


def filled(wanted: Mapping[str, str], **values: str) -> dict[str, str]:
    """Words with the cluster's id or the job's number in them."""
    return {milestone: words.format(**values) for milestone, words in wanted.items()}
