import threading
from pathlib import Path

import pytest

from af_hub.errors import Unavailable
from af_hub.testing import debian
from af_hub.testing.require import unavailable

DEB822 = """\
Types: deb
# http://old.example/archive/debian/2025
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.mark.parametrize(
    "text, archive",
    [
        pytest.param(DEB822, "http://mirror.example/debian", id="deb822, comment and security passed over"),
        pytest.param("Types: deb-src\nURIs: http://a/debian\nSuites: sid\nComponents: main\n", None, id="sources only"),
        pytest.param(
            "Types: deb\nEnabled: no\nURIs: http://a/debian\nSuites: sid\nComponents: main\n", None, id="disabled"
        ),
        pytest.param("Types: deb\nURIs: http://a/node\nSuites: nodistro\nComponents: main\n", None, id="a vendor's"),
        pytest.param(
            "Types: deb\nURIs: http://a/x\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n"
            "\nTypes: deb\nURIs: http://b/debian/\nSuites: trixie\nComponents: main\n",
            "http://b/debian/",
            id="a vendor's with Debian's suite comes after Debian's",
        ),
    ],
)
def test_deb822_sources(text: str, archive: str | None) -> None:
    assert debian.choose_archive(debian.read_deb822(text)) == archive


@pytest.mark.parametrize(
    "text, archive",
    [
        pytest.param("deb http://a/debian trixie main contrib", "http://a/debian", id="plain"),
        pytest.param(
            "deb [arch=amd64 signed-by=/k.gpg] http://a/debian trixie main # x", "http://a/debian", id="options"
        ),
        pytest.param("# deb http://a/debian trixie main", None, id="comment"),
        pytest.param("deb-src http://a/debian trixie main", None, id="sources only"),
        pytest.param("deb http://a/ubuntu noble main", None, id="Ubuntu"),
        pytest.param("deb http://a/debian-security trixie-security main", None, id="security"),
        pytest.param("deb cdrom:[Debian] trixie main", None, id="a disc"),
        pytest.param("deb mirror+file:/etc/apt/m.list trixie main", "mirror+file:/etc/apt/m.list", id="cloud images"),
    ],
)
def test_one_line_sources(text: str, archive: str | None) -> None:
    assert debian.choose_archive(debian.read_deb_lines(text)) == archive


def test_setting_wins_and_absence_says_what_to_do(tmp_path: Path) -> None:
    assert debian.find_archive({"AF_DEBIAN_MIRROR": "http://near/debian"}, tmp_path) == "http://near/debian"
    with pytest.raises(Unavailable, match="AF_DEBIAN_MIRROR"):
        debian.find_archive({}, tmp_path)


def test_both_styles_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.sources.disabled").write_text(DEB822)
    (tmp_path / "sources.list.d/b.list").write_text("deb http://b/debian trixie main\n")
    assert debian.find_archive({}, tmp_path) == "http://b/debian"


def test_folder_is_whole_or_absent(tmp_path: Path) -> None:
    into = tmp_path / "tree"
    with pytest.raises(ZeroDivisionError), debian.whole_folder(into, "one") as building:
        assert building
        (building / "file").write_text("half")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [".tree.lock"]
    with debian.whole_folder(into, "one") as building:
        assert building
    with debian.whole_folder(into, "one") as building:
        assert building is None
    with debian.whole_folder(into, "another") as building:
        assert building


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / ".tree-half").mkdir()
    (tmp_path / ".other-half").mkdir()
    with debian.whole_folder(tmp_path / "tree", "one"):
        assert not (tmp_path / ".tree-half").exists()
    assert (tmp_path / ".other-half").exists()


def test_a_whole_folder_is_enough_where_nothing_can_be_written(tmp_path: Path) -> None:
    with debian.whole_folder(tmp_path / "tree", "one"):
        pass
    tmp_path.chmod(0o500)
    with debian.whole_folder(tmp_path / "tree", "one") as building:
        assert building is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"tree cannot be made \(File exists\).*set XDG_CACHE_HOME"):
        with debian.whole_folder(tmp_path / "file/tree", "one"):
            pass


@pytest.mark.parametrize(
    "output, sentence",
    [
        pytest.param(
            "E: Failed to fetch http://a/InRelease  Temporary failure resolving 'a'",
            r"apt-get reaches no Debian archive \(E: .*\)\. Is this machine online\?.*AF_DEBIAN_MIRROR",
            id="no network",
        ),
        pytest.param(
            "E: You don't have enough free space in /x/archives/.", "a disk got full .* free 500 MB, or set", id="full"
        ),
        pytest.param("E: something else", r"apt-get failed with status 100:\nE: something else", id="unknown"),
    ],
)
def test_what_apt_prints_becomes_a_sentence(output: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(debian.why_it_failed("apt-get", 100, output))


def test_second_asker_waits_and_gets_the_first_ones_folder(tmp_path: Path) -> None:
    told, waiting, answers = [], threading.Event(), []

    def progress(text: str) -> None:
        told.append(text)
        waiting.set()

    def second() -> None:
        with debian.whole_folder(tmp_path / "tree", "same", progress) as building:
            answers.append(building)

    thread = threading.Thread(target=second)
    with debian.whole_folder(tmp_path / "tree", "same"):
        thread.start()
        assert waiting.wait(10)
    thread.join(10)
    assert answers == [None] and "another process" in told[0]


def test_program_that_fails_or_hangs_is_named() -> None:
    with pytest.raises(Unavailable, match="ls failed with status 2"):
        debian.run(["ls", "/nowhere-at-all"], 10)
    with pytest.raises(Unavailable, match="sleep could not finish"):
        debian.run(["sleep", "60"], 0.05)


@pytest.mark.real
def test_packages_of_trixie_are_verified_and_unpacked(tmp_path: Path) -> None:
    try:
        debian.find_archive(), debian.find_keyring()
    except Unavailable as error:
        unavailable(str(error))
    tree = debian.fetch(["hostname"], "trixie", tmp_path / "tree")
    assert (tree / "usr/bin/hostname").exists() and (tree / debian.MARKER).exists()
