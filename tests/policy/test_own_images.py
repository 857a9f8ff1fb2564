"""Images that people may type, registries, and what pods get by size: what the policy takes, doubts, refuses and gives."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from af_hub.iam.claims import Claims
from af_hub.policy.audit import change_line
from af_hub.policy.check import check_policy
from af_hub.policy.decide import decide
from af_hub.policy.explain import explain
from af_hub.policy.load import read_policy
from af_hub.policy.schema import schema

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "hub_config" / "facility.yaml").read_text())
CMS = r"registry\.example\.org/cms/.*"
RULE = {"name": "r", "groups": ["/x"], "login": True, "own_images": [CMS], "sizes": ["small"]}
GPU = {
    "title": "GPU",
    "cpus": 4,
    "memory": "16 GiB",
    "resources": {"nvidia.com/gpu": 1},
    "node_selector": {"af.example.org/gpu": "a100", "kubernetes.io/arch": "amd64"},
    "tolerations": [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "dedicated", "value": "cms"},
        {"operator": "Exists"},
    ],
}
GOOD = {
    "rules": [{**RULE, "sizes": ["gpu"]}],
    "sizes": {"gpu": GPU},
    "registries": {
        "registry.example.org": {"ca_file": "/etc/ca.pem", "credentials_file": "/etc/af-hub/registry"},
        "af-hub.test": {"address": "http://10.88.0.1:5000"},
        "localhost:5000": {"address": "${AF_REGISTRY}"},
    },
    "sessions": {"unnumbered_user": "refuse", "minimum_jupyterhub": "5.0.1"},
}


def shipped(**more):
    return {**SHIPPED, **more}


def told(found):
    return check_policy(yaml.safe_dump(found, sort_keys=False), "facility.yaml", {}, 0.0)


def read(**more):
    return read_policy(yaml.safe_dump(shipped(**more)), "facility.yaml", {}, lenient=True)


def test_all_that_is_new_is_taken_by_the_hub_and_by_editors():
    assert told(shipped(**GOOD)).mistakes == ()
    made = yaml.safe_load(schema())
    assert list(jsonschema.Draft202012Validator(made).iter_errors(shipped(**GOOD))) == []


def test_old_files_mean_what_they_meant():
    policy = read(registries={})
    assert (policy.registries, policy.sessions.unnumbered_user, policy.sessions.minimum_jupyterhub) == (
        {},
        "set",
        "4.0",
    )
    small = policy.sizes["small"]
    assert (small.resources, small.node_selector, small.tolerations) == ({}, {}, [])
    assert decide(policy, Claims(SHIPPED["issuers"][0]["issuer"], "s", "ada", ("/cms/itcms",)), 0.0).own_images == ()


def test_an_address_that_is_left_out_is_another_than_an_empty_one():
    policy = read(registries={"a.test": {}, "b.test": {"address": ""}})
    assert policy.registries["a.test"].address is None and policy.registries["b.test"].address == ""


@pytest.mark.parametrize(
    "more, says",
    [
        pytest.param(
            {"rules": [{**RULE, "own_images": ["a.test/("]}]}, r"no regular expression that can be used here", id="torn"
        ),
        pytest.param({"rules": [{**RULE, "own_images": [".*"]}]}, r"does not begin with one registry", id="everything"),
        pytest.param({"rules": [{**RULE, "own_images": [""]}]}, r"does not begin with one registry", id="empty"),
        pytest.param(
            {"rules": [{**RULE, "own_images": [".*/cms/.*"]}]}, r"one registry and a slash", id="any registry"
        ),
        pytest.param(
            {"rules": [{**RULE, "own_images": [r"(ghcr\.io|quay\.io)/cms/.*"]}]},
            r"for each registry",
            id="two registries",
        ),
        pytest.param(
            {"rules": [{**RULE, "own_images": ["registry.example.org/cms/.*"]}]},
            r"a dot stands for any character; write `registry\\\.example\\\.org/`",
            id="a dot for any character",
        ),
        pytest.param(
            {"rules": [{**RULE, "own_images": [r"Registry\.example\.org/.*"]}]}, r"one registry", id="capital letters"
        ),
        pytest.param({"rules": [{**RULE, "own_images": CMS}]}, r"own_images: found .* wanted a list", id="no list"),
        pytest.param(
            {"registries": {"https://a.test": {}}},
            r"wanted a registry as names of images begin with it",
            id="an address",
        ),
        pytest.param(
            {"registries": {"a.test": {"address": "a.test"}}}, r"address: .* wanted the address", id="no address"
        ),
        pytest.param(
            {"registries": {"a.test": {"address": "https://user:secret@a.test"}}},
            r"wanted the address",
            id="a password",
        ),
        pytest.param({"sessions": {"unnumbered_user": "maybe"}}, r"wanted 'set' or 'refuse'", id="an unknown way"),
        pytest.param({"sessions": {"minimum_jupyterhub": 4.0}}, r"write `4.0` in quotes", id="a number"),
        pytest.param({"sessions": {"own_images_per_hour": 0}}, r"wanted|greater than 0", id="none an hour"),
        pytest.param({"sessions": {"minimum_jupyterhub": "four"}}, r"wanted a version", id="no version"),
        pytest.param(
            {"sizes": {**SHIPPED["sizes"], "g": {**GPU, "resources": {"nvidia.com/gpu": 0}}}},
            r"more than 0",
            id="no GPU",
        ),
        pytest.param(
            {"sizes": {**SHIPPED["sizes"], "g": {**GPU, "resources": {"nvidia.com/gpu": "1"}}}},
            r"a whole number",
            id="text",
        ),
        pytest.param(
            {"sizes": {**SHIPPED["sizes"], "g": {**GPU, "resources": {"gpu of mine": 1}}}},
            r"as Kubernetes has it",
            id="blank",
        ),
        pytest.param(
            {"sizes": {**SHIPPED["sizes"], "g": {**GPU, "tolerations": [{"effect": "NoSchedule"}]}}},
            r"tolerations\[0\]: found no key",
            id="a toleration of nothing",
        ),
        pytest.param(
            {
                "sizes": {
                    **SHIPPED["sizes"],
                    "g": {**GPU, "tolerations": [{"operator": "Exists", "key": "a", "value": "b"}]},
                }
            },
            r"beside `operator: Exists`",
            id="a value that does not count",
        ),
    ],
)
def test_what_cannot_be_is_a_mistake(more, says):
    report = told(shipped(**more))
    assert len(report.mistakes) == 1 and re.search(says, report.mistakes[0]), report.mistakes


@pytest.mark.parametrize(
    "more, says",
    [
        pytest.param(
            {"rules": [{**RULE, "own_images": [r"ghcr\.io/.*"]}]},
            r"own_images\[0\]: .*anybody can put an image",
            id="anybody's",
        ),
        pytest.param(
            {"images": {**SHIPPED["images"], "x": {"title": "X", "container": "My Image"}}},
            r"images\.x\.container: no pod can have it: 'My Image' is no name of an image",
            id="no name of an image",
        ),
        pytest.param({"registries": {"b.test": {}}}, r"registries\.'b\.test': no image", id="a registry of no image"),
        pytest.param(
            {"registries": {"af-hub.test": {"address": "http://a.test", "credentials_file": "/f"}}},
            r"found an address without TLS",
            id="a password in the clear",
        ),
        pytest.param(
            {"rules": [{**RULE, "own_images": []}]}, r"it lets people in and gives no images", id="no images at all"
        ),
    ],
)
def test_what_is_hardly_meant_is_doubted(more, says):
    report = told(shipped(**more))
    assert report.mistakes == () and any(re.search(says, doubt) for doubt in report.doubts), report


def test_patterns_add_up_and_are_explained_and_audited():
    ghcr = r"ghcr\.io/ada/.*"
    rules = [RULE, {**RULE, "name": "other", "groups": ["/y"], "own_images": [ghcr, CMS]}]
    policy = read(rules=rules)
    both = Claims(SHIPPED["issuers"][0]["issuer"], "s", "ada", ("/x", "/y"))
    rights = decide(policy, both, 0.0)
    assert rights.own_images == (CMS, ghcr)
    text = explain(policy, both, rights, "a test", 0.0)
    assert f"own image: {CMS}  [rule: r, other]" in text and f"own image: {ghcr}  [rule: other]" in text
    one = Claims(both.issuer, "s", "ada", ("/x",))
    assert "got own image ghcr" in change_line(both, decide(policy, one, 0.0), rights)
    assert decide(policy, Claims(both.issuer, "s", "ada", ("/z",)), 0.0).own_images == ()
