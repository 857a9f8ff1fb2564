"""The static mapfile: what stands in it, what keeps it from shrinking, and the command; read by real daemons in test_shares."""

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from af_hub.cli import main
from af_hub.condor import static
from af_hub.condor.mapfile import Keys, compile_mapfile, guard, read_accounts
from af_hub.errors import PolicyError, Unavailable
from af_hub.iam.claims import Claims
from af_hub.policy.decide import decide
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy

ISSUER = "https://iam.af-hub.test/"
NOW = 1_800_000_000.0
FACILITY = f"""\
facility: {{name: a, contact: b}}
issuers: [{{issuer: '{ISSUER}'}}]
images: {{}}
sizes: {{}}
rules:
  - {{name: cms, groups: [/cms/itcms], login: true, condor: {{account: 'u-cms-{{username}}', accounting_group: cms.itcms}}}}
  - {{name: own, groups: [/own], login: true, condor: {{account: '{{username}}', accounting_group: own}}}}
  - {{name: out, groups: [/out], condor: {{account: 'u-out-{{username}}', accounting_group: out}}}}
"""


def person(name: str, group: str = "/cms/itcms", subject: str = "", issuer: str = ISSUER) -> Claims:
    return Claims(issuer, subject or f"s-{name}", name, (group,))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy(FACILITY, "facility.yaml", {})


def test_a_line_for_everybody_with_an_account(policy: Policy) -> None:
    people = [person("bob"), person("ada"), person("eve", "/cms"), person("max", "/out")]
    made = compile_mapfile(policy, people, NOW)
    assert made.text == (
        "# Made by af-hub mapfile, which writes it anew: keys as they are, which wants CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS = True.\n"
        "SCITOKENS https://iam.af-hub.test/,s-ada u-cms-ada\n"
        "SCITOKENS https://iam.af-hub.test/,s-bob u-cms-bob\n"
        "# Whoever stands above is somebody; nobody else is.\n"
    )
    assert made.accounting_map == "* u-cms-ada cms.itcms\n* u-cms-bob cms.itcms\n" and made.without == 2


def test_keys_as_expressions(policy: Policy) -> None:
    made = compile_mapfile(policy, [person("ada", subject="a.b+c")], NOW, Keys.REGEX)
    assert "SCITOKENS ^https:\\/\\/iam\\.af-hub\\.test\\/,a\\.b\\+c$ u-cms-ada\n" in made.text
    assert read_accounts(made.text) == made.accounts == {f"{ISSUER},a.b+c": "u-cms-ada"}


def test_file_agrees_with_the_policy_on_everybody(policy: Policy) -> None:
    groups = ["/cms", "/cms/itcms", "/own", "/out"]
    people = [Claims(ISSUER, f"s{n}", f"u{n}", tuple(g for i, g in enumerate(groups) if n >> i & 1)) for n in range(16)]
    made = compile_mapfile(policy, people, NOW)
    for one in people:
        rights = decide(policy, one, NOW)
        assert made.accounts.get(f"{ISSUER},{one.subject}") == (rights.condor.account if rights.condor else None)


@pytest.mark.parametrize(
    "people, refused",
    [
        pytest.param([person("ada", subject="1"), person("ada", subject="2")], "u-cms-ada", id="one name, two people"),
        pytest.param([person("u-cms-ada", "/own"), person("ada")], "u-cms-ada", id="two templates meet"),
    ],
)
def test_doubtful_accounts_are_given_to_nobody(policy: Policy, people: list[Claims], refused: str) -> None:
    made = compile_mapfile(policy, people, NOW)
    assert made.refused == (refused,) and made.accounts == {} and made.accounting_map == ""


def test_htcondors_own_names_are_given_to_nobody(policy: Policy) -> None:
    made = compile_mapfile(policy, [person("condor", "/own"), person("operator", "/own")], NOW)
    assert made.accounts == {} and made.accounting_map == ""


@pytest.mark.parametrize("subject", ['a" root', "a b", "a\nSCITOKENS /.*/ root", "é", "\\"])
def test_subjects_that_would_break_the_file_are_left_out(policy: Policy, subject: str) -> None:
    made = compile_mapfile(policy, [person("ada", subject=subject)], NOW)
    assert made.accounts == {} and len(made.text.splitlines()) == 2


def test_an_unknown_issuer_is_nobody(policy: Policy) -> None:
    assert compile_mapfile(policy, [person("ada", issuer="https://else/")], NOW).accounts == {}


