"""Images made by hand and brought to a registry, and the registry itself for whoever has not installed it.

For tests of what asks registries about images: an image here is its documents (manifest, configuration) and one tiny layer, so that none is
ever built. The registry is Debian's (:mod:`af_hub.testing.kube_registry`); this finds its program without root.
"""

import gzip
import io
import json
import os
import shutil
import ssl
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import httpx

from af_hub.registry.proof import CONFIGS, INDEXES, MANIFESTS, digest_of
from af_hub.testing.debian import Progress, cache_folder, fetch
from af_hub.testing.kube_registry import PACKAGE, PROGRAM

# The oldest release whose program takes our configuration: it runs with the C library of any machine of that age or younger.
SUITE = "bookworm"


def find_registry(progress: Progress = lambda _: None, environ: Mapping[str, str] = os.environ) -> str:
    """The program: this machine's, else Debian's, unpacked into the user's cache.

    Raises
    ------
    Unavailable
        When it cannot be had; the message says what to do.
    """
    if found := shutil.which(PROGRAM):
        return found
    tree = fetch((PACKAGE,), SUITE, cache_folder(environ) / f"registry-{SUITE}", progress)
    return str(tree / "usr/bin" / PROGRAM)


def hashed(password: str) -> str:
    """A password as ``htpasswd -B`` writes it, at bcrypt's least cost."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix=b"2a")).decode()


@dataclass(frozen=True)
class HandmadeImage:
    """One image for one platform: what a registry holds of it."""

    manifest: bytes
    media_type: str
    blobs: tuple[bytes, ...]
    platform: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.manifest)


def make_image(
    user: str = "1000", labels: Mapping[str, str] | None = None, platform: str = "linux/amd64", docker: bool = False
) -> HandmadeImage:
    """An image with one file in it; in Docker's form instead of OCI's when ``docker``."""
    system, _, processor = platform.partition("/")
    where = {"os": system, "architecture": processor}
    layer = _layer(f"{platform} {user}\n".encode())
    config = {
        **where,
        "config": {"User": user, "Labels": dict(labels or {}), "Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(layer))]},
    }
    image = json.dumps(config).encode()
    layer_type = (
        "application/vnd.docker.image.rootfs.diff.tar.gzip" if docker else "application/vnd.oci.image.layer.v1.tar+gzip"
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFESTS[docker],
        "config": _descriptor(CONFIGS[docker], image),
        "layers": [_descriptor(layer_type, layer)],
    }
    return HandmadeImage(json.dumps(manifest).encode(), MANIFESTS[docker], (image, layer), where)


def make_list(*images: HandmadeImage, docker: bool = False) -> bytes:
    """A list of images for several platforms."""
    entries = [{**_descriptor(one.media_type, one.manifest), "platform": dict(one.platform)} for one in images]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEXES[docker], "manifests": entries}).encode()


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _layer(content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("made-by-hand")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(archive.getvalue(), mtime=0)


class Pusher:
    """Brings images to a registry by its API (OCI distribution specification 1.1, "Push")."""

    def __init__(self, url: str, person: tuple[str, str] | None = None, ca_file: Path | None = None) -> None:
        trust = ssl.create_default_context(cafile=ca_file)
        self._http = httpx.Client(base_url=url, auth=person, verify=trust, timeout=20)

    def push(self, path: str, tag: str, image: HandmadeImage) -> str:
        """One image; its digest."""
        for blob in image.blobs:
            self._blob(path, blob)
        return self.manifest(path, tag, image.manifest, image.media_type)

    def push_list(self, path: str, tag: str, *images: HandmadeImage, docker: bool = False) -> str:
        """Images for several platforms, and the list of them; the digest of the list."""
        for image in images:
            self.push(path, image.digest, image)
        return self.manifest(path, tag, make_list(*images, docker=docker), INDEXES[docker])

    def manifest(self, path: str, tag: str, content: bytes, media_type: str) -> str:
        """Any manifest; its digest."""
        headers = {"Content-Type": media_type}
        self._http.put(f"/v2/{path}/manifests/{tag}", content=content, headers=headers).raise_for_status()
        return digest_of(content)

    def _blob(self, path: str, content: bytes) -> None:
        begun = self._http.post(f"/v2/{path}/blobs/uploads/").raise_for_status()
        where = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest_of(content)})
        self._http.put(where, content=content).raise_for_status()
