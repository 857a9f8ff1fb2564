"""``af-hub check policy``, ``af-hub schema``: what an administrator is told before a file is put in place."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from af_hub.cli import main
from af_hub.policy.check import check_policy
from af_hub.policy.schema import schema

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "hub_config" / "facility.yaml"
NOW = 1_800_000_000.0  # 2027-01-15


def af_hub(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def shipped(**more):
    return {**yaml.safe_load(SHIPPED.read_text()), **more}


def told(found):
    return check_policy(yaml.safe_dump(found, sort_keys=False), "facility.yaml", {}, NOW)


def test_the_shipped_policy_is_right_and_says_what_its_readers_need():
    done = af_hub("check", "policy", SHIPPED, "--strict")
    assert done.exit_code == 0, done.output
    assert f"{SHIPPED} is right." in done.output and "must have AF_PUBLIC_URL, AF_IAM_DISCOVERY," in done.output


def test_all_mistakes_at_once_and_exit_status_3(tmp_path):
    path = tmp_path / "facility.yaml"
    path.write_text(SHIPPED.read_text().replace("small, medium", "smal, medium").replace("cpus: 1", "cpus: one"))
    done = af_hub("check", "policy", "--facility", path)
    assert done.exit_code == 3
    *mistakes, end = done.output.splitlines()
    assert len(mistakes) == 3 and all(f"{path}, line " in line and "wanted" in line for line in mistakes)
    assert end.startswith("3 mistakes. So this file is not in force anywhere")
    found = json.loads(af_hub("check", "policy", path, "--json").output)
    assert found == {"good": False, "mistakes": mistakes, "doubts": [], "unset": []}


def test_no_yaml_is_a_mistake_and_no_file_a_failure(tmp_path):
    (tmp_path / "broken.yaml").write_text("rules: [")
    assert af_hub("check", "policy", tmp_path / "broken.yaml").exit_code == 3
    done = af_hub("check", "policy", tmp_path / "nowhere.yaml")
    assert done.exit_code == 1 and "cannot be read" in done.output


CMS = {"issuer": "https://cms.test/", "name": "cms", "client_id": "a"}
RULE = {"name": "r", "groups": ["/x"], "login": True, "images": ["python-base"], "sizes": ["small"]}
LATER = "2030-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "more, says",
    [
        pytest.param(
            {"overrides": [{**RULE, "until": "2020-01-01T00:00:00Z", "reason": "r"}]},
            r"overrides\[0\]: 'r' ended at 2020-01-01T00:00:00\+00:00",
            id="an override that is over",
        ),
        pytest.param(
            {"announcements": [{"text": "Down on Monday", "until": "2020-01-01T00:00:00Z"}]},
            r"announcements\[0\]: ended",
            id="an announcement that is over",
        ),
        pytest.param(
            {"sizes": {**shipped()["sizes"], "huge": {"title": "Huge", "cpus": 64, "memory": "1 TiB"}}},
            r"sizes\.huge: no rule gives it",
            id="a size that nobody gets",
        ),
        pytest.param(
            {"rules": [*shipped()["rules"], {**RULE, "sizes": []}]},
            r"rules\[3\]: it lets people in and gives no sizes",
            id="a login without a session",
        ),
        pytest.param(
            {"rules": [*shipped()["rules"], {**RULE, "sites": ["T2_A"]}]},
            r"rules\[3\]\.sites: it opens sites and gives no HTCondor account",
            id="a site without an account",
        ),
        pytest.param(
            {"rules": [*shipped()["rules"], {**RULE, "groups": ["/CMS/itcms"]}]},
            r"rules\[3\]\.groups\[0\]: found `/CMS/itcms` beside `/cms/itcms`",
            id="capitals",
        ),
        pytest.param(
            {"accounting_groups": {name: {} for name in ("cms", "cms.itcms", "icsc", "af", "atlas")}},
            r"accounting_groups\.atlas: no rule charges it",
            id="a group that nobody is charged to",
        ),
        pytest.param(
            {
                "overrides": [
                    {
                        "name": "o",
                        "people": ["ada"],
                        "until": LATER,
                        "reason": "r",
                        "condor": {"account": "x-{username}", "accounting_group": "x"},
                    }
                ]
            },
            r"overrides\[0\]\.condor: no rule gives the account 'x-{username}'",
            id="an account that passes",
        ),
        pytest.param(
            {"caches": {**shipped()["caches"], "far": {"url": "root://far.test"}}},
            r"caches\.far: no site names it",
            id="a cache of no site",
        ),
        pytest.param(
            {"issuers": [{"issuer": "https://iam.af-hub.test/", "groups_prefix": "/af"}]},
            r"rules\[0\]\.groups\[0\]: found `/cms/itcms`, which nobody can be in: .* begin with /af/",
            id="a group without the issuer's prefix",
        ),
        pytest.param(
            {
                "issuers": [CMS, {**CMS, "name": "icsc", "issuer": "https://icsc.test/", "groups_prefix": "/icsc"}],
                "rules": [{"name": "r", "groups": ["/icsc"], "login": True}],
            },
            r"rules\[0\]\.groups\[0\]: found `/icsc`, which nobody can be in: .* name a group below it",
            id="the prefix itself",
        ),
        pytest.param(
            {"facility": {**shipped()["facility"], "hub": "http://h.test/"}, "tokens": {"storage": {"by": "hub"}}},
            r"facility\.hub: found an address without TLS",
            id="an issuer that nobody asks for keys",
        ),
        pytest.param(
            {"tokens": {"session": {"scopes": ["openid", "storage.read:/prot"]}}},
            r"issuers\[0\]\.data_paths: no token of sessions opens `/protected`",
            id="data that no session opens",
        ),
        pytest.param(
            {"tokens": {"storage": {"scopes": ["storage.create:/"]}}},
            r"no token of worker nodes opens `/protected`",
            id="data that no worker opens",
        ),
        pytest.param(
            {
                "issuers": [{**CMS, "data_paths": ["/cms"]}, {**CMS, "name": "icsc", "issuer": "https://icsc.test/"}],
                "facility": {**shipped()["facility"], "hub": "https://h.test/"},
                "tokens": {"storage": {"by": "hub"}},
            },
            r"issuers\[0\]\.data_paths: `/cms` is not opened by tokens that the hub signs, .* for people of icsc",
            id="data that people of another experiment would open",
        ),
        pytest.param(
            {
                "rules": [
                    {
                        **RULE,
                        "groups": ["/cms"],
                        "condor": {"account": "root", "accounting_group": "x", "shared_account": True},
                    }
                ]
            },
            r"rules\[0\]\.condor\.account: found 'root', which is HTCondor's own",
            id="an account that nobody gets",
        ),
        pytest.param(
            {"tokens": {"storage": {"scopes": ["storage.read:/", "compute.modify"]}}},
            r"tokens\.storage\.scopes\[1\]: found `compute.modify` in a token that lies on every worker node",
            id="jobs that could submit jobs",
        ),
    ],
)
def test_what_is_hardly_meant_is_doubted(more, says, tmp_path):
    report = told(shipped(**more))
    assert report.mistakes == () and len(report.doubts) >= 1
    assert any(re.search(says, doubt) for doubt in report.doubts), report.doubts
    path = tmp_path / "facility.yaml"
    path.write_text(yaml.safe_dump(shipped(**more), sort_keys=False))
    assert af_hub("check", "policy", path).exit_code == 0 and af_hub("check", "policy", path, "--strict").exit_code == 3


@pytest.mark.parametrize(
    "more, says",
    [
        pytest.param(
            {"issuers": [{"issuer": "https://a.test/"}, {"issuer": "https://b.test/", "client_id": "b"}]},
            r"issuers\[1\]\.name: found 'iam' as in issuers\[0\], wanted each once; each needs a short one",
            id="two issuers without names",
        ),
        pytest.param(
            {"issuers": [CMS, {"issuer": "https://cms.test/", "name": "b", "client_id": "b"}]},
            r"issuers\[1\]\.issuer: found 'https://cms.test/' as in issuers\[0\]",
            id="an issuer twice",
        ),
        pytest.param(
            {"issuers": [{"issuer": "https://a.test/"}, {"issuer": "https://b.test/", "name": "b"}]},
            r"issuers\[1\]\.client_id: found none, as in issuers\[0\]",
            id="two issuers without clients",
        ),
        pytest.param(
            {"issuers": [{**CMS, "groups_prefix": "cms/"}]},
            r"issuers\[0\]\.groups_prefix: found 'cms/', wanted the path of a group, or nothing",
            id="a prefix with its slash behind",
        ),
        pytest.param(
            {"issuers": [{**CMS, "issuer": "http://cms.test/"}]},
            r"issuers\[0\]\.issuer: found 'http://cms.test/', wanted the address of an IAM, with https",
            id="an issuer without TLS",
        ),
        pytest.param(
            {"issuers": [{**CMS, "data_paths": ["/store/../secret"]}]},
            r"issuers\[0\]\.data_paths\[0\]: found '/store/../secret', wanted the path of a folder",
            id="a way out of a folder",
        ),
        pytest.param(
            {"agreements": {"cms": {"url": "https://iam/aup"}}},
            r"agreements\.cms: found 'cms', wanted the name of an issuer: iam",
            id="an agreement of nobody",
        ),
        pytest.param(
            {"tokens": {"session": {"scopes": ["profile"]}}},
            r"tokens\.session\.scopes: found scopes without `openid`",
            id="no openid",
        ),
        pytest.param(
            {"tokens": {"condor": {"by": "magic"}}},
            r"tokens\.condor\.by: found 'magic', wanted 'refresh', 'exchange' or 'hub'; write one of them",
            id="an unknown way",
        ),
        pytest.param(
            {"facility": {"name": "T", "contact": "t@af-hub.test"}, "tokens": {"storage": {"by": "hub"}}},
            r"tokens\.storage\.by: found 'hub', but not where the hub is; add `hub: https://\.\.\.` to `facility`",
            id="a signature of nobody",
        ),
        pytest.param(
            {"tokens": {"storage": {"lifetime": "2 d"}}},
            r"tokens\.storage\.lifetime: found 2 d, wanted 1 d at most; write it as in `1 d`",
            id="a token that lives too long",
        ),
        pytest.param(
            {"tokens": {"condor": {"scopes": ["a b"]}}},
            r"tokens\.condor\.scopes\[0\]: found 'a b', wanted one scope",
            id="two scopes in one",
        ),
        pytest.param(
            {"overrides": [{**RULE, "reason": "r"}]},
            r"overrides\[0\]\.until: found nothing, wanted when it ends, with its zone",
            id="an override without end",
        ),
        pytest.param(
            {"overrides": [{**RULE, "reason": "r", "until": "2030-01-01T00:00:00"}]},
            r"overrides\[0\]\.until: found '2030-01-01T00:00:00', wanted an instant with its zone",
            id="an end without its zone",
        ),
        pytest.param(
            {"overrides": [{**RULE, "reason": "r", "until": "tomorrow"}]},
            r"overrides\[0\]\.until: found 'tomorrow', wanted an instant",
            id="an end that is no instant",
        ),
        pytest.param(
            {"overrides": [{**RULE, "reason": "r", "until": LATER, "from": LATER}]},
            r"overrides\[0\]: found a `from` .* that is not before `until`",
            id="an override of no time",
        ),
        pytest.param(
            {"overrides": [{"name": "o", "login": True, "reason": "r", "until": LATER}]},
            r"overrides\[0\]: found neither groups nor people",
            id="an override for nobody",
        ),
        pytest.param(
            {"overrides": [{"name": "o", "people": ["Ada"], "reason": "r", "until": LATER}]},
            r"overrides\[0\]\.people\[0\]: found 'Ada', wanted a user name of the hub",
            id="an override for no user name",
        ),
        pytest.param(
            {"overrides": [{**RULE, "reason": "r", "until": LATER, "form": LATER}]},
            r"overrides\[0\]\.form: found an unknown key, wanted one of name, .*, from, until, reason; write `from`",
            id="a mistyped from",
        ),
        pytest.param(
            {"overrides": [{**RULE, "name": "CMS analysts", "reason": "r", "until": LATER}]},
            r"rules\[0\]\.name: found 'CMS analysts' as in overrides\[0\]",
            id="an override called as a rule",
        ),
        pytest.param(
            {"overrides": [{**RULE, "images": ["nope"], "reason": "r", "until": LATER}]},
            r"overrides\[0\]\.images\[0\]: found 'nope', wanted a name from `images`",
            id="an override of an unknown image",
        ),
        pytest.param(
            {
                "overrides": [
                    {
                        **RULE,
                        "reason": "r",
                        "until": LATER,
                        "condor": {"account": "u-icsc-{username}", "accounting_group": "af"},
                    }
                ]
            },
            r"rules\[1\]\.condor\.accounting_group: found 'icsc', but `overrides\[0\]` says 'af' for the same account",
            id="an override that charges another group for the same account",
        ),
        pytest.param(
            {"accounting_groups": {"cms": {}, "cms.itcms": {}, "icsc": {}}},
            r"rules\[2\]\.condor\.accounting_group: found 'af', wanted a name from `accounting_groups`: cms, cms.itcms, icsc",
            id="an accounting group that is not defined",
        ),
        pytest.param(
            {"accounting_groups": {"cms": {"quota": 0.5}, "cms.itcms": {"quota": 1.5}, "icsc": {}, "af": {}}},
            r"accounting_groups\.'cms.itcms'\.quota: found 1.5, wanted a share of the pool or a number of slots",
            id="more than the pool",
        ),
        pytest.param(
            {"accounting_groups": {"cms": {}, "cms.itcms": {}, "icsc": {"quota": 0.7}, "af": {"quota": 0.4}}},
            r"accounting_groups\.af\.quota: found 0.4, which makes 1.1 with those above it of the same level",
            id="shares of more than one whole",
        ),
        pytest.param(
            {"accounting_groups": {"cms": {}, "cms.itcms": {"priority_factor": 0}, "icsc": {}, "af": {}}},
            r"priority_factor: found 0, wanted at least 1",
            id="no factor",
        ),
        pytest.param(
            {"accounting_groups": {"CMS": {}, "cms": {}, "cms.itcms": {}, "icsc": {}, "af": {}}},
            r"found 'CMS', wanted small words of letters, digits and `_` with dots between",
            id="capitals in an accounting group",
        ),
        pytest.param(
            {"accounting_groups": {"cms-it": {}, "cms": {}, "cms.itcms": {}, "icsc": {}, "af": {}}},
            r"found 'cms-it', wanted small words .* no hyphens",
            id="a hyphen, which HTCondor's settings cannot have",
        ),
        pytest.param(
            {"accounting_groups": {"cms.itcms": {}, "icsc": {}, "af": {}}},
            r"accounting_groups\.'cms.itcms': found it without `cms`.* add `cms: \{quota: \.\.\.\}`",
            id="a group without the one above it",
        ),
        pytest.param(
            {"accounting_groups": {"cms": {}, "cms.itcms": {"quota": 0.5}, "icsc": {}, "af": {}}},
            r"accounting_groups\.cms: found no quota, wanted one, since that of `cms.itcms` is a part of it",
            id="a part of nothing",
        ),
        pytest.param(
            {"accounting_groups": {"cms": {"quota": 40}, "cms.itcms": {"quota": 41}, "icsc": {}, "af": {}}},
            r"accounting_groups\.'cms.itcms'\.quota: found 41, which makes 41 .* wanted 40 at most in all; write a smaller number",
            id="more cores than the group above",
        ),
    ],
)
def test_what_contradicts_itself_is_a_mistake(more, says):
    report = told(shipped(**more))
    assert [mistake for mistake in report.mistakes if re.search(says, mistake)], report.mistakes
    assert len(report.mistakes) == 1, report.mistakes


def test_yaml_s_own_instants_are_instants():
    text = SHIPPED.read_text() + (
        "\noverrides:\n  - {name: o, people: [ada], login: true, images: [python-base], sizes: [small], reason: r,"
        "\n     from: 2029-12-31T08:00:00+01:00, until: 2030-01-01 18:00:00 +01:00}\n"
    )
    assert check_policy(text, "facility.yaml", {}, NOW).mistakes == ()


def test_the_published_schema_is_that_of_the_model():
    published = (ROOT / "docs" / "_static" / "facility.schema.json").read_text()
    assert published == schema() == af_hub("schema").output, "af-hub schema > docs/_static/facility.schema.json"
    line = SHIPPED.read_text().splitlines()[0]
    assert (SHIPPED.parent / line.removeprefix("# yaml-language-server: $schema=")).resolve() == (
        ROOT / "docs" / "_static" / "facility.schema.json"
    )


def errors(found):
    made = json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(made)
    return [error.message for error in jsonschema.Draft202012Validator(made).iter_errors(found)]


def test_an_editor_with_the_schema_takes_the_shipped_policy_and_all_that_is_new():
    more = {
        "tokens": {"condor": {"by": "hub", "lifetime": "10 min"}, "storage": {"audience": "x", "lifetime": 600}},
        "overrides": [{**RULE, "from": LATER, "until": "2031-01-01T00:00:00Z", "reason": "r"}],
        "announcements": [{"text": "t", "until": LATER, "level": "warning"}],
        "accounting_groups": {
            "cms": {"quota": 0.5},
            "cms.itcms": {"quota": 0.4},
            "icsc": {"quota": 40, "surplus": True},
            "af": {},
        },
        "agreements": {"iam": {"url": "https://iam.test/aup"}},
    }
    assert errors(shipped()) == [] == errors(shipped(**more))
    assert told(shipped(**more)).mistakes == ()


@pytest.mark.parametrize(
    "more",
    [
        {"colour": "red"},
        {"sizes": {"small": {"title": "s", "cpus": 1, "memory": "2 gigs"}}},
        {"rules": [{**RULE, "groups": ["cms"]}]},
        {"overrides": [{**RULE, "reason": "r"}]},
        {"accounting_groups": {"a": {"quota": 1.5}}},
        {"tokens": {"storage": {"by": "magic"}}},
    ],
)
def test_an_editor_with_the_schema_marks_mistakes(more):
    assert errors(shipped(**more)) != []
