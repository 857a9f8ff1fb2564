"""How the pool is shared, as the negotiator reads it; on the real one in test_shares."""

from click.testing import CliRunner

from af_hub.cli import main
from af_hub.condor.negotiator import describe_claims, describe_groups
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy

HEAD = "# Made from `accounting_groups` of facility.yaml; an edit here is lost.\n"


def policy(groups: str) -> Policy:
    return read_policy(
        "facility: {name: a, contact: b}\nissuers: [{issuer: 'https://iam/'}]\nimages: {}\nsizes: {}\nrules: []\n"
        f"accounting_groups: {groups}\n",
        "facility.yaml",
        {},
    )


def test_without_groups_there_are_no_quotas() -> None:
    assert describe_groups(policy("{}")) == HEAD + "GROUP_NAMES =\n"
    assert describe_claims(policy("{}")) == HEAD


def test_groups_with_quota_surplus_and_priority() -> None:
    found = describe_groups(
        policy("{icsc: {quota: 40, surplus: true}, cms.itcms: {quota: 1.0, priority_factor: 10}, cms: {quota: 0.4}}")
    )
    assert found == (
        HEAD
        + """\
GROUP_NAMES = cms, cms.itcms, icsc
GROUP_QUOTA_DYNAMIC_cms = 0.4
GROUP_ACCEPT_SURPLUS_cms = False
GROUP_QUOTA_DYNAMIC_cms.itcms = 1.0
GROUP_ACCEPT_SURPLUS_cms.itcms = False
GROUP_PRIO_FACTOR_cms.itcms = 10.0
GROUP_QUOTA_icsc = 40
GROUP_ACCEPT_SURPLUS_icsc = True
"""
    )


def test_a_group_without_quota_takes_what_is_left() -> None:
    found = describe_groups(policy("{af: {}}"))
    assert "GROUP_QUOTA_DYNAMIC_af = 0.0\nGROUP_ACCEPT_SURPLUS_af = True\n" in found
    assert describe_claims(policy("{af: {}}")) == HEAD


def test_quotas_hold_on_nodes_that_are_shared() -> None:
    assert "CLAIM_PARTITIONABLE_LEFTOVERS = False\n" in describe_claims(policy("{af: {}, cms: {quota: 0.1}}"))


def test_the_command_prints_them(tmp_path) -> None:
    file = tmp_path / "facility.yaml"
    file.write_text(
        "facility: {name: a, contact: b}\nissuers: [{issuer: 'https://iam/'}]\nimages: {}\nsizes: {}\nrules: []\n"
        "accounting_groups: {cms: {quota: 0.4}}\n"
    )
    done = CliRunner().invoke(main, ["negotiator", "--facility", str(file)])
    assert (done.exit_code, done.output) == (0, describe_groups(policy("{cms: {quota: 0.4}}")))
    file.write_text("rules: {")
    assert CliRunner().invoke(main, ["negotiator", "--facility", str(file)]).exit_code == 1
