"""The choice on the spawn page: every way around the rights is a row here."""

import time

import pytest

from af_hub.errors import ChoiceRefused
from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, decide
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy
from af_hub.session.options import Reason, check_choice, read_form, without_own_images

POLICY = r"""
version: 1
facility: {name: Test, contact: help@af-hub.test}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules:
  - {name: everybody, groups: [/cms, /icsc], login: true, images: [base], sizes: [small]}
  - {name: CMS, groups: [/cms/itcms], images: [analysis], sizes: [large], sites: [T2_A]}
  - {name: door only, groups: [/door], login: true}
  - {name: makers, groups: [/own], own_images: ['reg\.test/cms/.*', 'reg\.test:5000/x(:1|@sha256:[0-9a-f]+)']}
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


DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "typed, meant",
    [
        pytest.param("reg.test/cms/a", "reg.test/cms/a:latest", id="no tag"),
        pytest.param("reg.test/cms/a/b:1", "reg.test/cms/a/b:1", id="a tag"),
        pytest.param(f"reg.test/cms/a@{DIGEST}", f"reg.test/cms/a@{DIGEST}", id="a digest"),
        pytest.param(f"reg.test/cms/a:1@{DIGEST}", f"reg.test/cms/a:1@{DIGEST}", id="both"),
        pytest.param("reg.test:5000/x:1", "reg.test:5000/x:1", id="a port"),
    ],
)
def test_own_image_that_fits_a_pattern(policy: Policy, typed: str, meant: str) -> None:
    """It is saved in full, and is taken again as it was saved."""
    rights = rights_of(policy, "/cms", "/own")
    options = check_choice({"image": typed}, rights, policy)
    assert options.choice == {"image": meant, "size": "small"}
    assert (options.image.title, options.image.container, options.image.environment) == (meant, meant, None)
    assert check_choice(options.choice, rights, policy) == options
    with pytest.raises(ChoiceRefused, match="There is no image"):
        check_choice(options.choice, rights_of(policy, "/cms"), policy)
    with pytest.raises(ChoiceRefused, match="There is no image"):
        check_choice(options.choice, without_own_images(rights), policy)


@pytest.mark.parametrize(
    "typed, reason",
    [
        pytest.param("reg.test/atlas/a", "image-not-allowed", id="another folder"),
        pytest.param("evil.test/cms/a", "image-not-allowed", id="another registry"),
        pytest.param("evil.test/reg.test/cms/a", "image-not-allowed", id="the registry as a folder"),
        pytest.param("regxtest/cms/a", "image-not-allowed", id="a dot is a dot"),
        pytest.param("reg.test:5000/cms/a", "image-not-allowed", id="another port"),
        pytest.param("reg.test/cms", "image-not-allowed", id="less than the pattern"),
        pytest.param("reg.test:5000/x:12", "image-not-allowed", id="more than the pattern"),
        pytest.param("cms/a", "image-not-allowed", id="no registry is docker.io"),
        pytest.param("bas", "image-not-allowed", id="a name of the list, mistyped"),
        pytest.param("reg.test/cms/a\n", "image-name", id="newline behind"),
        pytest.param("reg.test/cms/a:1\nevil.test/b", "image-name", id="newline between"),
        pytest.param("\nreg.test/cms/a", "image-name", id="newline in front"),
        pytest.param("reg.test/cms/a ", "image-name", id="blank behind"),
        pytest.param("reg.test/cms/a:1\x00", "image-name", id="zero byte"),
        pytest.param("reg.test/cms/../../atlas", "image-name", id="dots"),
        pytest.param("reg.test/cms//a", "image-name", id="two slashes"),
        pytest.param("reg.test/cms/A", "image-name", id="capitals"),
        pytest.param("reg.test/cms/а", "image-name", id="a letter that looks like another"),
        pytest.param("https://reg.test/cms/a", "image-name", id="an address"),
        pytest.param("user:secret@reg.test/cms/a", "image-name", id="a user in front"),
        pytest.param("reg.test/cms/a@sha256:abc", "image-name", id="half a digest"),
        pytest.param("reg.test/cms/a --privileged", "image-name", id="more than a name"),
        pytest.param("reg.test/cms/{username}", "image-name", id="a template"),
        pytest.param("reg.test/cms/" + "a" * 600, "image-name", id="endless"),
        pytest.param("", "image-name", id="nothing"),
    ],
)
def test_own_image_that_does_not(policy: Policy, typed: str, reason: str) -> None:
    with pytest.raises(ChoiceRefused) as refusal:
        check_choice({"image": typed}, rights_of(policy, "/cms", "/own"), policy)
    assert refusal.value.reason == reason
    assert "help@af-hub.test" in str(refusal.value) and len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    "form, choice",
    [
        pytest.param({"image": [":own"], "own_image": [" reg.test/a\r\n"]}, {"image": "reg.test/a"}, id="typed"),
        pytest.param(
            {"image": ["base"], "own_image": ["reg.test/a"]}, {"image": "base"}, id="typed, and chosen otherwise"
        ),
        pytest.param({"image": ["base"], "own_image": [""]}, {"image": "base"}, id="left empty"),
    ],
)
def test_form_with_a_typed_image(form: dict[str, object], choice: dict[str, str]) -> None:
    assert read_form(form) == choice


@pytest.mark.parametrize("form", [{"image": [":own"], "own_image": [" "]}, {"image": [":own"]}])
def test_form_without_the_image_that_was_to_be_typed(form: dict[str, object]) -> None:
    with pytest.raises(ChoiceRefused, match="You chose another image and typed none"):
        read_form(form)


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
