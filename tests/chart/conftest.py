import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from af_hub.errors import Unavailable
from af_hub.testing.kube_build import HELM_PROGRAM, build
from af_hub.testing.places import CONFIGURATION
from af_hub.testing.require import unavailable

CHART = CONFIGURATION / "kubernetes"
LEAST = CHART / "ci" / "values.yaml"
KUBERNETES = "1.34.4"

Manifests = dict[tuple[str, str], dict[str, Any]]
Render = Callable[..., Manifests]


@pytest.fixture(scope="session")
def helm() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """``helm(*arguments)``: what it said, whatever its exit status."""
    try:
        program = build(HELM_PROGRAM) / "helm"
    except Unavailable as error:
        unavailable(str(error))

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture(scope="session")
def template(
    helm: Callable[..., "subprocess.CompletedProcess[str]"],
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """``template(values)``: what ``helm template`` says with these values over the least ones."""

    def run(values: dict[str, Any] | None = None, version: str = KUBERNETES) -> "subprocess.CompletedProcess[str]":
        given = ["--set-json", *[f"{name}={json.dumps(value)}" for name, value in (values or {}).items()]]
        more = [part for one in given[1:] for part in ("--set-json", one)]
        return helm(
            "template", "af-hub", CHART, "--namespace", "af-hub", "--kube-version", version, "--values", LEAST, *more
        )

    return run


@pytest.fixture(scope="session")
def render(template: Callable[..., "subprocess.CompletedProcess[str]"]) -> Render:
    """``render(values)``: the manifests by kind and name."""

    known: dict[str, Manifests] = {}

    def manifests(values: dict[str, Any] | None = None, version: str = KUBERNETES) -> Manifests:
        asked = json.dumps([values or {}, version])
        if asked not in known:
            known[asked] = rendered(values, version)
        return copy.deepcopy(known[asked])

    def rendered(values: dict[str, Any] | None, version: str) -> Manifests:
        done = template(values, version)
        assert done.returncode == 0, done.stderr
        found = [one for one in yaml.safe_load_all(done.stdout) if one]
        assert len({(one["kind"], one["metadata"]["name"]) for one in found}) == len(found), "two of one name"
        return {(one["kind"], one["metadata"]["name"]): one for one in found}

    return manifests
