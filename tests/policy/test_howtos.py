"""What the how-tos tell people to write into facility.yaml can be written there, and does what they say."""

import re
from pathlib import Path

import pytest
import yaml

from af_hub.iam.claims import Claims
from af_hub.policy.check import check_policy
from af_hub.policy.decide import decide
from af_hub.policy.load import read_policy
from af_hub.policy.units import read_instant

ROOT = Path(__file__).parents[2]
SHIPPED = yaml.safe_load((ROOT / "hub_config" / "facility.yaml").read_text())
BLOCK = re.compile(r"^```(?:yaml|\{code-block\} yaml\n:caption: [^\n]*)\n(.*?)^```", re.M | re.S)
DURING = read_instant("2026-12-03T12:00:00Z").timestamp()


def written(page, *without):
    """The shipped policy with all that the page shows; of two blocks with one key the first counts."""
    found = {}
    for block in BLOCK.findall((ROOT / "docs" / "how-to" / page).read_text()):
        found = {**(yaml.safe_load(block) or {}), **found}
    return {**SHIPPED, **{key: value for key, value in found.items() if key not in without}}


def read(found):
    text = yaml.safe_dump(found, sort_keys=False)
    report = check_policy(text, "facility.yaml", {}, DURING)
    assert report.mistakes == (), report.mistakes
    return read_policy(text, "facility.yaml", {}, lenient=True)


def test_several_experiments():
    policy = read(written("several-experiments.md"))
    cms, icsc = (issuer.issuer for issuer in policy.issuers)

    def lets_in(issuer, *groups):
        return decide(policy, Claims(issuer, "s", "ada", groups), DURING).login

    assert lets_in(icsc, "/users") and lets_in(cms, "/cms/itcms")
    assert (
        not lets_in(cms, "/users")
        and not lets_in(cms, "/icsc/users")
        and not lets_in(icsc, "/itcms")
        and not lets_in(icsc, "/cms/itcms")
    )
    assert set(policy.agreements) == {"cms"} and policy.accounting_groups["icsc"].quota == 0.4
    assert policy.tokens_of(cms).condor.by == "refresh"


def test_shares_of_the_pool():
    policy = read(written("share-the-pool.md"))
    assert set(policy.accounting_groups) == {"cms", "cms.itcms", "icsc", "af"}


@pytest.mark.parametrize(
    "page, person, groups",
    [("change-the-policy.md", "pupil", ("/cms/school-2026",)), ("when-somebody-loses-a-group.md", "ada", ())],
)
def test_overrides(page, person, groups):
    policy = read(written(page))
    claims = Claims(policy.issuers[0].issuer, "s", person, groups)
    assert decide(policy, claims, DURING).login
    assert not decide(policy, claims, policy.overrides[0].until.timestamp()).login


def test_announcements():
    policy = read(written("change-the-policy.md"))
    (one,) = policy.announced(DURING)
    assert one.level == "warning" and policy.announced(one.until.timestamp()) == []
