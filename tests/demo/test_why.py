"""What a failed hop shows of the parts concerned."""

from pathlib import Path

import httpx

from af_hub.demo import why
from af_hub.demo.why import describe, explain, last_lines

CLUSTER = {
    "id": "0123456789abcdef",
    "site": "T2_A",
    "state": "failed",
    "reason": "the scheduler job is held",
    "workers_running": 0,
    "workers_wanted": 2,
    "events": [{"at": 0.0, "state": "failed", "sentence": "the scheduler job is held"}],
}


def test_a_cluster_in_two_lines():
    head, event = describe(CLUSTER)
    assert head == "cluster 01234567 at T2_A: failed, 0 of 2 workers; the scheduler job is held"
    assert event.endswith("failed: the scheduler job is held")


def test_the_end_of_a_log_without_colours_and_empty_lines(tmp_path):
    log = tmp_path / "log"
    log.write_text("first\n\n" + "".join(f"\x1b[31mline {number}\x1b[0m\n" for number in range(20)) + "x" * 1000)

    heading, *lines = last_lines("hub", log)
    assert heading == f"hub: {log}"
    assert lines[-2] == "    line 19" and len(lines) == why.LINES
    assert len(lines[-1]) == 4 + why.WIDTH
    assert list(last_lines("hub", tmp_path / "none"))[1] == "    (cannot be read: No such file or directory)"


def test_it_says_something_though_the_hub_is_dead(tmp_path):
    (tmp_path / "controller.log").write_text("the last word\n")
    with httpx.Client(base_url="http://127.0.0.1:1/") as browser:
        said = list(explain(tmp_path, ("controller", "sites"), "http://127.0.0.1:1/", browser))

    assert said[0].startswith("clusters: the controller does not say (")
    assert said[1:] == [f"controller: {tmp_path}/controller.log", "    the last word"]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(why, "LEAST_SPACE", 10**12)
    (said,) = explain(tmp_path, (), "", None)
    assert said.startswith(f"the disk of {tmp_path} has")


def test_every_hop_names_parts_that_have_logs():
    source = Path(why.__file__).with_name("check.py").read_text()
    assert all(f'"{part}"' in source for part in why.LOGS)
