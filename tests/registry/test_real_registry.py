"""A real registry with handmade images: what the hub proves of them, and each sentence for what it cannot."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from af_hub.errors import ImageRefused, Unavailable
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy
from af_hub.registry.prover import Prover
from af_hub.registry.reasons import ImageReason
from af_hub.testing.certificates import Authority
from af_hub.testing.kube_registry import Registry
from af_hub.testing.registry import HandmadeImage, Pusher, find_registry, hashed, make_image
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

POLICY = """
facility: {{name: Test, contact: help@af-hub.test, help: "https://hub.test/refused/"}}
issuers: [{{issuer: "https://iam.af-hub.test/"}}]
rules: [{{name: all, groups: [/cms], login: true, images: [lab], sizes: [small]}}]
images: {{lab: {{title: Lab, container: "{listed}"}}}}
sizes: {{small: {{title: Small, cpus: 1, memory: 1 GiB}}}}
sessions: {{unnumbered_user: {user}}}
registries: {{reg.test: {{address: "{address}", ca_file: "{ca}", credentials_file: "{credentials}"}}}}
"""
NEW = {"org.af-hub.jupyterhub": "6.1.1", "org.af-hub.python": "3.11"}
AMD = make_image("1000:100", NEW)
ARM = make_image("1000", NEW, platform="linux/arm64")


@dataclass
class Place:
    """A registry and what the hub knows of it."""

    registry: Registry
    pusher: Pusher
    folder: Path
    ca: str = ""
    credentials: str = ""
    listed: str = "reg.test/cms/lab:1"
    digests: dict[str, str] = field(default_factory=dict)

    def push(self, tag: str, *images: HandmadeImage, docker: bool = False) -> None:
        if len(images) == 1:
            self.digests[tag] = self.pusher.push("cms/lab", tag, images[0])
        else:
            self.digests[tag] = self.pusher.push_list("cms/lab", tag, *images, docker=docker)

    def policy(self, user: str = "set") -> Policy:
        known = {"address": self.registry.url, "ca": self.ca, "credentials": self.credentials}
        return read_policy(POLICY.format(**known, listed=self.listed, user=user), "facility.yaml", {})

    def prover(self, user: str = "set") -> Prover:
        policy = self.policy(user)
        return Prover(lambda: policy, "linux/amd64")


@pytest.fixture(scope="module")
def program() -> str:
    try:
        return find_registry()
    except Unavailable as error:
        unavailable(f"no registry of images: {error}")


@pytest.fixture(scope="module")
def place(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Anybody's, without TLS."""
    folder = tmp_path_factory.mktemp("registry")
    with Registry(folder / "images", folder, program=program) as registry:
        found = Place(registry, Pusher(registry.url), folder)
        found.push("1", AMD)
        found.push("docker", make_image("1000", NEW, docker=True))
        found.push("both", ARM, AMD)
        found.push(
            "docker-both",
            make_image("1001", NEW, platform="linux/arm64", docker=True),
            make_image("1002", NEW, docker=True),
            docker=True,
        )
        found.push("arm", ARM)
        found.push("root", make_image("root", NEW))
        found.push("jovyan", make_image("jovyan", NEW))
        found.push("old", make_image("1000", {"org.af-hub.jupyterhub": "3.1.1"}))
        found.push("unsaid", make_image("1000"))
        chart = AMD.manifest.replace(
            b"application/vnd.oci.image.config.v1+json", b"application/vnd.cncf.helm.config.v1+json"
        )
        found.pusher.manifest("cms/lab", "chart", chart, AMD.media_type)
        yield found


@pytest.mark.parametrize(
    "tag, uid, gid", [("1", 1000, 100), ("docker", 1000, None), ("both", 1000, 100), ("docker-both", 1002, None)]
)
async def test_what_is_good_is_pinned(place: Place, tag: str, uid: int, gid: int | None) -> None:
    proof = await place.prover("refuse").prove(f"reg.test/cms/lab:{tag}")
    assert (proof.uid, proof.gid, proof.labels["org.af-hub.jupyterhub"], proof.remarks) == (uid, gid, "6.1.1", ())
    assert 300 < proof.size < 2000 and proof.pinned == f"reg.test/cms/lab@{proof.digest}"
    assert (proof.digest == place.digests[tag]) is (tag in ("1", "docker")), "of a list the one for our nodes"
    again = await place.prover().prove(proof.pinned)
    assert (again.pinned, again.uid) == (proof.pinned, proof.uid)
    by_list = await place.prover().prove(f"reg.test/cms/lab@{place.digests[tag]}")
    assert by_list.pinned == proof.pinned