@pytest.mark.parametrize(
    "keys, tail, says",
    [
        ("hash", "SCITOKENS /^https:\\/\\/other\\/,(.*)$/ other-\\1", ""),
        ("hash", "# words\n\nSCITOKENS /^https:\\/\\/.*$/ PLUGIN:afhub", ""),
        ("hash", "SCITOKENS https://other/,x somebody", ""),
        ("hash", "SCITOKENS /.*/ guest", "whoever comes would be guest"),
        ("hash", "PASSWORD /(*.)/ condor_pool", "HTCondor's own"),
        ("hash", "PASSWORD /(*.)/ pool", "no expression"),
        ("hash", "SCITOKENS https://other/,x root@af.test", "HTCondor's own"),
        ("hash", "SCITOKENS https://other/,x", "three words"),
        ("hash", "@include other", "three words"),
        ("regex", "GSI (.*) anonymous", "HTCondor's own"),
        ("regex", "SCITOKENS .* guest", "whoever comes would be guest"),
        ("regex", "SCITOKENS ^https:\\/\\/other\\/,(.*) \\1", ""),
    ],
)
def test_lines_of_other_hands(policy: Policy, keys: str, tail: str, says: str) -> None:
    if says:
        with pytest.raises(PolicyError, match=says):
            compile_mapfile(policy, [], NOW, Keys(keys), tail)
    else:
        made = compile_mapfile(policy, [person("ada")], NOW, Keys(keys), tail)
        assert made.text.endswith(tail + "\n") and read_accounts(made.text) == made.accounts


OLD = {f"k{number}": f"a{number}" for number in range(20)}


@pytest.mark.parametrize(
    "new, floor, lose, says",
    [
        pytest.param(OLD, 1, None, "", id="the same"),
        pytest.param(OLD | {"k99": "a99"}, 1, None, "", id="one more"),
        pytest.param(dict(list(OLD.items())[4:]), 1, None, "", id="a fifth fewer"),
        pytest.param(dict(list(OLD.items())[5:]), 1, None, "5 of 20 .* `--lose 5`", id="more than a fifth"),
        pytest.param(dict(list(OLD.items())[5:]), 1, 5, "", id="as many as was said"),
        pytest.param(dict(list(OLD.items())[6:]), 1, 5, "6 of 20 .* wanted 5", id="more than was said"),
        pytest.param({key: f"x{key}" for key in OLD}, 1, None, "20 of 20", id="as many, with other accounts"),
        pytest.param({}, 1, None, "found 0 lines .* wanted at least 1.* `--floor 0`", id="nobody"),
        pytest.param(OLD, 21, None, "found 20 lines .* wanted at least 21", id="below the floor"),
    ],
)
def test_guard(new: dict[str, str], floor: int, lose: int | None, says: str) -> None:
    found = guard(OLD, new, floor, 0.2, lose)
    assert (not found) if not says else re.search(says, found), found


def test_one_of_few_may_always_go() -> None:
    assert guard({"a": "a", "b": "b"}, {"a": "a"}, 1, 0.2, None) == ""
    assert guard({}, {"a": "a"}, 1, 0.0, None) == ""


