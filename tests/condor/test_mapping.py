"""The table and the map, and that the mapping program says what the policy says."""

import itertools
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from af_hub.condor import mapper
from af_hub.condor.mapping import Person, compile_mapping, read_people
from af_hub.errors import PolicyError
from af_hub.iam.claims import Claims, own_subject
from af_hub.policy.decide import decide
from af_hub.policy.load import load_policy, read_policy
from af_hub.policy.model import Policy

ISSUER = "https://iam.af-hub.test/"
FACILITY = Path(__file__).parents[2] / "hub_config" / "facility.yaml"
NOW = 1_800_000_000.0
ADA = Person(ISSUER, "s-ada", "ada")


def policy(*rules: str) -> Policy:
    text = (
        "facility: {name: a, contact: b}\n"
        f"issuers: [{{issuer: '{ISSUER}'}}]\nimages: {{}}\nsizes: {{}}\nrules:\n"
        + "".join(f"  - {rule}\n" for rule in rules)
    )
    return read_policy(text, "facility.yaml", {})


def rule(group: str, account: str, charged: str, login: str = "true", shared: str = "false") -> str:
    return (
        f"{{name: '{group}', groups: [{group}], login: {login}, "
        f"condor: {{account: '{account}', accounting_group: {charged}, shared_account: {shared}}}}}"
    )


CMS = rule("/cms/itcms", "u-cms-{username}", "cms.itcms")
ICSC = rule("/icsc", "u-icsc-{username}", "icsc")


@pytest.mark.parametrize(
    "payload, account",
    [
        pytest.param({"wlcg.groups": ["/cms/itcms"]}, "u-cms-ada", id="WLCG profile"),
        pytest.param({"groups": ["cms/itcms", "cms"]}, "u-cms-ada", id="IAM profile has no slash"),
        pytest.param(
            {"wlcg.groups": ["/icsc", "/cms/itcms"]}, "u-cms-ada", id="first rule of the policy, not of the token"
        ),
        pytest.param({"wlcg.groups": ["/cms"]}, None, id="member of the parent only"),
        pytest.param({"wlcg.groups": ["/cms/itcms-admins"]}, None, id="a longer name is another group"),
        pytest.param({"wlcg.groups": ["/cms/itcms"], "sub": "s-eve"}, None, id="never logged in at the hub"),
        pytest.param({"wlcg.groups": ["/cms/itcms"], "iss": ISSUER[:-1]}, None, id="issuer without its slash"),
        pytest.param({"wlcg.groups": "/cms/itcms"}, None, id="groups are no list"),
        pytest.param({"wlcg.groups": [["/cms/itcms"]]}, None, id="a group is no name"),
        pytest.param({}, None, id="no groups"),
        pytest.param(
            {"preferred_username": "root", "wlcg.groups": ["/cms/itcms"]}, "u-cms-ada", id="claims name nobody"
        ),
    ],
)
def test_account_of_a_payload(payload: dict[str, Any], account: str | None) -> None:
    table = json.loads(compile_mapping(policy(CMS, ICSC), [ADA], NOW).table)
    assert mapper.map_account(table, {"iss": ISSUER, "sub": "s-ada", **payload}) == account


def test_whoever_may_not_log_in_has_no_account() -> None:
    table = json.loads(compile_mapping(policy(rule("/cms", "u-{username}", "cms", login="false")), [ADA], NOW).table)
    assert mapper.map_account(table, {"iss": ISSUER, "sub": "s-ada", "wlcg.groups": ["/cms"]}) is None


def test_program_and_policy_agree_on_everybody() -> None:
    """For every set of groups that the facility's rules can tell apart."""
    found = load_policy(FACILITY, lenient=True)
    groups = ["/cms", *(group for each in found.rules for group in each.groups)]
    people = [ADA, Person(ISSUER, "s-bob", "b_o.b-1"), Person("https://other/", "s-ada", "ada")]
    table = json.loads(compile_mapping(found, people, NOW).table)
    for person in people:
        for size in range(len(groups) + 1):
            for some in itertools.combinations(groups, size):
                rights = decide(found, Claims(person.issuer, person.subject, person.username, some), NOW)
                payload = {"iss": person.issuer, "sub": person.subject, "wlcg.groups": list(some)}
                expected = rights.condor.account if rights.condor else None
                assert mapper.map_account(table, payload) == expected, (person, some)


