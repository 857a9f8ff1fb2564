"""Homes and session folders: names that cannot clash or escape, modes, lengths."""

import stat
from pathlib import Path

import pytest

from af_hub.session.folders import FolderUnusable, make_home, new_session_folder, safe_name, write_files


@pytest.mark.parametrize("name", ["ada", "cms-analyst", "a.b_c", "0"])
def test_plain_names_stay(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "a/b",
        "../a",
        "Ada",
        "ada\n",
        "a b",
        ".hidden",
        "-x",
        "a" * 64,
        "ada--0123456789ab",
        "ädä",
        "a\0b",
    ],
)
def test_other_names_are_made_safe(name: str) -> None:
    safe = safe_name(name)
    assert safe != name
    assert "/" not in safe and not safe.startswith(".") and len(safe) < 64
    assert safe_name(safe) != safe, "no plain name may look like one that was made"


def test_names_do_not_clash() -> None:
    names = ["ada/x", "ada-x", "ada--x", "Ada-x", "ada x", "ada\tx"]
    assert len({safe_name(name) for name in names}) == len(names)


def test_home_is_made_once_with_the_notebook(tmp_path: Path) -> None:
    welcome = tmp_path / "Welcome.ipynb"
    welcome.write_text("first")
    home = make_home(tmp_path / "home", "ada", welcome)
    assert (home / "Welcome.ipynb").read_text() == "first"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    (home / "Welcome.ipynb").unlink()
    assert make_home(tmp_path / "home", "ada", welcome) == home
    assert list(home.iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == [home]


def test_session_folder_is_private_and_new_each_time(tmp_path: Path) -> None:
    first, second = new_session_folder(tmp_path / "run"), new_session_folder(tmp_path / "run")
    assert first != second
    assert {stat.S_IMODE(path.stat().st_mode) for path in (first, second, tmp_path / "run")} == {0o700}


def test_too_long_a_folder_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match=r"LocalAFSpawner\.state_dir"):
        new_session_folder(tmp_path / ("x" * 100))


def test_files_are_private(tmp_path: Path) -> None:
    write_files(tmp_path, {"xrd.d/cache.conf": "url = x\n"})
    path = tmp_path / "xrd.d" / "cache.conf"
    assert path.read_text() == "url = x\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
