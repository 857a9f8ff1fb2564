"""Which storage people get in their sessions, and what is wrong with how it is written."""

import re
from pathlib import Path

import pytest
import yaml

from af_hub.iam.claims import Claims
from af_hub.policy.check import check_policy
from af_hub.policy.decide import decide, volumes_in_conflict
from af_hub.policy.explain import explain
from af_hub.policy.load import read_policy

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "hub_config" / "facility.yaml").read_text())
ISSUER = "https://iam.af-hub.test/"
NOW = 1_800_000_000.0

SHARED = {"title": "CMS", "path": "/shared/cms", "claim": "cms"}
SCRATCH = {"title": "Scratch", "path": "/scratch", "scratch": "20 GiB"}


def written(volumes, *given, **more):
    """The shipped policy with these volumes; the n-th rule gives what the n-th of ``given`` names."""
    rules = [{**rule, "volumes": names} for rule, names in zip(SHIPPED["rules"], given, strict=False)]
    found = {**SHIPPED, "rules": [*rules, *SHIPPED["rules"][len(rules) :]], "volumes": volumes, **more}
    return yaml.safe_dump(found, sort_keys=False)


def policy_of(*args, **more):
    return read_policy(written(*args, **more), "facility.yaml", {}, lenient=True)


def person(*groups):
    return Claims(ISSUER, "subject", "ada", groups)


def test_volumes_add_up_and_each_names_its_rules():
    policy = policy_of({"cms": SHARED, "scratch": SCRATCH}, ["cms", "scratch"], ["scratch"])
    both = decide(policy, person("/cms/itcms", "/icsc"), NOW)
    assert both.volumes == ("cms", "scratch")
    assert both.because["volume scratch"] == ("CMS analysts", "ICSC analysts")
    assert decide(policy, person("/icsc"), NOW).volumes == ("scratch",)
    assert decide(policy, person("/af/admins"), NOW).volumes == ()
    assert decide(policy, person("/guests"), NOW).volumes == ()
    assert "volume: cms (CMS) at /shared/cms  [rule: CMS analysts]" in explain(
        policy, person("/cms/itcms"), decide(policy, person("/cms/itcms"), NOW), "a test", NOW
    )


def test_a_file_without_volumes_gives_none():
    policy = read_policy(yaml.safe_dump(SHIPPED), "facility.yaml", {}, lenient=True)
    assert decide(policy, person("/cms/itcms"), NOW).volumes == ()
    assert policy.cvmfs.claim == policy.cvmfs.host_path == "" and policy.cvmfs.repositories == []


def test_two_volumes_at_one_path_are_an_error_for_whom_rules_give_both():
    policy = policy_of({"cms": SHARED, "icsc": {**SHARED, "claim": "icsc"}}, ["cms"], ["icsc"])
    assert volumes_in_conflict(policy, decide(policy, person("/cms/itcms"), NOW)) == ""
    both = decide(policy, person("/cms/itcms", "/icsc"), NOW)
    says = volumes_in_conflict(policy, both)
    assert says.startswith("Two volumes want to be at /shared/cms: `cms` (rule: CMS analysts) and `icsc` (rule: ICSC")
    assert "facility-admin@af-hub.test" in says
    assert says in explain(policy, person("/cms/itcms", "/icsc"), both, "a test", NOW)


@pytest.mark.parametrize(
    "volume, says",
    [
        pytest.param({"claim": "", "scratch": None}, "found neither `claim` nor `scratch`", id="of nothing"),
        pytest.param({"scratch": "1 GiB"}, "found both `claim` and `scratch`, wanted one", id="of two things"),
        pytest.param({"storage_class": "fast"}, "found `storage_class` beside `claim`", id="a class of a claim"),
        pytest.param(
            {"claim": "", "scratch": "1 GiB", "read_only": True},
            "found `read_only` beside `scratch`",
            id="scratch that nobody can write",
        ),
        pytest.param({"claim": "", "scratch": "some"}, "found 'some', wanted a number", id="scratch of no size"),
        pytest.param({"claim": "CMS_data"}, "found 'CMS_data', wanted the name of a PersistentVolumeClaim", id="claim"),
        pytest.param({"path": "shared"}, "found 'shared', wanted the path of a folder", id="no slash"),
        pytest.param({"path": "/shared/"}, "found '/shared/', wanted the path of a folder", id="a slash behind"),
        pytest.param({"path": "/"}, "found '/', wanted the path of a folder", id="everything"),
        pytest.param({"path": "/shared/../etc"}, "wanted the path of a folder", id="a way out"),
        pytest.param({"path": "/a:b"}, "wanted the path of a folder", id="a colon, which mounts cannot have"),
        pytest.param({"path": "/{username}"}, "wanted the path of a folder", id="braces"),
        pytest.param({"path": "/shared\n"}, "wanted the path of a folder", id="a newline"),
        *(
            pytest.param({"path": path}, f"found '{path}', wanted a folder of its own, since `{own}` is", id=path)
            for path, own in {
                "/run/af": "/run",
                "/run": "/run",
                "/home": "/home",
                "/home/ada": "/home",
                "/etc": "/etc",
                "/etc/ssl": "/etc",
                "/usr/lib": "/usr",
                "/proc": "/proc",
                "/cvmfs": "/cvmfs",
                "/cvmfs/cms.cern.ch": "/cvmfs",
                "/opt": "/opt",
                "/lib64": "/lib64",
            }.items()
        ),
    ],
)
def test_a_wrong_volume_is_told(volume, says):
    (mistake,) = check_policy(written({"cms": {**SHARED, **volume}}, ["cms"]), "facility.yaml", {}, NOW).mistakes
    assert "volumes.cms" in mistake and says in mistake