@pytest.mark.parametrize(
    "name, reason, says",
    [
        ("reg.test/cms/lab:2", "image-missing", "is not there: reg.test has no such image"),
        ("reg.test/cms/none", "image-missing", "reg.test/cms/none:latest is not there"),
        (f"reg.test/cms/lab@sha256:{'0' * 64}", "image-missing", "is not there"),
        ("reg.test/cms/lab:arm", "image-platform", "is for linux/arm64, and sessions here run on linux/amd64"),
        ("reg.test/cms/lab:old", "image-old", "has JupyterHub 3.1.1; sessions here need 4.0 or newer"),
        ("reg.test/cms/lab:root", "image-user", "runs as `root`"),
        ("reg.test/cms/lab:jovyan", "image-user", "runs as `jovyan`"),
        ("reg.test/cms/lab:chart", "image-none", "no container image that can be started"),
        ("reg.test/cms/Lab", "image-name", "is no name of an image"),
    ],
)
async def test_each_refusal_is_a_sentence(place: Place, name: str, reason: str, says: str) -> None:
    with pytest.raises(ImageRefused) as refusal:
        await place.prover("refuse").prove(name)
    assert refusal.value.reason == reason and says in str(refusal.value)


async def test_other_nodes_have_another_image_of_the_list(place: Place) -> None:
    prover = place.prover()
    here, there = [await prover.prove("reg.test/cms/lab:both", platform) for platform in ("", "linux/arm64")]
    assert (here.digest, there.digest) == (AMD.digest, ARM.digest)


async def test_what_the_policy_lets_pass_is_said(place: Place) -> None:
    assert (await place.prover("set").prove("reg.test/cms/lab:root")).uid is None
    assert "does not say which JupyterHub" in (await place.prover().prove("reg.test/cms/lab:unsaid")).remarks[0]


async def test_the_registry_away(program: str, tmp_path: Path) -> None:
    """An image of the list starts from what was known; one that was typed does not, and neither after the hub began anew."""
    with Registry(tmp_path / "images", tmp_path, program=program) as registry:
        place = Place(registry, Pusher(registry.url), tmp_path)
        place.push("1", AMD)
        place.push("typed", AMD)
        now = 0.0
        policy = place.policy()
        prover = Prover(lambda: policy, "linux/amd64", lambda: now)
        good = await prover.prove("reg.test/cms/lab:1")
        await prover.prove("reg.test/cms/lab:typed")
    now = 1e6
    assert await prover.prove("reg.test/cms/lab:1") == good
    for asked, name in ((prover, "reg.test/cms/lab:typed"), (place.prover(), "reg.test/cms/lab:1")):
        with pytest.raises(ImageRefused, match=r"reg\.test does not answer now") as refusal:
            await asked.prove(name)
        assert refusal.value.reason == ImageReason.AWAY


async def test_a_private_registry_with_tls(program: str, tmp_path: Path) -> None:
    """With credentials and its authority it is read; without either it is not, and the sentence says which."""
    authority = Authority(tmp_path / "ca", "Test CA")
    tls = authority.issue(tmp_path / "tls", "127.0.0.1")
    (tmp_path / "credentials").write_text("hub:secret")
    (tmp_path / "credentials").chmod(0o600)
    people = {"hub": hashed("secret")}
    with Registry(tmp_path / "images", tmp_path, people=people, tls=tls, program=program) as registry:
        pusher = await asyncio.to_thread(Pusher, registry.url, ("hub", "secret"), authority.file)
        place = Place(registry, pusher, tmp_path, str(authority.file), str(tmp_path / "credentials"))
        await asyncio.to_thread(place.push, "1", AMD)
        assert (await place.prover().prove("reg.test/cms/lab:1")).uid == 1000
        place.credentials = ""
        with pytest.raises(ImageRefused, match=r"does not show reg\.test/cms/lab:1 to this facility") as refusal:
            await place.prover().prove("reg.test/cms/lab:1")
        assert refusal.value.reason == ImageReason.UNREADABLE
        place.ca = ""
        with pytest.raises(ImageRefused, match="no connection") as refusal:
            await place.prover().prove("reg.test/cms/lab:1")
        assert refusal.value.reason == ImageReason.AWAY


async def test_thirty_sessions_at_once_and_the_time_that_a_proof_takes(place: Place) -> None:
    prover = place.prover()
    loop = asyncio.get_running_loop()
    began = loop.time()
    proofs = await asyncio.gather(*[prover.prove("reg.test/cms/lab:both") for _ in range(30)])
    first = loop.time() - began
    assert len({proof.pinned for proof in proofs}) == 1
    print(f"thirty proofs of one image in {first * 1000:.0f} ms")
    assert first < 5
