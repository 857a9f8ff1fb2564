"""What a registry said of an image, and whether a session can be started from it.

The forms are those of the OCI image specification 1.1 and of Docker (manifest version 2, schema 2). Promises: what is pinned is what was
looked at, byte for byte, since each document is compared with its digest; of a list of images the one for the sessions' platform counts.
What an image says of itself, anybody may have written: it is cut short, comes into sentences and logs as plain characters, and what is
remembered of it is little. Leaves the asking to :mod:`af_hub.registry.client`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from af_hub.errors import ImageRefused
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import DIGEST, Reference

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
JUPYTERHUB = "org.af-hub.jupyterhub"
"""The label that says which JupyterHub is in an image."""

HIGHEST_ID = 2**31 - 2
LONGEST_TEXT = 80
LARGEST_LAYER = 2**50
_NUMBER = re.compile(r"[0-9]{1,10}")
_VERSION = re.compile(r"v?([0-9]{1,6}(?:\.[0-9]{1,6}){0,5})")


@dataclass(frozen=True)
class ImageProof:
    """What a session needs to know of an image before it starts.

    Parameters
    ----------
    reference
        Its name in full.
    digest
        Of the manifest for the platform; empty when the registry was not asked.
    user
        As the image says it; empty when it says nothing.
    uid, gid
        The numbers in it; None where there is none, or it is root's.
    size
        Bytes to pull onto a node that has nothing of it.
    labels
        Those that count here.
    pinned
        The name by which to start it: with the digest, where there is one.
    remarks
        Sentences that the person should read, though the image may start.
    """

    reference: str
    digest: str
    user: str
    uid: int | None
    gid: int | None
    size: int
    labels: Mapping[str, str]
    pinned: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """Bytes that a registry sent, with the type that it gave them."""

    content: bytes = field(repr=False)
    media_type: str = ""


@dataclass(frozen=True)
class Manifest:
    """What the manifest of one image says; ``size`` in bytes."""

    digest: str
    config_digest: str
    size: int


def read_json(document: Document, digest: str, reference: Reference) -> dict[str, Any]:
    """The object in it, if it has this digest; an empty digest is not compared.

    Raises
    ------
    ImageRefused
        When it has another one, or is no object.
    """
    if digest and digest_of(document.content, digest.partition(":")[0]) != digest:
        raise ImageRefused(
            f"{reference.registry} answered for {reference} with something else than its digest says; nothing was started.",
            ImageReason.AWAY,
        )
    try:
        found = json.loads(document.content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise nonsense(reference)
    return found


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest by which a registry calls these bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def is_list(document: Document, found: Mapping[str, Any]) -> bool:
    """Whether it is a list of images for several platforms."""
    return _type_of(document, found) in INDEXES


def choose_platform(found: Mapping[str, Any], platform: str, reference: Reference) -> str:
    """The digest of that entry of a list which is for ``platform`` (``linux/amd64``).

    Raises
    ------
    ImageRefused
        When there is none.
    """
    others = []
    for entry in _list(found.get("manifests")):
        offered = _platform_of(_object(_object(entry).get("platform")))
        digest = _object(entry).get("digest")
        if offered == platform and isinstance(digest, str) and DIGEST.fullmatch(digest):
            return digest
        if offered and offered != "unknown/unknown":  # such as the attestations that docker buildx adds
            others.append(plain(offered))
    raise _wrong_platform(reference, ", ".join(dict.fromkeys(others)) or "no platform at all", platform)


def read_manifest(document: Document, digest: str, reference: Reference) -> Manifest:
    """What the manifest of one image says.

    Raises
    ------
    ImageRefused
        When it is none, or that of something else than an image.
    """
    found = read_json(document, digest, reference)
    config = _object(found.get("config"))
    config_digest = config.get("digest")
    # What is a list too, another reader could take for that, and start something else under this digest (CVE-2021-41190).
    both = "manifests" in found
    if both or _type_of(document, found) not in MANIFESTS or config.get("mediaType") not in CONFIGS:
        raise ImageRefused(
            f"What {reference.registry} has as {reference} is no container image that can be started.",
            ImageReason.NO_IMAGE,
        )
    if not isinstance(config_digest, str) or not DIGEST.fullmatch(config_digest):
        raise nonsense(reference)
    sizes = [_object(part).get("size") for part in (config, *_list(found.get("layers")))]
    return Manifest(
        digest or digest_of(document.content),
        config_digest,
        sum(size for size in sizes if isinstance(size, int) and 0 < size <= LARGEST_LAYER),
    )


def read_config(document: Document, manifest: Manifest, platform: str, reference: Reference) -> ImageProof:
    """What the image is, from the configuration that its manifest names.

    Raises
    ------
    ImageRefused
        When it is for another platform, or not what the manifest names.
    """
    found = read_json(document, manifest.config_digest, reference)
    offered = _platform_of(found)
    if offered != platform:
        raise _wrong_platform(reference, plain(offered) or "a platform that it does not name", platform)
    config = _object(found.get("config"))
    user = config.get("User")
    user = user if isinstance(user, str) else ""
    uid, gid = read_user(user)
    label = _object(config.get("Labels")).get(JUPYTERHUB)
    return ImageProof(
        reference=str(reference),
        digest=manifest.digest,
        user=plain(user),
        uid=uid,
        gid=gid,
        size=manifest.size,
        labels={JUPYTERHUB: plain(label)} if isinstance(label, str) else {},
        pinned=str(reference.pinned(manifest.digest)),
    )


def unproven(reference: Reference) -> ImageProof:
    """For an image whose registry is not asked: it starts as its name says, and nobody knows what it is."""
    name = str(reference)
    return ImageProof(name, "", "", None, None, 0, {}, name, ("The registry of this image was not asked about it.",))


def read_user(user: str) -> tuple[int | None, int | None]:
    """uid and gid of ``USER`` in an image (``1000``, ``1000:100``, ``jovyan``); None for what is no number, or root's."""
    name, _, group = user.partition(":")
    return _id(name), _id(group)


