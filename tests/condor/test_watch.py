"""The watcher's looks, one by one; on the real pool in test_real_pool."""

import itertools
import json
import time
from pathlib import Path

import pytest

from af_hub.condor.watch import Watch
from af_hub.errors import Unavailable

POLICY = """\
facility: {name: a, contact: b}
issuers: [{issuer: "https://iam/", discovery: "${NOT_SET_HERE}"}]
images: {}
sizes: {}
rules: [{name: r, groups: [/cms], login: true, condor: {account: "u-{username}", accounting_group: cms}}]
"""


class Surroundings:
    def __init__(self, folder: Path) -> None:
        self.policy, self.people, self.into = folder / "facility.yaml", folder / "people.json", folder / "into"
        self.into.mkdir()
        self.policy.write_text(POLICY)
        self.people.write_text(json.dumps([{"issuer": "https://iam/", "subject": "s", "username": "ada"}]))
        self.reconfigured = 0
        self.told: list[str] = []
        self.deaf = False
        seconds = itertools.count(time.time() + 60, 2)  # by this clock every file has rested long since
        self.watch = Watch(self.policy, self.people, self.into, self.reconfigure, lambda: next(seconds))

    def reconfigure(self, daemon: str) -> None:
        if self.deaf:
            raise Unavailable(f"the {daemon} does not answer")
        self.reconfigured += 1
        self.told.append(daemon)

    def accounting(self) -> str:
        return (self.into / "accounting.map").read_text()


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


def test_first_look_writes_both(here: Surroundings) -> None:
    here.watch.look()
    here.watch.look()
    assert here.accounting() == "* u-ada cms\n" and here.reconfigured == 1
    assert json.loads((here.into / "table.json").read_text())["people"] == {"https://iam/,s": "ada"}
    assert sorted(path.name for path in here.into.iterdir()) == [
        "accounting.map",
        "negotiator.conf",
        "schedd.conf",
        "table.json",
    ]


def test_edit_of_the_policy_is_taken(here: Surroundings) -> None:
    here.watch.look()
    here.policy.write_text(POLICY.replace("accounting_group: cms", "accounting_group: cms.itcms"))
    here.watch.look()
    assert here.accounting() == "* u-ada cms.itcms\n" and here.reconfigured == 2


def test_two_edits_in_one_second_have_two_times(here: Surroundings) -> None:
    seconds = []
    for group in ("a", "b", "c"):
        here.policy.write_text(POLICY.replace("accounting_group: cms", f"accounting_group: {group}"))
        here.watch.look()
        seconds.append(int((here.into / "accounting.map").stat().st_mtime))
    assert len(set(seconds)) == 3 and sorted(seconds) == seconds


def test_edit_that_changes_no_account_reconfigures_nothing(here: Surroundings) -> None:
    here.watch.look()
    here.policy.write_text(POLICY.replace("groups: [/cms]", "groups: [/cms, /atlas]"))
    here.watch.look()
    assert "/atlas" in (here.into / "table.json").read_text() and here.reconfigured == 1


@pytest.mark.parametrize("broken", ["", "rules: {", POLICY.replace("login: true", "logn: true"), None])
def test_broken_edit_keeps_what_was_and_says_so(
    here: Surroundings, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    here.watch.look()
    before = [path.read_text() for path in sorted(here.into.iterdir())]
    if broken is None:
        here.people.unlink()
    else:
        here.policy.write_text(broken)
    here.watch.look()
    assert [path.read_text() for path in sorted(here.into.iterdir())] == before and here.reconfigured == 1
    assert "kept as they were" in caplog.text


def test_half_written_policy_is_left_alone(here: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    here.watch.look()
    here.watch.clock = here.watch._files[here.policy]._clock = time.time
    here.policy.write_text("")
    here.watch.look()
    here.policy.write_text(POLICY.partition("rules")[0] + "rules: []\n")
    here.watch.look()
    assert here.accounting() == "* u-ada cms\n" and here.reconfigured == 1 and "kept" not in caplog.text


def test_broken_edit_is_told_once(here: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    here.policy.write_text("rules: {")
    for _ in range(3):
        here.watch.look()
    assert caplog.text.count("kept as they were") == 1
    here.policy.write_text(POLICY)
    here.watch.look()
    assert here.accounting() == "* u-ada cms\n"


def test_deaf_access_point_is_told_again(here: Surroundings) -> None:
    here.deaf = True
    here.watch.look()
    here.deaf = False
    here.watch.look()
    assert here.reconfigured == 1


def test_a_daemon_that_was_not_told_is_told_by_the_next_watcher(here: Surroundings) -> None:
    here.deaf = True
    here.watch.look()
    here.deaf = False
    Watch(here.policy, here.people, here.into, here.reconfigure, here.watch.clock).look()
    assert here.told == ["schedd"]


def test_a_deaf_daemon_is_complained_of_once(here: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    here.deaf = True
    for _ in range(3):
        here.watch.look()
    assert caplog.text.count("will be tried again") == 1


def test_refused_account_is_named(here: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    one = {"issuer": "https://iam/", "subject": "1", "username": "ada"}
    here.people.write_text(json.dumps([one, {**one, "subject": "2"}]))
    here.watch.look()
    assert "nobody gets the account u-ada" in caplog.text and here.accounting() == ""


def test_each_daemon_is_told_of_its_own_files(here: Surroundings) -> None:
    here.watch.tell = ("schedd", "negotiator")
    here.watch.look()
    assert here.told == ["negotiator", "schedd"]
    here.policy.write_text(POLICY + "accounting_groups: {cms: {surplus: true}}\n")
    here.watch.look()
    assert here.told[2:] == ["negotiator"]
    here.policy.write_text(POLICY + "accounting_groups: {cms: {quota: 0.5}}\n")
    here.watch.look()
    assert here.told[3:] == ["negotiator", "schedd"]
    here.policy.write_text(
        POLICY.replace("groups: [/cms]", "groups: [/atlas]") + "accounting_groups: {cms: {quota: 0.5}}\n"
    )
    here.watch.look()
    assert len(here.told) == 5


def test_a_daemon_that_is_not_here_is_not_told(here: Surroundings) -> None:
    here.watch.tell = ("negotiator",)
    here.watch.look()
    here.policy.write_text(POLICY.replace("accounting_group: cms", "accounting_group: cms.itcms"))
    here.watch.look()
    assert here.told == ["negotiator"] and here.accounting() == "* u-ada cms.itcms\n"
