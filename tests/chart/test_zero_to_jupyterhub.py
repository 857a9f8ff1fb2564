"""The values of the page about Zero to JupyterHub, read as that chart reads them, by our classes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyterhub.app import JupyterHub
from kubespawner.clients import load_config
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from af_hub.spawner import AFSpawner
from af_hub.spawning import verbs
from af_hub.testing.places import CHECKOUT

KUBECONFIG = """
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: nobody}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""
EXAMPLES = CHECKOUT / "docs" / "examples" / "zero-to-jupyterhub"


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return yaml.safe_load((EXAMPLES / "values.yaml").read_text())


@pytest.fixture(scope="module")
def config(values: dict[str, Any]) -> Config:
    """As the chart's own ``jupyterhub_config.py``: its settings of KubeSpawner, then ``hub.config``, then ``hub.extraConfig`` in order."""
    c = Config()
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.KubeSpawner.profile_list = [{"display_name": "an older profile"}]
    c.KubeSpawner.storage_capacity = values["singleuser"]["storage"]["capacity"]
    for name, traits in values["hub"]["config"].items():
        c[name].update(traits)
    for _, text in sorted(values["hub"]["extraConfig"].items()):
        exec(compile(text, "extraConfig", "exec"), {"c": c})
    return c


def test_each_trait_is_one_and_takes_its_value(config: Config) -> None:
    classes = {"JupyterHub": JupyterHub, "KubeSpawner": AFSpawner, "AFSpawner": AFSpawner}
    classes["IAMAuthenticator"] = import_item(config.JupyterHub.authenticator_class)
    assert set(config) == set(classes)
    for section, found in classes.items():
        traits = found.class_traits(config=True)
        for name, value in config[section].items():
            assert name in traits, f"{section}.{name}"
            if name not in ("authenticator_class", "spawner_class"):
                traits[name]._validate(found.__new__(found), value)


async def test_the_spawner_is_ours_and_takes_the_charts_settings(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    monkeypatch.setattr(
        "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
    )
    load_config.cache_clear()
    assert import_item(config.JupyterHub.spawner_class) is AFSpawner
    spawner = AFSpawner(config=config, _mock=True)
    assert spawner.agent_image == "registry.example.org/af-hub/agent:1" and spawner.storage_capacity == "10Gi"
    assert spawner.profile_list == []


def test_the_role_has_what_the_charts_own_lacks() -> None:
    role, binding = yaml.safe_load_all((EXAMPLES / "role.yaml").read_text())
    given = {(verb, one) for rule in role["rules"] for one in rule["resources"] for verb in rule["verbs"]}
    # Zero to JupyterHub 4.3, templates/hub/rbac.yaml: pods and claims with get, watch, list, create, delete; events with get, watch, list.
    given |= {
        (verb, one)
        for one in ("pods", "persistentvolumeclaims")
        for verb in ("get", "watch", "list", "create", "delete")
    }
    given |= {(verb, "events") for verb in ("get", "watch", "list")}
    assert {(one.verb, one.resource) for one in verbs.wanted(events=True, homes=True)} <= given
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hub"}]


def test_the_page_shows_these_very_values() -> None:
    page = (CHECKOUT / "docs" / "how-to" / "zero-to-jupyterhub.md").read_text()
    assert "{literalinclude} ../examples/zero-to-jupyterhub/values.yaml" in page
    assert Path(EXAMPLES / "values.yaml").exists()
