"""The hub's files as its pod has them are read by JupyterHub's own reader, and say what the values say."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Manifests, Render
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

pytestmark = pytest.mark.real

VALUES = {
    "hub.config": {
        "AFSpawner": {"start_timeout": 300, "namespace": "elsewhere"},
        "JupyterHub": {"active_server_limit": 50},
    },
    "hub.extraConfig": "c.JupyterHub.concurrent_spawn_limit = 7\n",
    "facility.environment.AF_IAM_DISCOVERY": "https://iam.example.org/.well-known/openid-configuration",
}


def laid_out(manifests: Manifests, folder: Path) -> dict[str, str]:
    """The pod's files in a folder, and its environment with that folder in the place of the pod's root."""
    pod = manifests["Deployment", "hub"]["spec"]["template"]["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    for mount in pod["containers"][0]["volumeMounts"]:
        place = folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        if found := volumes[mount["name"]].get("configMap"):
            data = manifests["ConfigMap", found["name"]]["data"]
            for item in found.get("items") or [{"key": key, "path": key} for key in data]:
                (place / item["path"]).parent.mkdir(exist_ok=True)
                (place / item["path"]).write_text(data[item["key"]])
    private = folder / "run/af-hub"
    for path in pod["initContainers"][0]["command"][3:]:
        (private / Path(path).name).write_text("0" * 64)
        (private / Path(path).name).chmod(0o600)
    told = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    return {
        name: f"{folder}{value}" if value.startswith(("/etc/", "/run/", "/var/")) else value
        for name, value in told.items()
    }


@pytest.fixture
def config(render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    environ = laid_out(render(VALUES), tmp_path)
    for name in [name for name in os.environ if name.startswith("AF_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return PyFileConfigLoader(str(tmp_path / "etc/af-hub/hub/jupyterhub_config.py")).load_config()


def test_the_hub_of_a_pod(config: Config, tmp_path: Path) -> None:
    hub: Any = config.JupyterHub
    assert hub.hub_bind_url == "http://0.0.0.0:8081" and hub.hub_connect_url == "http://hub.af-hub.svc:8081"
    assert hub.proxy_class == "traefik_redis" and hub.spawner_class == "af_hub.spawner.AFSpawner"
    assert config.TraefikRedisProxy.redis_url == "redis://routes.af-hub.svc:6379"
    assert config.TraefikRedisProxy.redis_password == "0" * 64
    assert config.TraefikProxy.traefik_api_entrypoint == "hubapi" and config.TraefikProxy.should_start is False
    assert set(config.TraefikProxy.extra_dynamic_config["http"]["routers"]) == {"af-controller", "af-ready"}
    assert Path(hub.template_paths[0], "page.html").exists()
    assert (tmp_path / "var/lib/af-hub/state").stat().st_mode & 0o777 == 0o700


def test_values_have_the_last_word(config: Config) -> None:
    assert config.AFSpawner == {"namespace": "elsewhere", "agent_image": "af-hub.test/agent:1", "start_timeout": 300}
    assert config.JupyterHub.active_server_limit == 50 and config.JupyterHub.concurrent_spawn_limit == 7
    assert config.ChoosingSpawner.controller_url == "http://controller.af-hub.svc:8500/services/af-controller/"
