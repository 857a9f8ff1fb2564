import os
import stat
import time

import pytest

from af_hub.files import RestingFile, open_log, private_folder, stamp, write_private


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_what_is_private_is_so_whatever_the_umask(tmp_path):
    write_private(tmp_path / "key", b"secret")
    with open_log(tmp_path / "log") as log:
        log.write(b"one\n")
    private_folder(tmp_path / "deep" / "er")
    assert [mode(tmp_path / name) for name in ("key", "log", "deep/er")] == [0o600, 0o600, 0o700]


def test_a_file_is_replaced_and_not_written_into(tmp_path):
    path = write_private(tmp_path / "key", "one")
    path.chmod(0o644)
    with path.open() as reader:
        write_private(path, "two")
        assert reader.read() == "one"
    assert path.read_text() == "two" and mode(path) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "key").mkdir()
    with pytest.raises(IsADirectoryError):
        write_private(tmp_path / "key", b"secret")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_folder_that_others_could_enter_is_closed_to_them(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    assert mode(private_folder(tmp_path / "open")) == 0o700


def test_a_log_is_continued(tmp_path):
    for line in (b"one\n", b"two\n"):
        with open_log(tmp_path / "log") as log:
            log.write(line)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_stamp_tells_a_replaced_file_from_the_one_before(tmp_path):
    path = tmp_path / "policy"
    assert stamp(path) is None
    write_private(path, "one")
    before = stamp(path)
    write_private(path, "two")
    os.utime(path, ns=(before[0], before[0]))
    assert stamp(path) != before


class Clock:
    """Seconds after the real time."""

    def __init__(self):
        self.later = 0.0

    def __call__(self):
        return time.time() + self.later


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watched(tmp_path, clock):
    path = tmp_path / "watched"
    path.write_text("one")
    file = RestingFile(path, clock)
    assert file.first() == b"one"
    return file


def test_a_change_counts_when_the_file_has_rested(watched, clock):
    watched.path.write_text("tw")
    assert watched.news() is None
    watched.path.write_text("two")
    assert watched.news() is None
    clock.later = 1.5
    assert watched.news() == b"two"
    assert watched.news() is None


@pytest.mark.parametrize("save", ["in place", "emptied first", "renamed", "removed first", "same size and time"])
def test_every_way_to_save_is_seen(watched, clock, save):
    clock.later = 60
    assert watched.news() is None
    before = watched.path.stat()
    if save in ("renamed", "removed first"):
        (watched.path.parent / "new").write_text("two")
        if save == "removed first":
            watched.path.unlink()
            assert watched.news() is None
        (watched.path.parent / "new").rename(watched.path)
    else:
        if save == "emptied first":
            watched.path.write_text("")
        watched.path.write_text("two")
    if save == "same size and time":
        os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.news() == b"two"


def test_a_save_of_the_same_is_no_news(watched, clock):
    clock.later = 60
    watched.path.write_text("one")
    assert watched.news() is None


def test_a_clock_that_is_ahead_elsewhere_delays_nothing_for_long(watched, clock):
    watched.path.write_text("two")
    os.utime(watched.path, (time.time() + 900, time.time() + 900))
    assert watched.news() is None
    clock.later = 1.5
    assert watched.news() == b"two"


def test_a_file_that_is_gone_is_told_once(watched, clock):
    watched.path.unlink()
    assert watched.news() is None
    clock.later = 1.5
    with pytest.raises(FileNotFoundError):
        watched.news()
    assert watched.news() is None
    watched.path.write_text("one")
    clock.later = 5
    assert watched.news() == b"one"
