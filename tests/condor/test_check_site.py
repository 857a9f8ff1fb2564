"""`af-hub check site`: what it concludes (decisions), what a neighbour takes (two processes), and the outcome at a real pool."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from af_hub.cli import main
from af_hub.condor import neighbour
from af_hub.condor.check_site import (
    OPEN,
    RISKS,
    Report,
    choose_machine,
    describe_neighbour,
    judge,
    plan_check,
    read_answer,
)
from af_hub.errors import PolicyError, Refused, Unavailable
from af_hub.testing.process import comes_true

FACILITY = Path(__file__).parents[2] / "hub_config" / "facility.yaml"
ENVIRON = dict.fromkeys(("AF_IAM_DISCOVERY", "AF_IMAGES", "AF_CONDOR_COLLECTOR", "AF_CONDOR_CA_FILE"), "/x") | {
    "AF_XROOTD_CACHE": "root://cache.test",
    "AF_XROOTD_CA_FILE": "",
    "AF_REGISTRY": "",
    "AF_PUBLIC_URL": "https://hub.test/",
}


def job(secret, uid=1, begun=0.0, tried=1.0, ended=2.0, **got):
    """What one of the jobs tells; ``got`` by name of what was tried, the rest was refused."""
    found = {what: {"got": got[what]} if what in got else {"why": "Permission denied"} for what in [*RISKS, *OPEN]}
    return {"secret": secret, "uid": uid, "begun": begun, "tried": tried, "ended": ended, "found": found}


def states(*told):
    return {finding.what: finding.state for finding in judge(told)}


def test_jobs_that_get_nothing_are_kept_apart():
    findings = judge([job("a", 1), job("b", 2)])
    assert {finding.state for finding in findings} == {"ok"}
    assert not Report("S", "m", False, findings).shared
    assert "Permission denied" in str(Report("S", "m", False, findings))


@pytest.mark.parametrize("what", RISKS)
def test_what_either_gets_of_the_other_is_shared(what):
    for told in ([job("a", **{what: "b"}), job("b")], [job("a"), job("b", **{what: "a"})]):
        found = states(*told)
        assert found.pop(what) == "shared"
        assert "shared" not in found.values()


@pytest.mark.parametrize(
    "first, second",
    [
        pytest.param(job("a", environment="c"), job("b"), id="a third one's"),
        pytest.param(job("a", environment="a"), job("b"), id="its own"),
    ],
)
def test_what_is_not_the_others_does_not_count(first, second):
    assert "shared" not in states(first, second).values()


def test_what_is_open_everywhere_is_told_and_does_not_count():
    report = Report("S", "m", False, judge([job("a", **dict.fromkeys(OPEN, "seen")), job("b")]))
    assert not report.shared
    assert "open    ports" in str(report) and "asks for a certificate" in str(report)


def test_one_user_is_told():
    assert states(job("a", 7), job("b", 7))["account"] == "open"
    assert "both jobs run as user 7" in str(Report("S", "m", True, judge([job("a", 7), job("b", 7)])))


@pytest.mark.parametrize(
    "times, known",
    [
        pytest.param(({"begun": 0, "tried": 5, "ended": 9}, {"begun": 4, "tried": 6, "ended": 9}), True, id="together"),
        pytest.param(({"begun": 0, "tried": 5, "ended": 9}, {"begun": 6, "tried": 20, "ended": 21}), False, id="apart"),
        pytest.param(({"begun": 0, "tried": 5, "ended": 9}, {"begun": 6, "tried": 8, "ended": 21}), True, id="one way"),
    ],
)
def test_jobs_that_did_not_meet_say_nothing(times, known):
    told = [job("a", **times[0]), job("b", **times[1])]
    if known:
        assert judge(told)
    else:
        with pytest.raises(Unavailable, match="did not run at the same time"):
            judge(told)


@pytest.mark.parametrize(
    "shared, marked, says",
    [
        (True, True, "says so, too"),
        (False, False, "says so, too"),
        (True, False, "write `shared: true` under sites.S"),
        (False, True, "write `shared: false` under sites.S"),
    ],
)
def test_the_mark_is_compared_with_what_was_found(shared, marked, says):
    told = [job("a", **({"/tmp": "b"} if shared else {})), job("b")]
    report = Report("S", "m", marked, judge(told))
    assert says in str(report)
    assert ("MOUNT_UNDER_SCRATCH" in str(report)) is shared
    assert report.as_dict()["shared"] is shared and report.as_dict()["marked"] is marked


def slot(machine, cpus, **rest):
    return {"Machine": machine, "Cpus": cpus, "State": "Unclaimed"} | rest


@pytest.mark.parametrize(
    "ads, wanted, machine",
    [
        ([slot("a", 2), slot("b", 8)], "", "b"),
        ([slot("a", 2), slot("b", 8)], "a", "a"),
        ([slot("a", 1), slot("a", 1)], "", "a"),
        ([slot("a", 1, State="Claimed"), slot("b", 3, State="Claimed", PartitionableSlot=True)], "", "b"),
        ([slot("a", 1)], "", None),
        ([slot("a", 4)], "b", None),
        ([], "", None),
    ],
)
def test_a_worker_node_with_room_for_two_is_chosen(ads, wanted, machine):
    if machine:
        assert choose_machine(ads, wanted) == machine
    else:
        with pytest.raises(Unavailable, match="two free cores"):
            choose_machine(ads, wanted)


def test_the_description_is_what_htcondor_reads():
    import htcondor2

    parsed = htcondor2.Submit(describe_neighbour("T2_A", "node.example.org", "x", "y"))
    assert parsed["requirements"] == 'TARGET.SiteName == "T2_A" && TARGET.Machine == "node.example.org"'
    assert "neighbour.py x y" in parsed["arguments"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "Traceback", "\x1b[2Jall is well", "[" * 100_000),
        json.dumps(job("a") | {"found": {}}),
        json.dumps(job("a") | {"found": dict.fromkeys([*RISKS, *OPEN], "no")}),
        json.dumps(job("a") | {"begun": "early"}),
        json.dumps(job("a") | {"uid": 1e999}),
    ],
)
def test_other_words_of_a_job_are_refused(text):
    """They come from a machine of the site, and go to an administrator's terminal."""
    with pytest.raises(Refused, match="something else") as refusal:
        read_answer(text)
    assert "\x1b" not in str(refusal.value)