@pytest.mark.parametrize("by", ["hub", "refresh"])
def test_tokens_that_the_hub_signs_are_mapped_where_the_policy_has_it_sign_them(by: str) -> None:
    """The pair stands for that of the IAM; groups have their prefix already."""
    text = (
        "facility: {name: a, contact: b, hub: 'https://hub.test/'}\n"
        f"issuers: [{{issuer: '{ISSUER}', groups_prefix: /cms}}]\ntokens: {{condor: {{by: {by}}}}}\n"
        f"images: {{}}\nsizes: {{}}\nrules:\n  - {CMS}\n"
    )
    table = json.loads(compile_mapping(read_policy(text, "facility.yaml", {}), [ADA], NOW).table)
    own = {"iss": "https://hub.test/hub/api/af/issuer", "sub": own_subject(ISSUER, "s-ada")}
    account = "u-cms-ada" if by == "hub" else None
    assert mapper.map_account(table, {**own, "wlcg.groups": ["/cms/itcms"]}) == account
    for wrong in {**own, "sub": "s-ada"}, {**own, "iss": ISSUER}, {**own, "sub": own_subject(ISSUER, "s-bob")}:
        assert mapper.map_account(table, {**wrong, "wlcg.groups": ["/cms/itcms"]}) is None
    assert mapper.map_account(table, {**own, "wlcg.groups": ["/itcms"]}) is None


def test_groups_of_an_issuer_have_its_prefix_at_the_access_point() -> None:
    other = "https://other.test/"
    issuers = (
        f"issuers: [{{issuer: '{ISSUER}', groups_prefix: /cms}}, {{issuer: '{other}', name: other, client_id: b}}]"
    )
    text = f"facility: {{name: a, contact: b}}\n{issuers}\nimages: {{}}\nsizes: {{}}\nrules:\n  - {CMS}\n"
    found = read_policy(text, "facility.yaml", {})
    people = [ADA, Person(other, "s-bob", "bob")]
    table = json.loads(compile_mapping(found, people, NOW).table)
    for person, group in itertools.product(people, ["/itcms", "/cms/itcms"]):
        rights = decide(found, Claims(person.issuer, person.subject, person.username, (group,)), NOW)
        payload = {"iss": person.issuer, "sub": person.subject, "wlcg.groups": [group]}
        assert rights.login is ((person, group) == (ADA, "/itcms"))
        assert mapper.map_account(table, payload) == (rights.condor.account if rights.condor else None)


def test_groups_that_begin_as_those_of_another_issuer_count_for_nothing_at_the_access_point() -> None:
    other = "https://other.test/"
    issuers = (
        f"issuers: [{{issuer: '{ISSUER}'}}, {{issuer: '{other}', name: other, client_id: b, groups_prefix: /icsc}}]"
    )
    where = "facility: {name: a, contact: b, hub: 'https://hub.test/'}\ntokens: {condor: {by: hub}}"
    text = f"{where}\n{issuers}\nimages: {{}}\nsizes: {{}}\nrules:\n  - {CMS}\n  - {rule('/icsc/users', 'u-{username}', 'i')}\n"
    found = read_policy(text, "facility.yaml", {})
    bob = Person(other, "s-bob", "bob")
    table = json.loads(compile_mapping(found, [ADA, bob], NOW).table)

    def account(group: str, issuer: str, subject: str) -> str | None:
        return mapper.map_account(table, {"iss": issuer, "sub": subject, "wlcg.groups": [group]})

    for person, group in itertools.product([ADA, bob], ["/icsc/users", "icsc/users/", "/users", "/cms/itcms"]):
        rights = decide(found, Claims(person.issuer, person.subject, person.username, ("/" + group.strip("/"),)), NOW)
        expected = {(ADA, "/cms/itcms"): "u-cms-ada", (bob, "/users"): "u-bob"}.get((person, group))
        assert (rights.condor.account if rights.condor else None) == expected
        assert account(group, person.issuer, person.subject) == expected
    # What the hub signs has been through this already.
    assert account("/icsc/users", found.own_issuer, own_subject(other, "s-bob")) == "u-bob"