def plain(text: str) -> str:
    """What stands in an image, or the beginning of it, as printable ASCII on one line."""
    return ascii(text[:LONGEST_TEXT])[1:-1]


def judge(proof: ImageProof, minimum_jupyterhub: str, unnumbered_user: str) -> ImageProof:
    """The proof, with remarks, if the facility starts such an image.

    Parameters
    ----------
    minimum_jupyterhub, unnumbered_user
        As in ``sessions`` of ``facility.yaml``.

    Raises
    ------
    ImageRefused
        When it does not.
    """
    if not proof.digest:
        return proof
    label = proof.labels.get(JUPYTERHUB, "")
    version = read_version(label)
    if version and version < read_version(minimum_jupyterhub):
        raise ImageRefused(
            f"{proof.reference} has JupyterHub {label:.40}; sessions here need {minimum_jupyterhub} or newer.",
            ImageReason.OLD,
        )
    if proof.uid is None and unnumbered_user == "refuse":
        who = f"`{proof.user:.40}`" if proof.user else "root, since it says nothing else"
        raise ImageRefused(
            f"{proof.reference} runs as {who}, and sessions here need the number of a user that is not root.",
            ImageReason.USER,
        )
    if version:
        return proof
    remark = "This image does not say which JupyterHub is in it, so it may turn out not to fit."
    return replace(proof, remarks=(*proof.remarks, remark))


def read_version(text: str) -> tuple[int, ...]:
    """``4.1.6`` as numbers, without what follows them and without zeros at the end; empty when it is no version."""
    match = _VERSION.match(text.strip())
    numbers = [int(part) for part in match[1].split(".")] if match else []
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def nonsense(reference: Reference) -> ImageRefused:
    """What to say of an answer that is none."""
    return ImageRefused(
        f"{reference.registry} does not answer as a registry does, when asked for {reference}.", ImageReason.AWAY
    )


def _wrong_platform(reference: Reference, offered: str, platform: str) -> ImageRefused:
    return ImageRefused(
        f"{reference} is for {offered:.200}, and sessions here run on {platform}.", ImageReason.PLATFORM
    )


def _type_of(document: Document, found: Mapping[str, Any]) -> str:
    """What the document says of itself, which its digest holds; else what the registry said of it."""
    said = found.get("mediaType")
    return said if isinstance(said, str) else document.media_type.partition(";")[0].strip()


def _platform_of(found: Mapping[str, Any]) -> str:
    system, processor = found.get("os"), found.get("architecture")
    return f"{system}/{processor}" if isinstance(system, str) and isinstance(processor, str) else ""


def _id(text: str) -> int | None:
    number = int(text) if _NUMBER.fullmatch(text) else 0
    return number if 0 < number <= HIGHEST_ID else None


def _object(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []
