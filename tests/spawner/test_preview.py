"""``af-hub session``: what a session would get, and how one that runs differs; the API is a server that only shows a pod."""

import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from spawners import POLICY, manifest_of, spawner_of, use_cluster

from af_hub.cli import main
from af_hub.errors import Unavailable
from af_hub.spawning.difference import differences
from af_hub.spawning.preview import Preview, against_running, find_class, read_config

USERS = """
- {username: ada, subject: "1", name: Ada, email: a@x, about: x, groups: [/cms, /cms/itcms]}
- {username: guest, subject: "2", name: Guest, email: g@x, about: x, groups: [/guests]}
"""


def added_by_the_api(pod: dict[str, Any]) -> dict[str, Any]:
    """What a running pod has more than the one that was asked for (Kubernetes 1.34)."""
    runs = copy.deepcopy(pod)
    runs["metadata"] |= {"uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-11-21T12:00:00Z"}
    runs["status"] = {"phase": "Running"}
    spec = runs["spec"]
    spec |= {
        "nodeName": "node1",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "preemptionPolicy": "x",
    }
    spec.setdefault("tolerations", []).append({"key": "node.kubernetes.io/not-ready", "operator": "Exists"})
    for container in [*spec["containers"], *spec["initContainers"]]:
        container["terminationMessagePath"] = "/dev/termination-log"
        for amounts in (container["resources"].get("limits", {}), container["resources"].get("requests", {})):
            for name, amount in amounts.items():
                amounts[name] = {"4.0": "4", "8589934592": "8Gi", "1.0": "1"}.get(str(amount), str(amount))
    return runs


@pytest.fixture
async def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    use_cluster(tmp_path, monkeypatch)
    return await manifest_of(spawner_of("/cms", "/cms/itcms"), {"image": "analysis", "size": "gpu"})


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def test_what_the_api_adds_is_no_difference(pod: dict[str, Any]) -> None:
    assert differences(pod, added_by_the_api(pod)) == []


def test_another_secret_is_no_difference(pod: dict[str, Any]) -> None:
    runs = json.loads(json.dumps(pod).replace(pod["spec"]["volumes"][1]["secret"]["secretName"], "jupyter-ada-ffffff"))
    assert differences(pod, runs) == []


def change_image(runs: dict[str, Any]) -> None:
    container_of(runs)["image"] = "af-hub.test/python-base:1"


def change_variable(runs: dict[str, Any]) -> None:
    next(one for one in container_of(runs)["env"] if one["name"] == "AF_SITES")["value"] = "T2_B"


def add_variable(runs: dict[str, Any]) -> None:
    container_of(runs)["env"].append({"name": "EXTRA", "value": "1"})


def lose_volume(runs: dict[str, Any]) -> None:
    runs["spec"]["volumes"] = [one for one in runs["spec"]["volumes"] if one["name"] != "cvmfs"]


def change_memory(runs: dict[str, Any]) -> None:
    container_of(runs)["resources"]["limits"]["memory"] = "4Gi"


def lose_toleration(runs: dict[str, Any]) -> None:
    runs["spec"]["tolerations"] = runs["spec"]["tolerations"][1:]


def add_container(runs: dict[str, Any]) -> None:
    runs["spec"]["containers"].append({"name": "other"})


@pytest.mark.parametrize(
    "change, line",
    [
        pytest.param(
            change_image,
            "spec.containers[notebook].image: runs af-hub.test/python-base:1, would be af-hub.test/python-analysis:1",
            id="image",
        ),
        pytest.param(
            change_variable, "spec.containers[notebook].env[AF_SITES].value: runs T2_B, would be T2_A", id="value"
        ),
        pytest.param(add_variable, "spec.containers[notebook].env[EXTRA]: runs there, would be nothing", id="variable"),
        pytest.param(lose_volume, "spec.volumes[cvmfs]: runs nothing, would be there", id="volume"),
        pytest.param(
            change_memory,
            "spec.containers[notebook].resources.limits.memory: runs 4Gi, would be 8589934592",
            id="memory",
        ),
        pytest.param(lose_toleration, "spec.tolerations: runs ", id="toleration"),
        pytest.param(add_container, "spec.containers[other]: runs there, would be nothing", id="container"),
    ],
)
def test_a_difference_is_a_line(pod: dict[str, Any], change: Any, line: str) -> None:
    runs = added_by_the_api(pod)
    change(runs)
    (found,) = differences(pod, runs)
    assert found.startswith(line)


@pytest.fixture
async def api(pod: dict[str, Any]) -> AsyncIterator[TestServer]:
    """Shows one pod, and refuses the rest as the API does."""

    async def show(request: web.Request) -> web.Response:
        if request.path.endswith("/namespaces/af-sessions/pods"):
            wanted = request.query["fieldSelector"].removeprefix("metadata.name=")
            return web.json_response({"items": [added_by_the_api(pod)] if wanted == "jupyter-ada" else []})
        return web.json_response({"message": 'pods "x" is forbidden'}, status=403)

    app = web.Application()
    app.router.add_get("/{tail:.*}", show)
    async with TestServer(app) as server:
        yield server


