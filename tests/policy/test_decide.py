"""Who gets what."""

from pathlib import Path

import pytest

from af_hub.iam.claims import Claims
from af_hub.policy.decide import decide
from af_hub.policy.explain import explain
from af_hub.policy.load import load_policy

POLICY = load_policy(Path(__file__).parents[2] / "hub_config" / "facility.yaml", {}, lenient=True)
ISSUER = POLICY.issuers[0].issuer

NOW = 1_800_000_000.0


def person(*groups, username="ada", issuer=ISSUER):
    return Claims(issuer, "subject", username, groups)


@pytest.mark.parametrize(
    "groups, account, images",
    [
        pytest.param(["/cms", "/cms/itcms"], "u-cms-ada", ("python-analysis", "python-base"), id="member"),
        pytest.param(["/cms"], None, (), id="member of the parent only"),
        pytest.param(["/cms/itcms-admins"], None, (), id="a longer name is another group"),
        pytest.param(["/cms/itcms/sub"], None, (), id="a subgroup alone is another group"),
        pytest.param(["/CMS/itcms"], None, (), id="capitals are another group"),
        pytest.param([], None, (), id="no groups"),
        pytest.param(["/icsc"], "u-icsc-ada", ("python-base",), id="another experiment"),
        pytest.param(
            ["/icsc", "/cms/itcms"], "u-cms-ada", ("python-analysis", "python-base"), id="first rule gives the account"
        ),
    ],
)
def test_groups_decide(groups, account, images):
    rights = decide(POLICY, person(*groups), NOW)
    assert (rights.condor.account if rights.condor else None) == account
    assert rights.images == images
    assert rights.login == bool(images)


def test_admin_is_a_right_of_its_own():
    assert not decide(POLICY, person("/cms/itcms"), NOW).admin
    assert decide(POLICY, person("/af", "/af/admins"), NOW).admin


def test_an_unknown_issuer_gets_nothing_whatever_its_groups():
    rights = decide(POLICY, person("/cms/itcms", issuer="https://evil.test/"), NOW)
    assert not rights.login and not rights.images and "does not know" in rights.refusal


def test_the_refusal_names_what_is_missing_and_whom_to_ask():
    refusal = decide(POLICY, person("/guests", username="outsider"), NOW).refusal
    assert (
        "outsider is in none of" in refusal
        and "/cms/itcms" in refusal
        and "/guests" in refusal
        and "facility-admin@" in refusal
    )


def test_every_right_names_its_rule():
    rights = decide(POLICY, person("/icsc", "/cms/itcms"), NOW)
    assert rights.because["image python-base"] == ("CMS analysts", "ICSC analysts")
    assert rights.because["condor"] == ("CMS analysts",)


def test_the_explanation_says_it_in_words():
    text = explain(POLICY, person("/cms/itcms"), decide(POLICY, person("/cms/itcms"), NOW), "a test", NOW)
    assert "HTCondor account: u-cms-ada  [rule: CMS analysts]" in text
    assert "32 GiB memory, 12 h each cluster" in text