def test_what_a_job_says_does_nothing_to_a_terminal():
    told = job("a") | {"found": {what: {"why": "no\x1b[2J\n"} for what in [*RISKS, *OPEN]}}
    assert "\x1b" not in str(Report("S", "m", False, judge([read_answer(json.dumps(told)), job("b")])))


@pytest.mark.parametrize(
    "site, credentials, error, says",
    [
        ("T2_X", ["a", "b"], Refused, "no site 'T2_X'; it has T2_A, T2_B"),
        ("T2_A", ["a"], Refused, "two credentials are wanted, of two accounts; found 1"),
    ],
)
def test_what_cannot_be_checked_is_said(site, credentials, error, says):
    with pytest.raises(error, match=says):
        plan_check(FACILITY, ENVIRON, site, credentials)
    with pytest.raises(PolicyError):
        plan_check(Path("/nowhere"), ENVIRON, site, credentials)


def test_without_demo_and_credentials_there_is_a_sentence(tmp_path):
    done = CliRunner().invoke(main, ["check", "site", "T2_A", "--demo", str(tmp_path)])
    assert done.exit_code == 1 and "no demo runs in" in done.output and "--credential" in done.output


def test_a_neighbour_of_the_same_user_takes_all_and_tells_no_secret(tmp_path):
    """Without this, `ok` would prove nothing."""
    names, jobs = (f"{tmp_path.name}-1", f"{tmp_path.name}-2"), []
    for own, other in (names, names[::-1]):
        sandbox = tmp_path / own
        sandbox.mkdir()
        (sandbox / "neighbour.py").write_bytes(Path(neighbour.__file__).read_bytes())
        argv = [sys.executable, "neighbour.py", own, other, "20"]
        jobs.append(subprocess.Popen(argv, cwd=sandbox, stdout=subprocess.PIPE, text=True))
    told = [read_answer(process.communicate(timeout=30)[0]) for process in jobs]
    found = {finding.what: finding.state for finding in judge(told)}
    assert [what for what in RISKS if found[what] != "shared"] == []
    assert {found[what] for what in OPEN} == {"open"}
    assert len(json.dumps(told[0]["found"])) < 2000
    assert not [path for folder in neighbour.PUBLIC_FOLDERS for path in Path(folder).glob(f"{tmp_path.name}*")]


@pytest.mark.real
def test_a_site_without_accounts_is_shared(condor_pool, tmp_path):
    """A pool without root runs all jobs as one user, and facility.yaml says so of the demo's sites."""
    environ = ENVIRON | {"AF_CONDOR_COLLECTOR": condor_pool.collector, "AF_CONDOR_CA_FILE": str(condor_pool.ca_file)}
    command = ["check", "site", "T2_A", "--facility", str(FACILITY)]
    for account in ("af-check-1", "af-check-2"):
        (tmp_path / account).write_text(condor_pool.credential(account))
        command += ["--credential", str(tmp_path / account)]
    done = CliRunner().invoke(main, command, env=environ)
    assert done.exit_code == 3, done.output
    for what in ("sandbox", "environment", "memory", "/tmp"):
        assert f"\nshared  {what} " in f"\n{done.output}", done.output
    assert "facility.yaml says so, too" in done.output
    assert comes_true(lambda: not condor_pool.tool("condor_q", "-all", "-af", "JobStatus").split(), 20, pause=0.2)
