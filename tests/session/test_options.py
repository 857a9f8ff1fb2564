"""The choice on the spawn page: every way around the rights is a row here."""

import time

import pytest

from af_hub.errors import ChoiceRefused
from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, decide
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy
from af_hub.session.options import Reason, check_choice, read_form

POLICY = """
version: 1
facility: {name: Test, contact: help@af-hub.test}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules:
  - {name: everybody, groups: [/cms, /icsc], login: true, images: [base], sizes: [small]}
  - {name: CMS, groups: [/cms/itcms], images: [analysis], sizes: [large], sites: [T2_A]}
  - {name: door only, groups: [/door], login: true}
images:
  base: {title: Base, environment: /images/base}
  analysis: {title: Analysis, environment: /images/analysis}
  withdrawn: {title: Nobody has it, environment: /images/withdrawn}
sizes:
  small: {title: Small, cpus: 1, memory: 2 GiB}
  large: {title: Large, cpus: 2, memory: 4 GiB}
sites: {T2_A: {title: A, pool: p}}
pools: {p: {collector: "localhost:1", schedd: s, audience: a, ca_file: /ca.pem}}
"""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy(POLICY, "facility.yaml", {})


def rights_of(policy: Policy, *groups: str) -> Rights:
    return decide(policy, Claims("https://iam.af-hub.test/", "1", "ada", groups), time.time())


@pytest.mark.parametrize(
    "choice, image, size",
    [
        pytest.param({"image": "analysis", "size": "large"}, "analysis", "large", id="both named"),
        pytest.param({"image": "analysis"}, "analysis", "small", id="first size"),
        pytest.param({}, "base", "small", id="nothing named: the first of each"),
        pytest.param(None, "base", "small", id="nothing at all"),
    ],
)
def test_permitted(policy: Policy, choice: object, image: str, size: str) -> None:
    options = check_choice(choice, rights_of(policy, "/cms", "/cms/itcms"), policy)
    assert options.choice == {"image": image, "size": size}
    assert (options.image, options.size) == (policy.images[image], policy.sizes[size])


@pytest.mark.parametrize(
    "choice, reason, words",
    [
        pytest.param({"image": "analysis"}, "image", "members of /cms/itcms have it", id="not mine"),
        pytest.param({"image": "withdrawn"}, "image", "no groups have it", id="saved, since withdrawn"),
        pytest.param({"image": "gone"}, "image", "no image 'gone'", id="saved, since deleted"),
        pytest.param({"image": "evil.io/x:1"}, "image", "no image", id="a free image"),
        pytest.param({"image": "base\n"}, "image", "no image", id="newline after a good name"),
        pytest.param({"image": " base"}, "image", "no image", id="blank before a good name"),
        pytest.param({"image": "BASE"}, "image", "no image", id="other letters"),
        pytest.param({"image": ""}, "image", "no image", id="empty name"),
        pytest.param({"image": "../base"}, "image", "no image", id="a path"),
        pytest.param({"image": "/images/withdrawn"}, "image", "no image", id="the folder of an image"),
        pytest.param({"image": "x" * 10**6}, "image", "no image", id="a million letters"),
        pytest.param({"size": "large"}, "size", "/cms/itcms", id="size of others"),
        pytest.param({"size": "huge"}, "size", "no size 'huge'", id="no such size"),
        pytest.param({"image": ["base"]}, "form", "not list", id="list"),
        pytest.param({"image": {"base": 1}}, "form", "not dict", id="object"),
        pytest.param({"image": None}, "form", "not NoneType", id="null"),
        pytest.param({"image": True}, "form", "not bool", id="true"),
        pytest.param({"size": 1}, "form", "not int", id="number"),
        pytest.param({"image": b"base"}, "form", "not bytes", id="bytes"),
        pytest.param({"image": "base", "cpu": "64"}, "form", "'cpu'", id="an extra key"),
        pytest.param({"image": "base", "environment": {"X": "y"}}, "form", "'environment'", id="a trait's name"),
        pytest.param({"Image": "base"}, "form", "'Image'", id="key in other letters"),
        pytest.param({1: "base"}, "form", "1", id="key is no text"),
        pytest.param(["base", "small"], "form", "no object", id="a list for a choice"),
        pytest.param("base", "form", "no object", id="a text for a choice"),
    ],
)
def test_refused(policy: Policy, choice: object, reason: str, words: str) -> None:
    with pytest.raises(ChoiceRefused) as refusal:
        check_choice(choice, rights_of(policy, "/cms"), policy)
    assert refusal.value.reason == Reason(reason)
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "groups, reason",
    [
        pytest.param(["/guests"], "rights", id="may not log in"),
        pytest.param(["/cms/itcms"], "rights", id="rights of a rule without login"),
        pytest.param([], "rights", id="no groups"),
        pytest.param(["/door"], "image", id="login and nothing else"),
    ],
)
def test_no_right_at_all(policy: Policy, groups: list[str], reason: str) -> None:
    with pytest.raises(ChoiceRefused) as refusal:
        check_choice({}, rights_of(policy, *groups), policy)
    assert refusal.value.reason == Reason(reason)


def test_form_is_read() -> None:
    assert read_form({"image": ["base"], "size": ["small"], "_xsrf": ["2|a|b"]}) == {"image": "base", "size": "small"}


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"image": ["base", "analysis"]}, id="twice"),
        pytest.param({"image": []}, id="no value"),
        pytest.param({"image": "base"}, id="not as the hub gives it"),
        pytest.param({"x_file": [{"filename": "x", "body": b""}]}, id="an upload"),
    ],
)
def test_form_is_refused(form: dict[str, object]) -> None:
    with pytest.raises(ChoiceRefused) as refusal:
        read_form(form)
    assert refusal.value.reason == Reason.FORM
