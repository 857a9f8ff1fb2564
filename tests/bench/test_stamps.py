from datetime import datetime

import pytest

from tests.bench import stamps


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-21 13:00:24,327 INFO af_hub.controller.api: cluster asked for",
        "2026-11-21 13:00:24,327 - distributed.scheduler - INFO - State start",
        "[I 2026-11-21 13:00:24.327 ServerApp] Jupyter Server 2.21.1 is running at:",
    ],
)
def test_lines_of_all_our_logs_have_their_time(line):
    text = f"a line of no time\n{line}\n  more of it\n"
    ((when, rest),) = stamps.lines(text)
    assert when == at("2026-11-21T13:00:24.327") and line.endswith(rest)


def test_lines_of_htcondor():
    found = stamps.condor_lines("11/21/26 13:05:52.170 (pid:1) Job 4.0 released from hold: Data files spooled\n")
    milestone = stamps.first(found, stamps.filled(stamps.ACCESS_POINT, job="4.0"))
    assert list(milestone.values()) == [at("2026-11-21T13:05:52.170")]
    assert not stamps.first(found, stamps.filled(stamps.ACCESS_POINT, job="14.0"))


def test_the_first_line_counts():
    assert stamps.first([(1.0, "x"), (2.0, "x"), (3.0, "y")], {"a": "x", "b": "z"}) == {"a": 1.0}


def test_a_jobs_logs():
    logs = """==> agent <==
2026-11-21 13:00:10,500 af_hub.job.agent INFO the job agent begins, 0.25 s after its process
2026-11-21 13:00:11,000 af_hub.job.agent INFO the Dask scheduler of 1 serves at tls://127.0.1.1:1
"""
    assert stamps.since(at("2026-11-21T13:00:10"), stamps.of_job(logs)) == pytest.approx(
        {"its process starts": 0.25, "the scheduler listens": 1.0}
    )


def test_the_first_event_of_a_state_counts():
    events = [{"state": "requested", "at": 1.0}, {"state": "running", "at": 2.0}, {"state": "running", "at": 3.0}]
    assert list(stamps.of_events(events).values()) == [1.0, 2.0]
