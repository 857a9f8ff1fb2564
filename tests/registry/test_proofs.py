"""What registries say of images: forms, platforms, users, versions, and answers that are none."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af_hub.errors import ImageRefused
from af_hub.registry.proof import (
    CONFIGS,
    INDEXES,
    MANIFESTS,
    Document,
    ImageProof,
    choose_platform,
    digest_of,
    is_list,
    judge,
    plain,
    read_config,
    read_json,
    read_manifest,
    read_user,
    read_version,
    unproven,
)
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import read_reference

IMAGE = read_reference("reg.test/cms/lab:1")
AMD = "linux/amd64"


def document(found: object, media_type: str = "") -> Document:
    return Document(json.dumps(found).encode(), media_type)


def config(**image: object) -> dict[str, object]:
    return {"os": "linux", "architecture": "amd64", "config": image}


def manifest(of: Document, media_type: str = MANIFESTS[0], config_type: str = CONFIGS[0]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "digest": digest_of(of.content), "size": len(of.content)},
        "layers": [{"size": 100}, {"size": 20}, {"size": "x"}, "odd"],
    }


def prove(image: dict[str, object]) -> ImageProof:
    blob = document(image)
    return read_config(blob, read_manifest(document(manifest(blob)), "", IMAGE), AMD, IMAGE)


def reason_of(refusal: pytest.ExceptionInfo[ImageRefused]) -> str:
    assert "reg.test" in str(refusal.value) and str(refusal.value).endswith(".")
    return refusal.value.reason


@pytest.mark.parametrize("form", [0, 1], ids=["OCI", "Docker"])
def test_proof_of_an_image(form: int) -> None:
    blob = document(config(User="1000:100", Labels={"org.af-hub.jupyterhub": "6.1.1", "a": "b", "odd": 1}))
    found = document(manifest(blob, MANIFESTS[form], CONFIGS[form]))
    read = read_manifest(found, digest_of(found.content), IMAGE)
    proof = read_config(blob, read, AMD, IMAGE)
    digest = digest_of(found.content)
    assert proof == ImageProof(
        "reg.test/cms/lab:1",
        digest,
        "1000:100",
        1000,
        100,
        len(blob.content) + 120,
        {"org.af-hub.jupyterhub": "6.1.1"},
        f"reg.test/cms/lab@{digest}",
    )


def test_a_manifest_without_its_own_type_is_what_the_registry_says_it_is() -> None:
    blob = document(config())
    untyped = {key: value for key, value in manifest(blob).items() if key != "mediaType"}
    assert read_manifest(document(untyped, f"{MANIFESTS[0]}; charset=utf-8"), "", IMAGE).config_digest
    with pytest.raises(ImageRefused):
        read_manifest(document(untyped, "text/plain"), "", IMAGE)


def entry(platform: str, digest: str) -> dict[str, object]:
    system, _, processor = platform.partition("/")
    return {"digest": digest, "platform": {"os": system, "architecture": processor}}


A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.mark.parametrize("media_type", INDEXES)
def test_of_a_list_the_one_for_our_nodes_counts(media_type: str) -> None:
    found = {
        "mediaType": media_type,
        "manifests": [entry("unknown/unknown", A), entry("linux/arm64", A), entry(AMD, B)],
    }
    assert is_list(document(found), found) and not is_list(document({}), {})
    assert choose_platform(found, AMD, IMAGE) == B
    assert choose_platform(found, "linux/arm64", IMAGE) == A


@pytest.mark.parametrize(
    "entries, says",
    [
        pytest.param(
            [entry("linux/arm64", A), entry("windows/amd64", A)], "is for linux/arm64, windows/amd64", id="others"
        ),
        pytest.param([entry("unknown/unknown", A)], "is for no platform at all", id="attestations only"),
        pytest.param([], "is for no platform at all", id="none"),
        pytest.param("odd", "is for no platform at all", id="no list"),
        pytest.param([entry(AMD, "sha256:x")], "is for linux/amd64, and", id="no digest"),
        pytest.param([1, {"platform": 2}], "is for no platform at all", id="odd entries"),
    ],
)
def test_lists_without_one_for_our_nodes(entries: object, says: str) -> None:
    with pytest.raises(ImageRefused, match=says) as refusal:
        choose_platform({"manifests": entries}, AMD, IMAGE)
    assert reason_of(refusal) == ImageReason.PLATFORM


@pytest.mark.parametrize(
    "image", [{"os": "linux", "architecture": "arm64"}, {"os": "windows", "architecture": "amd64"}, {}]
)
def test_images_for_other_nodes(image: dict[str, object]) -> None:
    with pytest.raises(ImageRefused, match="sessions here run on linux/amd64") as refusal:
        prove(image)
    assert reason_of(refusal) == ImageReason.PLATFORM


@pytest.mark.parametrize(
    "media_type, config_type",
    [
        pytest.param("application/vnd.docker.distribution.manifest.v1+prettyjws", CONFIGS[0], id="Docker's first form"),
        pytest.param(MANIFESTS[0], "application/vnd.cncf.helm.config.v1+json", id="a chart"),
        pytest.param(MANIFESTS[0], "application/vnd.oci.empty.v1+json", id="an artifact"),
        pytest.param(INDEXES[0], CONFIGS[0], id="a list in a list"),
    ],
)
def test_what_is_no_image(media_type: str, config_type: str) -> None:
    blob = document(config())
    with pytest.raises(ImageRefused, match="no container image") as refusal:
        read_manifest(document(manifest(blob, media_type, config_type)), "", IMAGE)
    assert reason_of(refusal) == ImageReason.NO_IMAGE


def test_other_bytes_than_their_digest_says_are_not_believed() -> None:
    blob, other = document(config(User="1000")), document(config(User="0"))
    read = read_manifest(document(manifest(blob)), "", IMAGE)
    with pytest.raises(ImageRefused, match="something else than its digest says") as refusal:
        read_config(other, read, AMD, IMAGE)
    assert reason_of(refusal) == ImageReason.AWAY
    with pytest.raises(ImageRefused, match="something else"):
        read_manifest(document(manifest(blob)), A, IMAGE)
    assert read_json(blob, digest_of(blob.content, "sha512"), IMAGE)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b"null", b"\xff", b"[" * 10**5, b'{"config": {"digest": "x"}}']
)
def test_answers_that_are_none(content: bytes) -> None:
    with pytest.raises(ImageRefused) as refusal:
        read_manifest(Document(content, MANIFESTS[0]), "", IMAGE)
    assert reason_of(refusal) in (ImageReason.AWAY, ImageReason.NO_IMAGE)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda one: (
            st.lists(one)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "config",
                        "layers",
                        "manifests",
                        "mediaType",
                        "os",
                        "architecture",
                        "digest",
                        "size",
                        "platform",
                        "User",
                        "Labels",
                    ]
                ),
                one,
            )
        ),
    )
)
def test_whatever_a_registry_says_it_is_a_proof_or_a_refusal(found: object) -> None:
    blob = document(found)
    for ask in (
        lambda: read_manifest(document(found, MANIFESTS[0]), "", IMAGE),
        lambda: choose_platform(found if isinstance(found, dict) else {}, AMD, IMAGE),
        lambda: read_config(blob, read_manifest(document(manifest(blob)), "", IMAGE), AMD, IMAGE),
    ):
        try:
            ask()
        except ImageRefused as refusal:
            assert refusal.reason in set(ImageReason)


@pytest.mark.parametrize(
    "user, uid, gid",
    [
        ("1000", 1000, None),
        ("1000:100", 1000, 100),
        ("1000:users", 1000, None),
        ("0", None, None),
        ("0:0", None, None),
        ("00", None, None),
        ("", None, None),
        ("root", None, None),
        ("jovyan", None, None),
        ("jovyan:100", None, 100),
        ("-1", None, None),
        ("1000 ", None, None),
        ("١٠٠٠", None, None),
        ("4294967296", None, None),
        ("2147483647", None, None),
        ("99999999999999999999", None, None),
        ("1000:0", 1000, None),
    ],
)
def test_who_an_image_runs_as(user: str, uid: int | None, gid: int | None) -> None:
    assert read_user(user) == (uid, gid)
    assert (prove(config(User=user)).uid, prove(config(User=user)).user) == (uid, plain(user))


@pytest.mark.parametrize(
    "text, version",
    [
        ("4.1.6", (4, 1, 6)),
        ("5.0", (5,)),
        ("v6.1.1", (6, 1, 1)),
        ("6.2.0.dev", (6, 2)),
        ("4.0.0b1", (4,)),
        ("", ()),
        ("latest", ()),
        ("9" * 400, (999999,)),
    ],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert read_version(text) == version


PROOF = ImageProof("reg.test/a:1", A, "1000", 1000, None, 5, {"org.af-hub.jupyterhub": "5.4.0"}, f"reg.test/a@{A}")


@pytest.mark.parametrize(
    "label, minimum, good",
    [
        ("5.4.0", "4.0", True),
        ("4.0.0", "4.0", True),
        ("3.1.1", "4.0", False),
        ("10.0", "9.9", True),
        ("5.4", "5.4.1", False),
    ],
)
def test_too_old_a_server_is_refused(label: str, minimum: str, good: bool) -> None:
    proof = replace(PROOF, labels={"org.af-hub.jupyterhub": label})
    if good:
        assert judge(proof, minimum, "refuse") == proof
        return
    with pytest.raises(ImageRefused, match=f"has JupyterHub {label}; sessions here need {minimum} or newer") as refusal:
        judge(proof, minimum, "refuse")
    assert reason_of(refusal) == ImageReason.OLD


@pytest.mark.parametrize("labels", [{}, {"org.af-hub.jupyterhub": ""}, {"org.af-hub.jupyterhub": "latest"}])
def test_an_image_that_does_not_say_its_version_starts_and_that_is_said(labels: dict[str, str]) -> None:
    judged = judge(replace(PROOF, labels=labels), "4.0", "set")
    assert judged.remarks == ("This image does not say which JupyterHub is in it, so it may turn out not to fit.",)


@pytest.mark.parametrize(
    "user, says", [("root", "`root`"), ("jovyan", "`jovyan`"), ("", "root, since it says nothing else")]
)
def test_no_number_for_a_user_is_refused_where_the_policy_says_so(user: str, says: str) -> None:
    proof = replace(PROOF, user=user, uid=None)
    assert judge(proof, "4.0", "set").uid is None
    with pytest.raises(ImageRefused, match=says) as refusal:
        judge(proof, "4.0", "refuse")
    assert reason_of(refusal) == ImageReason.USER


def test_what_nobody_was_asked_about_starts_and_that_is_said() -> None:
    proof = unproven(IMAGE)
    assert (proof.pinned, proof.digest, proof.uid) == ("reg.test/cms/lab:1", "", None)
    assert judge(proof, "99", "refuse") == proof and "not asked" in proof.remarks[0]


# ------------------------------------------------------------------------------------------ images made to harm

FORGED = "linux\n2026-11-22 [C] forged \x1b[2J"


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(lambda: choose_platform({"manifests": [entry(f"{FORGED}/x", A)]}, AMD, IMAGE), id="a list's"),
        pytest.param(lambda: prove({"os": FORGED, "architecture": "amd64"}), id="an image's platform"),
        pytest.param(lambda: judge(prove(config(User=FORGED)), "4.0", "refuse"), id="its user"),
        pytest.param(
            lambda: judge(prove(config(Labels={"org.af-hub.jupyterhub": f"1.0{FORGED}"})), "4.0", "set"), id="its label"
        ),
    ],
)
def test_no_image_writes_lines_of_the_log(refused: object) -> None:
    with pytest.raises(ImageRefused, match=r"linux\\n2026") as refusal:
        refused()  # type: ignore[operator]
    assert str(refusal.value).isprintable() and str(refusal.value).isascii()


def test_of_a_large_image_little_is_remembered() -> None:
    """Somebody who may push images could fill the hub's memory: it remembers a thousand of them."""
    proof = prove(config(User="u" * 100_000, Labels={f"label-{number}": "x" * 100 for number in range(1000)}))
    assert proof.labels == {} and len(proof.user) == 80


def test_a_size_that_cannot_be_is_not_counted() -> None:
    """A number of thousands of digits would come into every sentence of the start."""
    blob = document(config())
    found = {**manifest(blob), "layers": [{"size": 7}, {"size": 10**4000}]}
    assert read_manifest(document(found), "", IMAGE).size == len(blob.content) + 7


@pytest.mark.parametrize("typed", [{}, {"mediaType": MANIFESTS[0]}], ids=["without a type", "with one"])
def test_what_is_a_manifest_and_a_list_is_neither(typed: dict[str, object]) -> None:
    """CVE-2021-41190: a node could take it for the list, and start what was not looked at."""
    blob = document(config())
    found = {key: value for key, value in manifest(blob).items() if key != "mediaType"} | typed
    found["manifests"] = [entry(AMD, B)]
    with pytest.raises(ImageRefused) as refusal:
        read_manifest(document(found, MANIFESTS[0]), "", IMAGE)
    assert reason_of(refusal) == ImageReason.NO_IMAGE
