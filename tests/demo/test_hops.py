"""What a check of the demo keeps, and what it takes away."""

import fcntl

import pytest
from rich.console import Console

from af_hub.demo.check import KEPT, PREFIX, HopFailed, Way, own_folder, remove_left_behind


@pytest.fixture
def way(tmp_path):
    return Way(Console(record=True, width=200), tmp_path)


def test_a_hop_that_fails_shows_the_logs_concerned(way, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/hub.log").write_text("[E] no such thing\n")
    with pytest.raises(HopFailed), way.hop("login by IAM", "hub"):
        raise OSError("nobody answers [at all]")

    printed = way.console.export_text()
    assert "FAILED  nobody answers [at all]" in printed
    assert f"hub: {tmp_path}/hub/hub.log" in printed and "[E] no such thing" in printed
    assert not way.hops[0].ok


def test_a_hop_that_is_left_by_ctrl_c_shows_nothing_more(way, tmp_path):
    with pytest.raises(KeyboardInterrupt), way.hop("login by IAM", "hub"):
        raise KeyboardInterrupt
    assert len(way.console.export_text().splitlines()) == 1


def test_the_folder_stays_only_when_it_was_marked(tmp_path):
    for marked in (False, True):
        with own_folder(tmp_path) as folder:
            if marked:
                (folder / KEPT).touch()
        assert folder.exists() == marked


def test_folders_of_checks_that_were_killed_are_taken_away(tmp_path):
    for name in ("killed", "kept", "runs", "demo runs", "just made"):
        (tmp_path / f"{PREFIX}{name}" / "demo").mkdir(parents=True)
        if name != "just made":
            (tmp_path / f"{PREFIX}{name}" / "lock").touch()
            (tmp_path / f"{PREFIX}{name}" / "demo/lock").touch()
    (tmp_path / f"{PREFIX}kept" / KEPT).touch()
    held = [tmp_path / f"{PREFIX}runs/lock", tmp_path / f"{PREFIX}demo runs/demo/lock"]
    with held[0].open() as one, held[1].open() as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX)
        remove_left_behind(tmp_path)

    assert sorted(path.name.removeprefix(PREFIX) for path in tmp_path.iterdir()) == [
        "demo runs",
        "just made",
        "kept",
        "runs",
    ]
