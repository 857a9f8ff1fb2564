import os
import stat

import pytest

from af_hub.files import open_log, private_folder, stamp, write_private


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
