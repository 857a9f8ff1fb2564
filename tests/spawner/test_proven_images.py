"""What a spawner of pods makes of proofs: whose numbers a session has, what is said of an image, and which nodes it must be for."""

from pathlib import Path

import pytest
import yaml
from jupyterhub.spawner import SpawnException
from spawners import POLICY, manifest_of, spawner_of, use_cluster

from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy
from af_hub.session.options import SessionOptions
from af_hub.spawning.preparing import platform_of
from af_hub.testing.fake_registry import FakeRegistry
from af_hub.testing.registry import make_image

OWN = "registry.af-hub.test/cms/lab:1"


@pytest.fixture(autouse=True)
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cluster(tmp_path, monkeypatch)


def policy_at(registry: FakeRegistry | None = None, **sessions: object) -> Policy:
    found = yaml.safe_load(POLICY)
    if registry is not None:
        found["registries"]["registry.af-hub.test"]["address"] = registry.url
    return read_policy(yaml.safe_dump({**found, "sessions": sessions}), "facility.yaml", {"CA": "/ca.pem"})


@pytest.mark.parametrize(
    "user, uid, gid", [("1234:555", 1234, 555), ("1234", 1234, 100), ("root", 1000, 100), ("0", 1000, 100)]
)
async def test_a_session_has_the_numbers_of_its_image(user: str, uid: int, gid: int) -> None:
    image = make_image(user, {"org.af-hub.jupyterhub": "6.1.1"})
    async with FakeRegistry({("cms/lab", "1"): image}) as registry:
        manifest = await manifest_of(spawner_of("/cms", policy=policy_at(registry)), {"image": OWN})
    context = manifest["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (uid, gid, True)
    assert [one["image"] for one in manifest["spec"]["containers"]] == [f"registry.af-hub.test/cms/lab@{image.digest}"]


@pytest.mark.parametrize(
    "image, sessions, reason",
    [
        pytest.param(make_image("jovyan"), {"unnumbered_user": "refuse"}, "image-user", id="no number"),
        pytest.param(make_image("1", {"org.af-hub.jupyterhub": "3.1"}), {}, "image-old", id="too old"),
        pytest.param(make_image("1", platform="linux/s390x"), {}, "image-platform", id="another processor"),
        pytest.param(None, {}, "image-missing", id="not there"),
    ],
)
async def test_what_cannot_start_is_refused_in_the_form_and_at_the_start(
    image: object, sessions: dict[str, str], reason: str
) -> None:
    images = {("cms/lab", "1"): image} if image else {}
    async with FakeRegistry(images) as registry:
        spawner = spawner_of("/cms", policy=policy_at(registry, **sessions))
        form = {"image": [":own"], "own_image": [OWN], "size": ["small"]}
        for start in (spawner.run_options_from_form(form), spawner.prepare({"image": OWN})):
            with pytest.raises(SpawnException) as refusal:
                await start
            assert refusal.value.reason == reason and refusal.value.status_code == 403
            assert "registry.af-hub.test" in refusal.value.message and "help@af-hub.test" in refusal.value.message


async def test_what_a_person_has_asked_counts_in_the_form_the_api_and_for_named_servers_together() -> None:
    async with FakeRegistry({}) as registry:
        first = spawner_of("/cms", policy=policy_at(registry, own_images_per_hour=2))
        named, other = spawner_of("/cms", server="two"), spawner_of("/cms", username="bob")
        named.authenticator = other.authenticator = first.authenticator
        form = {"image": [":own"], "own_image": [OWN], "size": ["small"]}
        reasons = []
        for start in (
            first.run_options_from_form(form),
            named.prepare({"image": OWN}),
            first.prepare({"image": OWN}),
            named.run_options_from_form(form),
            other.prepare({"image": OWN}),
        ):
            with pytest.raises(SpawnException) as refusal:
                await start
            reasons.append(refusal.value.reason)
        assert reasons == ["image-missing", "image-missing", "images-too-many", "images-too-many", "image-missing"]


async def test_what_nobody_knows_of_a_typed_image_is_said_while_it_starts() -> None:
    spawner = spawner_of("/cms")
    await spawner.prepare({"image": OWN})
    assert (await anext(spawner.progress()))["message"] == "The registry of this image was not asked about it."
    await spawner.prepare({"image": "base"})
    assert "not asked" not in (await anext(spawner.progress()))["message"]


async def test_an_image_without_a_container_is_the_facility_s_fault() -> None:
    policy = policy_at()
    spawner = spawner_of("/cms", policy=policy)
    with pytest.raises(SpawnException, match="has no `container`") as refusal:
        await spawner._prove(
            SessionOptions("nowhere", policy.images["nowhere"], "small", policy.sizes["small"]), policy
        )
    assert refusal.value.reason == "facility"


def test_a_size_for_other_nodes_wants_an_image_for_them() -> None:
    policy = policy_at()
    arm = policy.sizes["small"].model_copy(update={"node_selector": {"kubernetes.io/arch": "arm64"}})
    assert (platform_of(arm), platform_of(policy.sizes["small"])) == ("linux/arm64", "")
