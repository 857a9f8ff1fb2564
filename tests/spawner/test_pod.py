"""A session's pod, whole, as KubeSpawner makes it and we complete it; no cluster is asked."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.spawner import SpawnException
from kubernetes_asyncio.client import V1Pod
from spawners import KnownPerson, manifest_of, policy_with, spawner_of, use_cluster
from traitlets import TraitError

from af_hub.session.folders import safe_name
from af_hub.spawning.names import claim_name, pod_name
from af_hub.spawning.pod import PodUser, literal, user_of
from af_hub.testing.plugin import Golden

ANALYST = ("/cms", "/cms/itcms")


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cluster(tmp_path, monkeypatch)


def readable(manifest: dict[str, Any]) -> str:
    """With one word for versions and for what is random."""
    text = json.dumps(manifest, indent=1, sort_keys=True)
    text = re.sub(r'(jupyter-[a-z0-9-]+)-[0-9a-f]{6}"', r'\1-RANDOM"', text)
    return re.sub(r'(-version": )"[^"]+"', r'\1"VERSION"', text) + "\n"


@pytest.mark.parametrize(
    "name, groups, choice, traits",
    [
        pytest.param("plain", ("/cms",), {}, {}, id="what everybody gets"),
        pytest.param("all", ANALYST, {"image": "analysis", "size": "gpu"}, {"welcome": "W.ipynb"}, id="all there is"),
        pytest.param(
            "settings",
            ("/cms",),
            {},
            {
                "environment": {"WHO": "{username}", "AT": "$(HOME)/x"},
                "volumes": {"extra": {"name": "extra", "emptyDir": {}}},
                "volume_mounts": {"extra": {"name": "extra", "mountPath": "/extra"}},
                "home_volume": {"nfs": {"server": "nfs.test", "path": "/homes"}},
                "home_sub_path": "{username}",
                "guaranteed_share": 0.25,
                "pod_security_context": {"supplementalGroupsPolicy": "Strict"},
                "extra_pod_config": {"hostAliases": [{"ip": "10.88.0.1", "hostnames": ["facility"]}]},
            },
            id="the administrator's settings",
        ),
    ],
)
async def test_the_whole_pod(
    name: str,
    groups: tuple[str, ...],
    choice: dict[str, str],
    traits: dict[str, Any],
    tmp_path: Path,
    golden: Golden,
) -> None:
    if "welcome" in traits:
        (tmp_path / "W.ipynb").write_text("{}")
        traits = {**traits, "welcome": str(tmp_path / "W.ipynb")}
    found = readable(await manifest_of(spawner_of(*groups, **traits), choice))
    golden(f"pod-{name}.json", found)


async def test_no_secret_stands_in_a_pod() -> None:
    text = json.dumps(await manifest_of(spawner_of(*ANALYST, api_token="hub-token-0123456789")))
    assert "hub-token-0123456789" not in text and "JPY_API_TOKEN" not in text


async def test_the_agent_is_told_what_the_session_is(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    (tmp_path / "Welcome.ipynb").write_text('{"cells": []}')
    policy = policy_with(str(tmp_path / "ca.pem"))
    spawner = spawner_of(*ANALYST, policy=policy, welcome=str(tmp_path / "Welcome.ipynb"))
    await manifest_of(spawner)
    told = spawner._agent_config
    assert told and (told["pool"], told["signpost_port"], told["home"]) == ("p", 18094, "/home/ada")
    assert told["files"]["pool-ca.pem"].startswith("-----BEGIN"), "no path of the hub's machine"
    assert told["home_files"] == {"Welcome.ipynb": '{"cells": []}'}
    assert json.loads(json.dumps(told))


@pytest.mark.parametrize(
    "uid, gid, user",
    [
        pytest.param(1234, None, PodUser(1234, 100), id="a number"),
        pytest.param(1234, 4321, PodUser(1234, 4321), id="numbers"),
        pytest.param(None, None, PodUser(1000, 100), id="root or a name"),
        pytest.param(0, 4242, PodUser(1000, 4242), id="root with a group"),
    ],
)
def test_user_of_an_image(uid: int | None, gid: int | None, user: PodUser) -> None:
    assert user_of(uid, gid) == user
    assert user.context["runAsNonRoot"] and user.context["fsGroup"] == 100, (
        "a shared volume would go to the image's group"
    )


async def test_the_link_of_a_dashboard_is_for_a_browser() -> None:
    spawner = spawner_of(
        *ANALYST, controller_url="http://controller:8500/x/", public_hub_url="https://hub.test/jh/hub/"
    )
    env = {one["name"]: one.get("value") for one in (await manifest_of(spawner))["spec"]["containers"][0]["env"]}
    assert env["AF_CONTROLLER_URL"] == "http://controller:8500/x/"
    assert env["DASK_DISTRIBUTED__DASHBOARD__LINK"] == "https://hub.test/jh/services/af-controller/"


async def test_the_agent_takes_no_module_from_a_home() -> None:
    agent = (await manifest_of(spawner_of(*ANALYST, username="af")))["spec"]["initContainers"][0]
    assert agent["command"][:2] == ["python3", "-P"] and agent["workingDir"] == "/"


async def test_homes_of_two_people_never_meet() -> None:
    """The first two names get the same slug of KubeSpawner 7.1.0; the others are what the escaped form of one looks like."""
    names = [
        "anna_.._.._._-._.-rossi",
        "anna__..__.-._-_rossi",
        "anna.rossi",
        "anna-2erossi",
        "-anna-2erossi",
        "Anna",
        "anna",
    ]
    assert len({spawner_of(*ANALYST, username=name).pvc_name for name in names}) == len(names)
    assert spawner_of(*ANALYST, username="cms-analyst", server="two").pvc_name == "home-cms-analyst"
    assert spawner_of(*ANALYST, username="anna.rossi").pvc_name.startswith("home--anna-rossi-")


async def test_pods_of_two_people_never_meet() -> None:
    """The first two names get the same slug of KubeSpawner 7.1.0; the others are what could be taken for one another."""
    owners = [
        ("anna_.._.._._-._.-rossi", ""),
        ("anna__..__.-._-_rossi", ""),
        ("anna", "rossi"),
        ("anna--rossi", ""),
        ("anna-", "-rossi"),
        ("anna", "--rossi"),
        ("anna-rossi", ""),
        ("anna.rossi", ""),
        ("a" * 70, ""),
        ("a" * 50, "a" * 20),
    ]
    spawners = [spawner_of(*ANALYST, username=username, server=server) for username, server in owners]
    assert len({spawner.pod_name for spawner in spawners}) == len(owners)
    assert [spawners[2].pod_name, spawners[6].pod_name] == ["jupyter-anna--rossi", "jupyter-anna-rossi"]
    assert spawners[7].pod_name.startswith("jupyter--anna-rossi-")


NAMES = st.text(st.sampled_from("ab1-._A\xe9"), max_size=70)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=2, unique=True))
def test_names_are_labels_and_different(owners: list[tuple[str, str]]) -> None:
    pods = [pod_name(*owner) for owner in owners]
    claims = [claim_name(username) for username, _ in owners]
    assert len(set(pods)) == 2 and len(set(claims)) == len({username for username, _ in owners})
    for name in pods + claims:
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,61}[a-z0-9]", name), name


@given(st.text())
def test_kubernetes_reads_a_literal_value_as_it_is(value: str) -> None:
    """``k8s.io/kubernetes/third_party/forked/golang/expansion``: ``$$`` is ``$``, ``$(NAME)`` another variable."""
    told = literal(value)
    assert told.replace("$$", "") == re.sub(r"\$", "", value)
    assert re.sub(r"\$\$", "$", told) == value


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80)


@given(NAMES)
def test_a_home_has_a_plain_path(username: str) -> None:
    assert re.fullmatch(r"[a-z0-9._-]{1,63}", safe_name(username)) and safe_name(username) not in (".", "..")


@pytest.mark.parametrize(
    "username",
    [
        pytest.param("ada", id="plain"),
        pytest.param("Ada Lovelace", id="blank and capitals"),
        pytest.param("ada@iam.example.org", id="mail"),
        pytest.param("../../etc", id="path"),
        pytest.param("{userid}", id="a template"),
        pytest.param("$(JUPYTERHUB_API_TOKEN)", id="a variable"),
        pytest.param("ädä-" * 30, id="long and not ASCII"),
        pytest.param("-", id="a dash"),
    ],
)
@pytest.mark.parametrize("server", ["", "second", "with-a-rather-long-name-of-30c"])
async def test_names_are_names_of_kubernetes(username: str, server: str) -> None:
    spawner = spawner_of("/cms", username=username, server=server)
    manifest = await manifest_of(spawner)
    label = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
    assert re.fullmatch(label, manifest["metadata"]["name"])
    (container,), (agent,) = manifest["spec"]["containers"], manifest["spec"]["initContainers"]
    secrets = {volume["secret"]["secretName"] for volume in manifest["spec"]["volumes"] if "secret" in volume}
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,80}[a-z0-9])?", secret) for secret in secrets)
    assert len({json.dumps(one) for one in container["volumeMounts"]}) == len(container["volumeMounts"])
    claims = [one["persistentVolumeClaim"]["claimName"] for one in manifest["spec"]["volumes"] if one["name"] == "home"]
    assert re.fullmatch(label, claims[0])
    values = {one["name"]: one.get("value", "") for one in container["env"]}
    assert values["USER"].replace("$$", "$") == username and "$(JUPYTERHUB" not in re.sub(
        r"\$\$", "", json.dumps(values)
    )
    assert agent["name"] == "agent"


async def test_named_servers_share_a_home_and_nothing_else() -> None:
    first, second = spawner_of("/cms"), spawner_of("/cms", server="second")
    one, two = await manifest_of(first), await manifest_of(second)
    assert one["metadata"]["name"] != two["metadata"]["name"]
    assert first._session and second._session and first._session.secret != second._session.secret
    assert [v for v in one["spec"]["volumes"] if v["name"] == "home"] == [
        v for v in two["spec"]["volumes"] if v["name"] == "home"
    ]


async def test_each_start_has_another_secret() -> None:
    """One that Kubernetes has not swept up yet holds tokens that are over."""
    spawner = spawner_of("/cms")
    names = set()
    for _ in range(3):
        await manifest_of(spawner)
        assert spawner._session
        names.add(spawner._session.secret)
    assert len(names) == 3


async def test_profiles_are_refused_with_the_way_out() -> None:
    with pytest.raises(TraitError, match=r"profile_list.*facility\.yaml"):
        spawner_of("/cms", profile_list=[{"display_name": "x", "default": True}])


@pytest.mark.parametrize(
    "groups, choice, reason",
    [
        pytest.param(("/cms",), {"image": "analysis"}, "image", id="image of others"),
        pytest.param(("/cms",), {"image": "evil.test/x:1"}, "image-not-allowed", id="free image"),
        pytest.param(("/cms",), {"image": "registry.af-hub.test/cms/x:1\n"}, "image-name", id="newline behind it"),
        pytest.param(("/cms",), {"image--unlisted-choice": "evil.test/x:1"}, "form", id="KubeSpawner's hole"),
        pytest.param(("/cms",), {"profile": "x", "image": "base"}, "form", id="a profile"),
        pytest.param(("/cms",), {"image": ["base"]}, "form", id="a list"),
        pytest.param(("/cms",), {"size": {"$ne": ""}}, "form", id="an object"),
        pytest.param(("/guests",), {}, "rights", id="left the groups since"),
    ],
)
async def test_what_the_policy_does_not_give_makes_no_pod(
    groups: tuple[str, ...], choice: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SpawnException) as refusal:
        await manifest_of(spawner_of(*groups), choice)
    assert refusal.value.reason == reason


async def test_an_image_of_ones_own_is_started_by_its_full_name() -> None:
    manifest = await manifest_of(spawner_of("/cms"), {"image": "registry.af-hub.test/cms/x"})
    assert manifest["spec"]["containers"][0]["image"] == "registry.af-hub.test/cms/x:latest"


@pytest.mark.parametrize(
    "image",
    [pytest.param("evil.test/x:1", id="another"), pytest.param("af-hub.test/python-base:1\n", id="with a newline")],
)
async def test_a_hook_cannot_change_the_image(image: str) -> None:
    spawner = spawner_of("/cms")
    await manifest_of(spawner)
    pod: V1Pod = await spawner.get_pod_manifest()
    pod.spec.containers[0].image = image
    with pytest.raises(SpawnException) as refusal:
        await spawner._make_create_pod_request(pod, 1)
    assert refusal.value.reason == "image"


async def test_saved_options_that_the_policy_has_withdrawn() -> None:
    spawner = spawner_of(*ANALYST)
    await manifest_of(spawner, {"image": "analysis", "size": "gpu"})
    spawner.authenticator = KnownPerson(policy_with(), "ada", ("/cms",))
    with pytest.raises(SpawnException) as refusal:
        await spawner.load_user_options()
    assert refusal.value.reason == "image"


async def test_a_link_never_chooses() -> None:
    with pytest.raises(SpawnException) as refusal:
        spawner_of("/cms").options_from_query({"image": ["base"]})
    assert refusal.value.reason == "link"


@pytest.mark.parametrize(
    "traits, choice, words",
    [
        pytest.param({"agent_image": ""}, {}, "AFSpawner.agent_image", id="no agent"),
        pytest.param({}, {"image": "nowhere"}, "`container`", id="image without a container"),
    ],
)
async def test_what_the_facility_forgot_is_named(traits: dict[str, Any], choice: dict[str, str], words: str) -> None:
    policy = policy_with()
    rules = [rule.model_copy(update={"images": ["base", "nowhere"]}) for rule in policy.rules]
    spawner = spawner_of("/cms", policy=policy.model_copy(update={"rules": rules}), **traits)
    with pytest.raises(SpawnException) as refusal:
        await manifest_of(spawner, choice)
    assert refusal.value.reason == "facility" and words in refusal.value.message
