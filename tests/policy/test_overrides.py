"""Overrides: in force between two instants, before every rule, and told in the audit log when they come and go."""

import itertools
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from af_hub.cli import main
from af_hub.condor import mapper
from af_hub.condor.mapping import Person, compile_mapping
from af_hub.condor.watch import Watch
from af_hub.iam.claims import Claims
from af_hub.policy.audit import OverrideLog, change_line, decision_line
from af_hub.policy.decide import decide, next_change
from af_hub.policy.load import read_policy
from af_hub.policy.units import read_instant

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "hub_config" / "facility.yaml").read_text())
ISSUER = SHIPPED["issuers"][0]["issuer"]

BEGIN, END = "2026-12-01T08:00:00+01:00", "2026-12-05T18:00:00+01:00"
SCHOOL = {
    "name": "CMS school",
    "groups": ["/school"],
    "people": ["teacher"],
    "from": BEGIN,
    "until": END,
    "reason": "Perugia, December",
    "login": True,
    "images": ["python-base"],
    "sizes": ["small"],
}
MORE = {
    "name": "ada's thesis",
    "people": ["ada"],
    "until": END,
    "reason": "a deadline",
    "condor": {"account": "thesis-{username}", "accounting_group": "cms.thesis"},
    "limits": {"clusters": 9, "cores": 99, "memory": "1 TiB", "lifetime": "2 d"},
}
BEFORE, BEGUN, LAST, OVER = (
    read_instant(BEGIN).timestamp() - 1,
    read_instant(BEGIN).timestamp(),
    read_instant(END).timestamp() - 1,
    read_instant(END).timestamp(),
)


def policy(*overrides):
    return read_policy(yaml.safe_dump({**SHIPPED, "overrides": overrides}), "facility.yaml", {}, lenient=True)


def person(*groups, username="ada"):
    return Claims(ISSUER, f"s-{username}", username, groups)


@pytest.mark.parametrize(
    "now, lets_in",
    [
        pytest.param(BEFORE, False, id="a second before"),
        pytest.param(BEGUN, True, id="from on"),
        pytest.param(LAST, True, id="the last second"),
        pytest.param(OVER, False, id="until is over"),
    ],
)
@pytest.mark.parametrize(
    "who", [person("/school", username="pupil"), person(username="teacher")], ids=["group", "named person"]
)
def test_in_force_between_two_instants(now, lets_in, who):
    rights = decide(policy(SCHOOL), who, now)
    assert rights.login is lets_in
    assert rights.images == (("python-base",) if lets_in else ())
    assert rights.because.get("login", ()) == (("CMS school",) if lets_in else ())


def test_nobody_else_gets_anything():
    assert not decide(policy(SCHOOL), person("/school/sub", "/schoo"), BEGUN).login
    assert decide(policy(SCHOOL), person("/cms/itcms"), BEGUN) == decide(policy(), person("/cms/itcms"), BEGUN)


def test_it_wins_over_rules_and_adds_to_their_lists():
    rights = decide(policy(SCHOOL, MORE), person("/cms/itcms"), BEGUN)
    assert rights.condor.account == "thesis-ada" and rights.limits.cores == 99
    assert rights.because["condor"] == rights.because["limits"] == ("ada's thesis",)
    assert rights.images == ("python-analysis", "python-base") and rights.because["login"] == ("CMS analysts",)
    assert decide(policy(MORE), person("/cms/itcms"), OVER).condor.account == "u-cms-ada"


def test_it_gives_nothing_to_whom_nothing_lets_in():
    rights = decide(policy(MORE), person(), BEGUN)
    assert not rights.login and rights.condor is None


def test_the_refusal_says_when():
    told = decide(policy(SCHOOL), person("/school", username="pupil"), BEFORE).refusal
    assert told.startswith("pupil will be let in from 2026-12-01 08:00+01:00 (CMS school).")
    told = decide(policy(SCHOOL), person("/school", username="pupil"), OVER).refusal
    assert told.startswith("pupil was let in until 2026-12-05 18:00+01:00 (CMS school), which is over.")
    assert "ask facility-admin@af-hub.test" in told


def test_the_next_change_is_the_next_edge():
    found = policy(SCHOOL, MORE)
    assert [next_change(found, now) for now in (BEFORE, BEGUN, LAST)] == [BEGUN, OVER, OVER]
    assert next_change(found, OVER) == float("inf") == next_change(policy(), 0.0)


@pytest.mark.parametrize("now", [BEFORE, BEGUN, OVER])
def test_the_access_point_agrees(now):
    found = policy(
        SCHOOL, MORE, {**SCHOOL, "name": "second", "condor": {"account": "s-{username}", "accounting_group": "s"}}
    )
    names = ["ada", "teacher", "bob"]
    groups = ["/school", "/cms/itcms", "/cms", "/icsc"]
    table = json.loads(compile_mapping(found, [Person(ISSUER, f"s-{name}", name) for name in names], now).table)
    for name, size in itertools.product(names, range(len(groups) + 1)):
        for some in itertools.combinations(groups, size):
            rights = decide(found, person(*some, username=name), now)
            payload = {"iss": ISSUER, "sub": f"s-{name}", "wlcg.groups": list(some)}
            expected = rights.condor.account if rights.condor else None
            assert mapper.map_account(table, payload) == expected, (name, some)


