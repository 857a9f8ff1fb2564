"""What a machine lacks is said before anything is fetched, all of it, with what to change."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from af_hub.demo import machine
from af_hub.demo.kube import why_unlike
from af_hub.demo.machine import Wishes, lacks, space
from af_hub.testing.debian import MARKER
from af_hub.testing.kube_build import why_no_go
from af_hub.testing.network import AS_USER
from af_hub.testing.require import unavailable

CHECKOUT = Path(__file__).parents[2]
MIRROR = {"AF_DEBIAN_MIRROR": "http://mirror.example/debian"}


@pytest.fixture
def wishes(tmp_path):
    """A new checkout on a machine with programs, keyring and archive."""
    return Wishes(tmp_path / "checkout", {"XDG_CACHE_HOME": str(tmp_path / "cache"), **MIRROR}, tmp_path / "etc")


def test_the_module_needs_the_standard_library_only(tmp_path):
    argv = [sys.executable, "-S", "-c", "import af_hub.demo.machine"]
    assert subprocess.run(argv, cwd=CHECKOUT, env={}, timeout=30).returncode == 0


def test_a_folder_that_cannot_be_written_is_named_with_what_to_change(tmp_path):
    (tmp_path / "file").write_text("")
    wishes = Wishes(tmp_path, {"XDG_CACHE_HOME": str(tmp_path / "file"), **MIRROR})

    found = [sentence for sentence in lacks(wishes) if "cannot be written" in sentence]
    assert found == [
        f"{tmp_path}/file/af-hub cannot be written (Not a directory), and a folder that can is wanted: "
        "set XDG_CACHE_HOME to such a folder"
    ]


def test_all_that_is_missing_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine.debian, "KEYRINGS", (tmp_path / "keyring.gpg",))
    said = machine.debian_packages(Wishes(tmp_path, {}, tmp_path))

    assert "apt-get and dpkg-deb missing on this machine" in said
    assert "apt install debian-archive-keyring" in said
    assert "Set AF_DEBIAN_MIRROR" in said


def test_what_a_kubernetes_wants_is_asked_only_for_one(wishes, monkeypatch, tmp_path):
    monkeypatch.setattr(machine.kube_needs, "why_not", lambda: "")
    monkeypatch.setattr(machine.kube_needs, "is_built", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = [sentence for sentence in lacks(wishes, daemons=False, kube=True) if sentence not in lacks(wishes, False)]

    assert len(said) == 2
    assert re.match("Debian's buildah, .* missing: apt install --no-install-recommends buildah ", said[0])
    assert re.match("there is no program go; Go 1.24 or newer is wanted; ", said[1])


def test_a_go_that_is_too_old_is_told_with_its_version(monkeypatch, tmp_path):
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go1.19.8\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_no_go().startswith("go is 1.19; Go 1.24 or newer is wanted; ")


@pytest.mark.parametrize("ours, told", [((3, 13), False), ((3, 12), True)])
def test_a_pool_of_another_python_than_the_images_is_told(ours, told):
    said = why_unlike(ours, "3.13")
    assert bool(said) is told and (not told or "The sites run Python 3.12 here and the sessions' images 3.13:" in said)


@pytest.mark.slow
def test_demo_kube_without_root(tmp_path):
    argv = [sys.executable, "-m", "af_hub.cli", "demo-kube", "--port", "0", "--folder", str(tmp_path / "d")]
    done = subprocess.run([*AS_USER, *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: make demo-kube cannot run here: a real Kubernetes needs root: its nodes make network interfaces, mounts and containers\n"
    )
    assert not (tmp_path / "d").exists()


def test_nothing_is_asked_of_a_machine_that_has_everything(tmp_path):
    for name in (".venv", ".images", "cache/af-hub/xrootd-x", "cache/af-hub/condor-x"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("xrootd-x", "condor-x"):
        (tmp_path / "cache/af-hub" / name / MARKER).touch()
    (tmp_path / "cache").chmod(0o500)  # a home that is read-only now

    assert [*lacks(Wishes(tmp_path, {"XDG_CACHE_HOME": str(tmp_path / "cache")}, tmp_path / "no-apt"))] == []


def test_a_full_disk_is_told_before(wishes, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free", lambda place: 3)
    said = " ".join(space(wishes.missing()))

    assert said == (
        f"the disk of {tmp_path} has 3 MB free, 3300 MB are wanted: free some, or move the folder to another disk"
    )
    assert [*space({})] == []


def test_root_where_namespaces_are_forbidden(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    forbidding = tmp_path / "unshare"
    forbidding.write_text("#!/bin/sh\necho unshare failed: Operation not permitted >&2; exit 1\n")
    forbidding.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "Operation not permitted): run make as an ordinary user" in machine.user_namespace()


@pytest.mark.parametrize(
    "python, sentence",
    [
        pytest.param(
            '[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1',
            "is Python 3.9.2; AF Hub needs Python 3.11 or newer: make PYTHON=/path/to/python3.11",
            id="too old",
        ),
        pytest.param("exit 127", "is not there; AF Hub needs Python 3.11 or newer", id="none"),
        pytest.param(
            # Debian's Python without python3-venv has no ensurepip.
            f'PYTHONPATH="$(dirname "$0")" exec {sys.executable} "$@"',
            "has no module venv .*apt install python3-venv",
            id="without venv",
        ),
    ],
)
def test_make_refuses_a_python_that_will_not_do(tmp_path, python, sentence):
    if not (make := shutil.which("make")):
        unavailable("there is no make")
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ensurepip'] = None")
    folder = new_checkout(tmp_path / "checkout")
    done = subprocess.run(
        [make, ".venv/stamp", f"PYTHON={program}"], cwd=folder, capture_output=True, text=True, timeout=60
    )

    assert done.returncode != 0
    assert re.search(sentence, done.stderr), done.stderr
    assert not (folder / ".venv").exists()


def new_checkout(folder: Path) -> Path:
    """What ``make`` reads before anything is installed."""
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, folder)
    (folder / "af_hub").symlink_to(CHECKOUT / "af_hub")
    return folder
