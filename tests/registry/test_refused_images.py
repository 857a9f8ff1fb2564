"""What somebody is told whose image is refused: the sentence, whom to ask, and the page that says more."""

import re

import pytest

from af_hub.errors import ChoiceRefused, ImageRefused
from af_hub.policy.decide import Rights
from af_hub.policy.load import read_policy
from af_hub.policy.refusals import PAGES, image_refused
from af_hub.registry.askers import Askers
from af_hub.registry.client import RegistryClient, access_to, away
from af_hub.registry.proof import MANIFESTS, Document, ImageProof, choose_platform, judge, read_manifest
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import read_reference
from af_hub.session.options import check_choice

POLICY = read_policy(
    """
facility: {name: Test, contact: help@af-hub.test, help: "https://hub.test/refused/"}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules: [{name: all, groups: [/cms], login: true, images: [lab], sizes: [small]}]
images: {lab: {title: Lab}}
sizes: {small: {title: Small, cpus: 1, memory: 1 GiB}}
""",
    "facility.yaml",
    {},
)
IMAGE = read_reference("reg.test/cms/lab:1")
PROOF = ImageProof(str(IMAGE), "sha256:1", "root", None, None, 0, {"org.af-hub.jupyterhub": "3.1"}, "")


def of(refused: Exception) -> str:
    assert isinstance(refused, ImageRefused)
    return image_refused(POLICY, str(refused), refused.reason)


def chosen(typed: str) -> str:
    with pytest.raises(ChoiceRefused) as refusal:
        check_choice({"image": typed}, Rights(login=True, sizes=("small",), own_images=(r"reg\.test/.*",)), POLICY)
    return str(refusal.value)


def raised(function, *arguments: object) -> str:
    with pytest.raises(ImageRefused) as refusal:
        function(*arguments)
    return of(refusal.value)


def answered(status: int) -> str:
    return of(RegistryClient(IMAGE, access_to("reg.test", None))._refused(status))


def asked_too_often() -> str:
    askers = Askers(lambda: 0.0)
    askers.count("ada", IMAGE, 1)
    return raised(askers.count, "ada", IMAGE, 1)


CHART = Document(b'{"mediaType": "%s", "config": {"mediaType": "chart"}}' % MANIFESTS[0].encode())
SAID = {
    ImageReason.NAME: lambda: chosen("NO NAME"),
    ImageReason.NOT_ALLOWED: lambda: chosen("evil.test/a"),
    ImageReason.MISSING: lambda: answered(404),
    ImageReason.UNREADABLE: lambda: answered(403),
    ImageReason.TOO_MANY: asked_too_often,
    ImageReason.AWAY: lambda: of(away(IMAGE, "no connection")),
    ImageReason.PLATFORM: lambda: raised(choose_platform, {}, "linux/amd64", IMAGE),
    ImageReason.NO_IMAGE: lambda: raised(read_manifest, CHART, "", IMAGE),
    ImageReason.OLD: lambda: raised(judge, PROOF, "4.0", "set"),
    ImageReason.USER: lambda: raised(judge, PROOF, "3.0", "refuse"),
}


@pytest.mark.parametrize("reason", ImageReason)
def test_each_reason_has_its_sentence_and_its_page(reason: ImageReason) -> None:
    sentence = SAID[reason]()
    assert sentence.endswith(f" ask help@af-hub.test. See https://hub.test/refused/{reason}."), sentence
    for part in re.split("…", PAGES[reason].says):
        assert part.strip() in sentence, (part, sentence)