def test_the_access_point_is_told_at_both_edges(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "facility.yaml").write_text(yaml.safe_dump({**SHIPPED, "overrides": [SCHOOL, MORE]}))
    (tmp_path / "people.json").write_text(json.dumps([{"issuer": ISSUER, "subject": "s", "username": "ada"}]))
    told, now = [], [BEFORE]
    watch = Watch(
        tmp_path / "facility.yaml",
        tmp_path / "people.json",
        tmp_path,
        lambda _daemon: told.append(now[0]),
        lambda: now[0],
    )
    for now[0] in (BEFORE, BEFORE, BEGUN, BEGUN, LAST, OVER, OVER):
        watch.look()
    assert told == [BEFORE, OVER], "only at these was another account to be told"
    lines = [record.getMessage() for record in caplog.records if record.name == "af_hub.audit"]
    assert [line.split(" for ")[0] for line in lines] == [
        'audit: override "ada\'s thesis" is in force until 2026-12-05 18:00+01:00',
        "audit: override 'CMS school' is in force until 2026-12-05 18:00+01:00",
        "audit: override 'CMS school' has ended: its time is over; it was",
        'audit: override "ada\'s thesis" has ended: its time is over; it was',
    ]


def test_the_audit_log_has_each_change_once(caplog):
    caplog.set_level(logging.INFO, "af_hub.audit")
    seen = OverrideLog()

    def lines(found, now):
        caplog.clear()
        seen.look(found, now)
        return [record.getMessage() for record in caplog.records]

    both, longer = policy(SCHOOL, MORE), policy(SCHOOL, {**MORE, "until": "2027-01-01T00:00:00Z"})
    assert len(lines(both, BEFORE)) == 1 and lines(both, BEFORE) == []
    (begun,) = lines(both, BEGUN)
    assert "for members of /school and teacher: login True, images ['python-base'], sizes ['small']" in begun
    assert "'Perugia, December'" in begun
    (changed,) = lines(longer, BEGUN)
    assert changed.startswith('audit: override "ada\'s thesis" has changed: until 2027-01-01 00:00+00:00 for ada')
    (gone,) = lines(policy(SCHOOL), LAST)
    assert gone.startswith('audit: override "ada\'s thesis" has ended: facility.yaml no longer has it; it was for ada')
    (over,) = lines(policy(SCHOOL), OVER)
    assert over.startswith("audit: override 'CMS school' has ended: its time is over")


def test_what_an_iam_says_cannot_be_taken_for_a_line_of_ours():
    found, evil = policy(), person("/x\naudit: login of 'eve' let in", username="eve")
    line = decision_line(found, replace(evil, subject="a\nb"), decide(found, evil, BEGUN))
    assert "\n" not in line and line.startswith("login of 'eve'") and "refused" in line
    ada = person("/cms/itcms")
    assert decision_line(found, ada, decide(found, ada, BEGUN)).endswith(
        "let in by 'CMS analysts': login, image python-analysis, image python-base, size small, size medium, site T2_A, "
        "site T2_B, account u-cms-ada charged to cms.itcms, limits clusters=4 cores=16 memory=34359738368 lifetime=43200"
    )


def test_a_change_of_rights_says_what_was_got_and_lost():
    found = policy(MORE)
    member, other = person("/cms/itcms"), person("/icsc")
    before, after = decide(found, member, BEGUN), decide(found, member, OVER)
    assert change_line(member, before, before) == ""
    line = change_line(member, before, after)
    assert "got account u-cms-ada charged to cms.itcms" in line and "lost account thesis-ada" in line
    line = change_line(member, decide(policy(), member, 0), decide(policy(), other, 0))
    assert "lost image python-analysis, size medium, site T2_B" in line
    assert change_line(member, after, decide(found, person(), OVER)).startswith(
        "rights of 'ada' changed: lost login, image"
    )


def test_explain_answers_for_any_instant(tmp_path):
    path = tmp_path / "facility.yaml"
    path.write_text(yaml.safe_dump({**SHIPPED, "overrides": [SCHOOL]}))

    def explained(*more):
        arguments = ["explain", "--facility", str(path), "--groups", "/school", *more]
        return CliRunner().invoke(main, arguments)

    during = explained("--at", "2026-12-02T00:00:00Z")
    assert (
        during.exit_code == 0 and "\n  at 2026-12-02 00:00+00:00\nmay log in  [override: CMS school]\n" in during.output
    )
    assert "override 'CMS school': in force until 2026-12-05 18:00+01:00; Perugia, December" in during.output
    after = explained("--at", END)
    assert after.exit_code == 3 and "override 'CMS school': over since 2026-12-05 18:00+01:00" in after.output
    before = explained("--at", "2026-11-01T00:00:00Z")
    assert before.exit_code == 3 and "not in force before 2026-12-01 08:00+01:00" in before.output
    for wrong in ("soon", "2026-12-05T18:00:00"):
        done = explained("--at", wrong)
        assert done.exit_code == 2 and "as in `2026-12-05T18:00:00+01:00`" in done.output