async def test_the_running_pod_is_asked_for(
    api: TestServer, pod: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cluster(tmp_path, monkeypatch, str(api.make_url("")))
    spawner = spawner_of("/cms", "/cms/itcms")
    assert await against_running(spawner, Preview({"Pod": pod})) == []
    pod["metadata"]["name"] = "jupyter-eve"
    with pytest.raises(Unavailable, match="there is no pod af-sessions/jupyter-eve: this session does not run"):
        await against_running(spawner, Preview({"Pod": pod}))
    spawner.namespace = "other"
    with pytest.raises(Unavailable, match=r"other/jupyter-eve.*forbidden"):
        await against_running(spawner, Preview({"Pod": pod}))
    with pytest.raises(Unavailable, match="not pods"):
        await against_running(spawner, Preview())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``af-hub session`` with the policy of these tests."""
    use_cluster(tmp_path, monkeypatch)
    (tmp_path / "facility.yaml").write_text(POLICY)
    (tmp_path / "users.yaml").write_text(USERS)
    monkeypatch.setenv("CA", str(tmp_path / "no-ca.pem"))
    monkeypatch.setenv("AF_AGENT_IMAGE", "af-hub.test/agent:1")
    monkeypatch.setenv("AF_SPAWNER", "af_hub.spawner.AFSpawner")
    files = ["--facility", str(tmp_path / "facility.yaml"), "--users", str(tmp_path / "users.yaml")]
    files += ["--database", str(tmp_path / "none.sqlite")]
    return lambda *argv: CliRunner().invoke(main, ["session", *files, *argv])


def test_pod_secret_claim_and_files_are_printed(run: Any) -> None:
    done = run("--user", "ada", "--image", "analysis", "--size", "gpu", "--named", "two")
    assert done.exit_code == 0, done.output
    pod, secret, claim, *files = done.stdout.split("---\n")
    manifest = yaml.safe_load(pod)
    assert manifest["metadata"]["name"] == "jupyter-ada--two"
    assert {"name": "AF_SITES", "value": "T2_A"} in manifest["spec"]["containers"][0]["env"]
    assert yaml.safe_load(secret)["stringData"]["hub-token"] == "(the server's hub token)"
    assert yaml.safe_load(claim)["metadata"]["name"] == "home-ada"
    assert [file.splitlines()[0] for file in files] == ["# /run/af/xrd.d/50-af-cache.conf"]


@pytest.mark.parametrize(
    "argv, words",
    [
        pytest.param(("--user", "guest"), "none of the groups", id="may not log in"),
        pytest.param(("--user", "ada", "--image", "evil.test/x:1"), "not one of those that you may type", id="image"),
        pytest.param(("--user", "nobody"), "nothing is known of 'nobody'", id="stranger"),
    ],
)
def test_what_cannot_be_says_why(run: Any, argv: tuple[str, ...], words: str) -> None:
    done = run(*argv)
    assert done.exit_code == 1 and words in done.output and "Traceback" not in done.output


def test_where_no_cluster_is_known_a_sentence_says_what_to_do(run: Any, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").unlink()
    done = run("--user", "ada")
    assert done.exit_code == 1 and "Run this in the hub's pod" in done.output and "Traceback" not in done.output


def test_environment_where_sessions_are_processes(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF_SPAWNER", "af_hub.spawner.LocalAFSpawner")
    programs = tmp_path / "image" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "jupyterhub-singleuser"):
        (programs / name).write_text("")
        (programs / name).chmod(0o755)
    text = POLICY.replace(
        'base: {title: Python, container: "', f'base: {{title: Python, environment: {programs.parent}, container: "'
    )
    (tmp_path / "facility.yaml").write_text(text)
    done = run("--user", "ada", "--image", "base")
    assert done.exit_code == 0, done.output
    assert "JUPYTERHUB_API_TOKEN=(the server's hub token)\n" in done.stdout and "BEARER_TOKEN_FILE=" in done.stdout


def test_the_configuration_of_the_hub_counts(run: Any, tmp_path: Path) -> None:
    config = tmp_path / "jupyterhub_config.py"
    config.write_text(
        "c.JupyterHub.spawner_class = 'af_hub.spawner.AFSpawner'\nc.AFSpawner.namespace = 'elsewhere'\n"
        "c.ChoosingSpawner.controller_url = 'https://hub.test/c/'\nc.AFSpawner.guaranteed_share = 0.5\n"
    )
    done = run("--user", "ada", "--config", str(config))
    assert done.exit_code == 0, done.output
    container = yaml.safe_load(done.stdout.split("---\n")[0])["spec"]["containers"][0]
    assert {"name": "AF_CONTROLLER_URL", "value": "https://hub.test/c/"} in container["env"]
    assert container["resources"]["requests"]["cpu"] == 0.5


def test_a_configuration_that_cannot_be_read_here(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("import os\nos.environ['NOT_HERE']\n")
    with pytest.raises(Unavailable, match=r"NOT_HERE.*where the hub runs"):
        read_config(tmp_path / "config.py")


def test_other_spawners_are_none_of_ours() -> None:
    with pytest.raises(Unavailable, match=r"wanted af_hub\.spawner\.AFSpawner"):
        find_class(read_config(None), "jupyterhub.spawner.SimpleLocalProcessSpawner")
