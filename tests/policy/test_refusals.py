"""What somebody is told who does not get something: what is missing, whom to ask, and the page that says more."""

import re
from pathlib import Path

import pytest
import yaml

from af_hub.controller.choices import Choice, check_choice, check_count
from af_hub.errors import Refused
from af_hub.iam.claims import Claims
from af_hub.policy import refusals
from af_hub.policy.decide import decide, facility_groups
from af_hub.policy.explain import explain
from af_hub.policy.load import read_policy
from af_hub.policy.refusals import PAGES
from af_hub.registry.reasons import ImageReason

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "hub_config" / "facility.yaml").read_text())
HELP = "https://hub.test/hub/af/refused/"
CMS, ICSC = "https://cms.test/", "https://icsc.test/"
CONTACT = SHIPPED["facility"]["contact"]


def policy(**more):
    found = {**SHIPPED, "facility": {**SHIPPED["facility"], "help": HELP}, **more}
    return read_policy(yaml.safe_dump(found), "facility.yaml", {}, lenient=True)


def person(*groups, issuer=SHIPPED["issuers"][0]["issuer"]):
    return Claims(issuer, "s", "ada", groups)


def rules(*groups, **gifts):
    return [{"name": "r", "groups": list(groups), "login": True, **gifts}]


BIG = {"cores": 9, "memory": 2**30, "workers": 9}
WANTED = {"site": "T2_B", "image": "python-base", "workers": 1, "cores": 1, "memory": 2**30}


def of_controller(groups, **asked):
    found = policy(rules=[*SHIPPED["rules"], *rules("/guests"), {**rules("/half")[0], "name": "h", "sites": ["T2_B"]}])
    rights = decide(found, person(*groups), 0.0)
    try:
        check_choice(rights, Choice(**{**WANTED, **asked}), found)
        check_count(rights, 4, found)
    except Refused as error:
        return str(error)
    raise AssertionError("nothing was refused")


SAID = {
    "no-group": lambda: decide(policy(), person("/cms"), 0.0).refusal,
    "unknown-issuer": lambda: decide(policy(), person(issuer="https://evil.test/"), 0.0).refusal,
    "blocked": lambda: refusals.blocked(policy(), "ada"),
    "name-taken": lambda: refusals.name_taken(policy(), "ada"),
    "agreement": lambda: refusals.agreement(
        policy(agreements={"iam": {"url": "https://iam.test/aup"}}), SHIPPED["issuers"][0]["issuer"]
    ),
    "no-account": lambda: of_controller(["/guests"]),
    "no-clusters": lambda: refusals.no_clusters(policy()),
    "not-given": lambda: of_controller(["/icsc"]),
    "limit": lambda: of_controller(["/cms/itcms"], **BIG),
}
IN_TIME = {"ended", "not-yet"}
"""Those of overrides: tests/policy/test_overrides.py."""
OF_IMAGES = {str(one) for one in ImageReason}
"""Those of images: tests/registry/test_refused_images.py."""


def test_every_page_has_its_sentence():
    assert set(SAID) | IN_TIME | OF_IMAGES == set(PAGES)


@pytest.mark.parametrize("page", SAID)
def test_each_names_whom_to_ask_and_links_to_its_page(page):
    sentence = SAID[page]()
    assert CONTACT in sentence and sentence.endswith(f" See {HELP}{page}."), sentence
    for part in re.split(r"…", PAGES[page].says):
        assert part.strip() in sentence, (part, sentence)


@pytest.mark.parametrize(
    "page, names",
    [
        ("no-group", ["/cms/itcms, /icsc, /af/admins", "the IAM says: /cms"]),
        ("agreement", ["https://iam.test/aup", "log in here again"]),
        ("no-account", ["/cms/itcms, /icsc, /af/admins"]),
        ("no-clusters", ["/cms/itcms, /icsc, /af/admins"]),
        (
            "not-given",
            [
                "The site T2_B is not open to your groups: members of /cms/itcms, /af/admins, /half have it",
                "open are: T2_A.",
            ],
        ),
        ("limit", ["your limit is 16", "1 such worker would fit"]),
    ],
)
def test_each_names_what_is_missing(page, names):
    sentence = SAID[page]()
    for name in names:
        assert name in sentence, sentence


def test_no_link_while_nobody_knows_where_the_pages_are():
    for help in ("", "${AF_PUBLIC_URL}hub/af/refused/"):
        found = policy(facility={**SHIPPED["facility"], "help": help})
        assert "See " not in decide(found, person(), 0.0).refusal