def test_accounting_map_has_a_line_for_each_account() -> None:
    bob = Person(ISSUER, "s-bob", "bob")
    assert compile_mapping(policy(CMS, ICSC), [bob, ADA], NOW).accounting_map == (
        "* u-cms-ada cms.itcms\n* u-cms-bob cms.itcms\n* u-icsc-ada icsc\n* u-icsc-bob icsc\n"
    )


@pytest.mark.parametrize(
    "rules, people, refused",
    [
        pytest.param([CMS], [ADA, Person(ISSUER, "s-2", "ada")], ["u-cms-ada"], id="one name, two subjects"),
        pytest.param(
            [rule("/a", "u-{username}", "a"), rule("/b", "u-x-{username}", "b")],
            [Person(ISSUER, "1", "x-ada"), ADA],
            ["u-x-ada"],
            id="two templates meet",
        ),
        pytest.param([rule("/a", "site-{username}", "a")], [ADA], ["site-ada"], id="a site's identity"),
        pytest.param([rule("/a", "af-check-{username}", "a")], [ADA], ["af-check-ada"], id="an account of checks"),
        pytest.param([rule("/a", "{username}", "a")], [Person(ISSUER, "1", "condor")], ["condor"], id="HTCondor's own"),
        pytest.param([rule("/a", "{username}", "a")], [Person(ISSUER, "1", "operator")], ["operator"], id="operator"),
        pytest.param(
            [rule("/a", "team", "a", shared="true")],
            [ADA, Person(ISSUER, "1", "bob")],
            [],
            id="shared because it says so",
        ),
    ],
)
def test_doubtful_accounts_are_given_to_nobody(rules: list[str], people: list[Person], refused: list[str]) -> None:
    mapping = compile_mapping(policy(*rules), people, NOW)
    assert list(mapping.refused) == refused
    assert not any(account in mapping.accounting_map for account in refused)
    groups = [group for each in policy(*rules).rules for group in each.groups]
    for person, group in itertools.product(people, groups):
        payload = {"iss": person.issuer, "sub": person.subject, "wlcg.groups": [group]}
        assert mapper.map_account(json.loads(mapping.table), payload) not in refused


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', '["x"]', '[{"issuer": "a", "subject": "b"}]', "3"])
def test_broken_list_of_people(text: str) -> None:
    with pytest.raises(PolicyError, match="issuer"):
        read_people(text)


def run_mapper(table: Path, payload: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", mapper.__file__, str(table)]
    return subprocess.run(argv, input=payload, capture_output=True, text=True, timeout=10)


ADAS = json.dumps({"iss": ISSUER, "sub": "s-ada", "wlcg.groups": ["/cms/itcms"]})


@pytest.mark.parametrize(
    "table",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 3, "people": []}',
        '{"version": 3, "people": {"https://iam.af-hub.test/,s-ada": 5}, "login": ["/cms/itcms"], "rules": [{"groups": '
        '["/cms/itcms"], "account": "a-{username}"}], "refused": []}',
    ],
)
def test_broken_table_maps_nobody(tmp_path: Path, table: str | None) -> None:
    if table is not None:
        (tmp_path / "table.json").write_text(table)
    done = run_mapper(tmp_path / "table.json", ADAS)
    assert (done.returncode, done.stdout) == (1, "") and "s-ada" not in done.stderr


@pytest.mark.parametrize("payload", ["", "[]", "{}", '{"iss": 1, "sub": null}', "null"])
def test_broken_payload_maps_nobody(tmp_path: Path, payload: str) -> None:
    (tmp_path / "table.json").write_text(compile_mapping(policy(CMS), [ADA], NOW).table)
    assert run_mapper(tmp_path / "table.json", payload).returncode == 1


def test_program_answers_within_its_time(tmp_path: Path) -> None:
    """With two thousand people, best of ten; time of the processor, since the machine may be busy and the program may not."""
    people = [Person(ISSUER, f"s-{number}", f"user{number}") for number in range(2000)]
    (tmp_path / "table.json").write_text(compile_mapping(policy(CMS), [ADA, *people], NOW).table)
    seconds = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_mapper(tmp_path / "table.json", ADAS)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert (done.returncode, done.stdout) == (0, "u-cms-ada")
    assert min(seconds) < 0.05
