"""What a wheel brings to whoever installs it: the testing extra works without this checkout, and without what it does not ask for."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distributions, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "docs" / "examples" / "another-hub"

# What the fixtures iam and iam_user load, and what the tests of another hub import; nothing that is forbidden can be imported.
LOADED = "plugin", "iam", "iam_command", "iam_oauth", "browser", "process", "hub", "other_hub", "require"
LOAD = f"""
import json, sys

class Forbidding:
    names = set(json.loads(sys.argv[1]))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"the testing extra does not bring {{name}}")

sys.meta_path.insert(0, Forbidding())
import {", ".join(f"af_hub.testing.{name}" for name in LOADED)}
print(af_hub.testing.iam.__file__)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, made without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python environment with the wheel in it, which sees all packages of this one but the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # A folder that a .pth file names is searched, but the .pth files in it are not read: the editable install is not seen.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def asked_for(extra: str, packages: Path) -> set[str]:
    """The distributions that this extra of ours brings, with what those need in turn."""
    ours = next(found for found in distributions(path=[str(packages)]) if found.name == "af_hub")
    found: set[str] = set()
    queue, seen = [f"af_hub[{extra}]"], set()
    while queue:
        wanted = Requirement(queue.pop())
        for one in sorted(wanted.extras) or [""]:
            name = canonicalize_name(wanted.name)
            if (name, one) in seen:
                continue
            seen.add((name, one))
            found.add(name)
            needs = ours.requires if name == "af-hub" else requires(name)
            for need in map(Requirement, needs or []):
                if need.marker is None or need.marker.evaluate({"extra": one}):
                    queue.append(str(need))
    return found


def test_wheel_brings_the_configuration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "jupyterhub_config.py",
        "facility.yaml",
        "condor/access-point.conf",
        "xrootd/origin.cfg",
        "templates/page.html",
        "kubernetes/Chart.yaml",
        "kubernetes/files/templates/page.html",
    ):
        assert f"af_hub/hub_config/{name}" in names
    assert "af_hub/demo/users.yaml" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


@pytest.mark.slow
def test_testing_extra_asks_for_all_that_it_loads(elsewhere: Path) -> None:
    packages = next((elsewhere.parents[1] / "lib").glob("*/site-packages"))
    brought = asked_for("testing", packages)
    forbidden = [
        module
        for module, dists in packages_distributions().items()
        if not {canonicalize_name(dist) for dist in dists} & brought and module != "af_hub"
    ]
    assert "jupyterhub" in forbidden and "aiohttp" not in forbidden
    argv = [elsewhere, "-P", "-c", LOAD, json.dumps(forbidden)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(packages)), "from the wheel, not from here"


@pytest.mark.real
@pytest.mark.parametrize(
    "file",
    [
        "test_login.py",
        pytest.param("test_af_hub.py", marks=pytest.mark.long),
        pytest.param("test_pool.py", marks=pytest.mark.long),
    ],
)
def test_example_of_another_hub(elsewhere: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "another-hub")
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environ.pop("PYTEST_ADDOPTS", None)
    argv = [elsewhere, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", file]
    done = subprocess.run(argv, cwd=tmp_path / "another-hub", env=environ, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout or "skipped" in done.stdout