def test_of_many_groups_a_few_near_ones_are_named():
    many = [f"/e{number // 20}/g{number % 20}" for number in range(2000)]
    found = policy(rules=rules(*many))
    told = decide(found, person("/e7", "/e7/none"), 0.0).refusal
    assert "/e7/g0, /e7/g1, /e7/g2, /e7/g3, /e7/g4 and 1995 more" in told and len(told) < 400
    told = decide(found, person(*[f"/x/{number}" for number in range(300)]), 0.0).refusal
    assert "/e0/g0, /e0/g1, /e0/g2, /e0/g3, /e0/g4 and 1995 more" in told and "and 295 more" in told and len(told) < 400


TWO = [
    {"name": "cms", "title": "CMS", "issuer": CMS, "client_id": "a", "groups_prefix": "/cms"},
    {"name": "icsc", "title": "ICSC", "issuer": ICSC, "client_id": "b", "groups_prefix": "/icsc"},
]


def test_groups_of_two_issuers_never_mean_the_same():
    found = policy(issuers=TWO, rules=rules("/cms/itcms", "/icsc/users"))
    assert decide(found, person("/itcms", issuer=CMS), 0.0).login
    assert not decide(found, person("/itcms", issuer=ICSC), 0.0).login
    assert not decide(found, person("/cms/itcms", issuer=ICSC), 0.0).login
    assert not decide(found, person("/cms/itcms", issuer=CMS), 0.0).login
    assert decide(found, person("/users", issuer=ICSC), 0.0).login


WITHOUT = [{**TWO[0], "groups_prefix": ""}, TWO[1]]


@pytest.mark.parametrize(
    "group, counts",
    [
        pytest.param("/icsc/users", False, id="below the other's prefix"),
        pytest.param("/icsc", False, id="the prefix itself"),
        pytest.param("/icsc-users", True, id="a longer name"),
        pytest.param("/cms/icsc/users", True, id="the name further down"),
    ],
)
def test_an_issuer_without_a_prefix_cannot_say_groups_of_another(group, counts):
    found = policy(issuers=WITHOUT, rules=rules("/icsc/users", "/icsc", "/icsc-users", "/cms/icsc/users"))
    claims = person(group, "/cms", issuer=CMS)
    assert facility_groups(found, claims) == ((group, "/cms") if counts else ("/cms",))
    rights = decide(found, claims, 0.0)
    assert rights.login is counts
    told = explain(found, claims, rights, "a test", 0.0)
    assert (f"  without {group}, which only issuer icsc may say\n" in told) is not counts
    assert counts or ("may log in here: /icsc-users, /cms/icsc/users (CMS says: /cms)" in told), "nor is it named"


def test_of_two_prefixes_the_longer_says_whose_a_group_is():
    issuers = [TWO[0], {**TWO[1], "groups_prefix": "/cms/icsc"}]
    found = policy(issuers=issuers, rules=rules("/cms/icsc/users", "/cms/itcms"))
    assert decide(found, person("/users", issuer=ICSC), 0.0).login
    assert not decide(found, person("/icsc/users", issuer=CMS), 0.0).login
    assert decide(found, person("/itcms", issuer=CMS), 0.0).login
    same = policy(issuers=[TWO[0], {**TWO[1], "groups_prefix": "/cms"}], rules=rules("/cms/users"))
    assert all(decide(same, person("/users", issuer=issuer), 0.0).login for issuer in (CMS, ICSC)), "they say so"


def test_of_two_issuers_only_groups_that_the_person_can_join_are_named():
    found = policy(issuers=TWO, rules=rules("/cms/itcms", "/icsc/users"))
    told = decide(found, person("/other", issuer=ICSC), 0.0).refusal
    assert "may log in here: /icsc/users (ICSC says: /icsc/other)" in told and "/cms" not in told
    assert "Before CMS lets you go on" in refusals.agreement(found, CMS)


def test_purposes_of_an_issuer_are_the_facility_s_where_it_says_nothing():
    own = {"condor": {"by": "exchange"}, "storage": {"by": "hub", "audience": "x"}}
    found = policy(
        issuers=[TWO[0], {**TWO[1], "tokens": own}],
        facility={"name": "T", "contact": "t@af-hub.test", "hub": "https://hub.af-hub.test/"},
        tokens={"condor": {"scopes": ["condor:/READ"], "lifetime": "5 min"}, "session": {"scopes": ["openid"]}},
    )
    cms, icsc = found.tokens_of(CMS), found.tokens_of(ICSC)
    assert (cms.condor.by, cms.condor.scopes, cms.condor.lifetime, cms.storage) == (
        "refresh",
        ["condor:/READ"],
        300,
        None,
    )
    assert (icsc.condor.by, icsc.condor.scopes, icsc.condor.lifetime) == ("exchange", ["condor:/READ"], 300)
    assert icsc.session.scopes == cms.session.scopes == ["openid"]
    assert (icsc.storage.by, icsc.storage.audience, icsc.storage.lifetime) == ("hub", "x", 3600)
    assert found.tokens_of("https://evil.test/") == found.tokens