@pytest.mark.parametrize("path", ["/users", "/homes", "/etcetera", "/opt/data", "/tmp", "/mnt/a.b/c-d"])
def test_folders_that_hide_nothing_are_good(path):
    assert policy_of({"cms": {**SHARED, "path": path}}, ["cms"]).volumes["cms"].path == path


@pytest.mark.parametrize(
    "volumes, given, says",
    [
        pytest.param({"cms": SHARED}, ["icsc"], r"rules\[0\]\.volumes\[0\]: found 'icsc', wanted a name", id="unknown"),
        pytest.param(
            {"cms": SHARED, "too": SHARED},
            ["cms", "too"],
            r"rules\[0\]\.volumes\[1\]: found 'too' beside 'cms', both at '/shared/cms', wanted a path for each",
            id="a rule that gives two at one path",
        ),
        pytest.param(
            {"CMS_1": SHARED}, [], r"volumes\.CMS_1: found 'CMS_1', wanted a name of small letters", id="name"
        ),
    ],
)
def test_wrong_names_are_told(volumes, given, says):
    mistakes = check_policy(written(volumes, given), "facility.yaml", {}, NOW).mistakes
    assert any(re.search(says, one) for one in mistakes), mistakes


@pytest.mark.parametrize(
    "volumes, given, says",
    [
        pytest.param({"cms": SHARED}, [], r"volumes\.cms: no rule gives it", id="given to nobody"),
        pytest.param(
            {"cms": SHARED, "icsc": SHARED},
            [["cms"], ["icsc"]],
            r"volumes\.icsc\.path: found `/shared/cms` as in volumes\.cms: whom rules give both",
            id="two at one path, by two rules",
        ),
        pytest.param(
            {"all": {**SHARED, "path": "/shared", "read_only": True}, "cms": SHARED},
            [["all", "cms"]],
            r"volumes\.cms\.path: it is inside `/shared`, where nothing can be made",
            id="inside one that is read-only",
        ),
    ],
)
def test_what_is_hardly_meant_is_doubted(volumes, given, says):
    report = check_policy(written(volumes, *given), "facility.yaml", {}, NOW)
    assert not report.mistakes and any(re.search(says, one) for one in report.doubts), report


@pytest.mark.parametrize(
    "cvmfs, says",
    [
        pytest.param({"claim": "cvmfs", "host_path": "/cvmfs"}, "found both `claim` and `host_path`", id="both"),
        pytest.param({"host_path": "cvmfs"}, "found 'cvmfs', wanted the path of a folder of the nodes", id="no path"),
        pytest.param({"repositories": ["cms"]}, "found 'cms', wanted the whole name of a CVMFS", id="half a name"),
        pytest.param({"repositories": ["../etc.d"]}, "wanted the whole name of a CVMFS", id="a way out"),
        pytest.param({"repositories": ["cms.cern.ch\n"]}, "wanted the whole name of a CVMFS", id="a newline"),
    ],
)
def test_a_wrong_cvmfs_is_told(cvmfs, says):
    (mistake,) = check_policy(written({}, cvmfs=cvmfs), "facility.yaml", {}, NOW).mistakes
    assert "cvmfs" in mistake and says in mistake


def test_cvmfs_by_a_claim_whose_name_is_a_variable():
    text = written({}, cvmfs={"claim": "${CVMFS_CLAIM}", "repositories": ["cms.cern.ch", "sft.cern.ch"]})
    assert not check_policy(text, "facility.yaml", {}, NOW).mistakes
    assert read_policy(text, "facility.yaml", {"CVMFS_CLAIM": ""}, lenient=True).cvmfs.claim == ""