class Command:
    """``af-hub mapfile`` in a folder of its own; its reconfig command writes a line."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.into = folder, folder / "mapfile"
        (folder / "facility.yaml").write_text(FACILITY)
        self.told = folder / "told"
        self.reconfig = f"{sys.executable} -c \"open('{self.told}', 'a').write('x')\""

    def run(self, *people: str, more: tuple[str, ...] = ()) -> Result:
        rows = [{"subject": f"s-{name}", "username": name, "groups": ["cms/itcms"]} for name in people]
        (self.folder / "people.json").write_text(json.dumps(rows))
        argv = ["mapfile", "--list", self.folder / "people.json", "--into", self.into, "--reconfig", self.reconfig]
        argv += ["--facility", self.folder / "facility.yaml", *more]
        return CliRunner().invoke(main, [str(word) for word in argv])

    def times_told(self) -> int:
        return len(self.told.read_text()) if self.told.exists() else 0


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_command_writes_tells_and_is_quiet_the_second_time(command: Command) -> None:
    done = command.run("ada", "bob", more=("--accounting-map", str(command.folder / "map")))
    assert done.exit_code == 0 and "+SCITOKENS https://iam.af-hub.test/,s-ada u-cms-ada" in done.stdout
    assert "people: 2, of whom the policy gives no account: 0; lines: 2" in done.stderr and command.times_told() == 1
    assert (command.folder / "map").read_text() == "* u-cms-ada cms.itcms\n* u-cms-bob cms.itcms\n"
    assert command.into.stat().st_mode & 0o777 == 0o644
    done = command.run("ada", "bob")
    assert (done.exit_code, done.stdout, command.times_told()) == (0, "", 1) and "as it was" in done.stderr


def test_dry_run_changes_nothing(command: Command) -> None:
    done = command.run("ada", more=("--dry-run",))
    assert done.exit_code == 0 and "+SCITOKENS" in done.stdout
    assert sorted(path.name for path in command.folder.iterdir()) == ["facility.yaml", "people.json"]
    command.run("ada", "bob", "eve", "max")
    done = command.run("ada", more=("--dry-run",))
    assert done.exit_code == 3 and "-SCITOKENS https://iam.af-hub.test/,s-bob u-cms-bob" in done.stdout


def test_too_many_fewer_is_refused_until_said(command: Command) -> None:
    command.run("ada", "bob", "eve")
    before = command.into.read_text()
    done = command.run("ada")
    assert done.exit_code == 3 and "--lose 2" in done.stderr and command.into.read_text() == before
    assert command.run().exit_code == 3 and "--floor 0" in command.run().stderr
    assert command.run("ada", more=("--lose", "2")).exit_code == 0
    assert "s-bob" not in command.into.read_text() and command.times_told() == 2


def test_a_file_of_other_hands_is_left_alone(command: Command) -> None:
    command.into.write_text("SCITOKENS https://iam/,x y\n")
    done = command.run("ada")
    assert done.exit_code == 1 and "not made by" in done.stderr and "--tail" in done.stderr
    assert command.into.read_text() == "SCITOKENS https://iam/,x y\n"


def test_htcondor_that_was_not_told_is_told_by_the_next_run(command: Command) -> None:
    good, command.reconfig = command.reconfig, "false"
    assert command.run("ada").exit_code == 1 and "s-ada" in command.into.read_text()
    command.reconfig = good
    assert command.run("ada").exit_code == 0 and command.times_told() == 1
    assert command.run("ada").exit_code == 0 and command.times_told() == 1


def test_two_runs_do_not_meet(command: Command) -> None:
    with static.only_run(command.into):
        done = command.run("ada")
    assert done.exit_code == 1 and "another run" in done.stderr and not command.into.exists()
    assert command.run("ada").exit_code == 0


def test_a_new_file_has_another_second_than_the_old_one(command: Command) -> None:
    """HTCondor 23.9 passes over a map with the same time."""
    command.run("ada")
    before = command.into.stat().st_mtime_ns // 10**9
    command.run("ada", "bob")
    assert command.into.stat().st_mtime_ns // 10**9 > before


@pytest.mark.parametrize("more", [("--scim", "https://iam/scim"), ("--shrink", "2"), ("--keys", "other")])
def test_mistyped(command: Command, more: tuple[str, ...]) -> None:
    assert command.run("ada", more=more).exit_code == 2


@pytest.mark.parametrize("text", ["{", "{a: 1}", "[1]", "- x\n- ["])
def test_a_list_that_is_none(command: Command, text: str) -> None:
    (command.folder / "list").write_text(text)
    argv = ["mapfile", "--list", str(command.folder / "list"), "--into", str(command.into)]
    done = CliRunner().invoke(main, [*argv, "--facility", str(command.folder / "facility.yaml")])
    assert done.exit_code == 1 and "list of people" in done.stderr and not command.into.exists()


def test_who_cannot_be_somebody_is_named(command: Command) -> None:
    done = command.run("ada", "Big Bob")
    assert done.exit_code == 0 and "passed over: 'Big Bob'" in done.stderr and "people: 1," in done.stderr


TWO = FACILITY.replace(
    f"issuers: [{{issuer: '{ISSUER}'}}]",
    f"issuers: [{{name: cms, issuer: '{ISSUER}'}}, {{name: icsc, issuer: 'https://icsc/', client_id: x}}]",
)


def test_words_for_several_issuers(policy: Policy) -> None:
    two = read_policy(TWO, "facility.yaml", {})
    assert static.by_issuer(policy, ["https://a/scim?x=y"], "--scim") == {ISSUER: "https://a/scim?x=y"}
    found = static.by_issuer(two, ["cms=https://a/scim", "icsc=https://b/scim"], "--scim")
    assert found == {ISSUER: "https://a/scim", "https://icsc/": "https://b/scim"}
    for wrong in (["https://a/scim"], ["cms=a", "cms=b"], ["other=a"]):
        with pytest.raises(PolicyError, match="--scim"):
            static.by_issuer(two, wrong, "--scim")


@pytest.mark.parametrize("mode, text", [(0o644, "abc"), (0o600, ""), (0o600, "two words"), (0o600, "a\nb")])
def test_a_token_file_that_does_not_do(tmp_path: Path, mode: int, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(Unavailable) as caught:
        static.read_token(file)
    assert "abc" not in str(caught.value) and "two words" not in str(caught.value)
