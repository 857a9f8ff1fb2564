"""Python environments from a lock file: whole or not there, and what is said when pip fails."""

import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from af_hub.demo import environment
from af_hub.demo.environment import Count, is_whole, make_environment, why_it_failed
from af_hub.errors import Unavailable
from af_hub.testing.process import comes_true

CHECKOUT = Path(__file__).parents[2]
LOCK = "nothing-of-this-name==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"


def test_the_module_needs_the_standard_library_only():
    argv = [sys.executable, "-S", "-c", "import af_hub.demo.environment"]
    assert subprocess.run(argv, cwd=CHECKOUT, env={}, timeout=30).returncode == 0


def test_it_counts_what_pip_does():
    count = Count(wanted=3)
    for line in ["Ignoring a: markers", "Collecting b", "  Downloading b.whl (1 MB)"]:
        count.take(line)
    assert count.sentence() == "1 of 2 packages are there"

    count.take("WARNING: Retrying (Retry(total=1)) after connection broken")
    assert "does not answer" in count.sentence()
    count.take("Collecting c")
    count.take("Installing collected packages: b, c")
    assert count.sentence() == "installing 2 packages"


@pytest.mark.parametrize(
    "output, sentence",
    [
        pytest.param(
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            r"a disk got full while /x was made \(/x has 5 MB free\).*1000 MB: free some",
            id="disk full",
        ),
        pytest.param(
            "WARNING: Retrying after NewConnectionError('...: Temporary failure in name resolution')\n"
            "ERROR: No matching distribution found for accessible-pygments==0.0.5",
            "no package index. Is this machine online?.*https_proxy.*PIP_INDEX_URL",
            id="no network, which pip takes for a missing package",
        ),
        pytest.param(
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "try again", id="another file"
        ),
        pytest.param("one\ntwo\nERROR: something else", "(?s)failed.*something else", id="what we do not know"),
    ],
)
def test_what_pip_prints_becomes_a_sentence(output, sentence):
    said = why_it_failed(output, Path("/x"), [(Path("/x"), 5_000_000)])
    assert re.search(sentence, said), said


@pytest.fixture
def lock(tmp_path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(LOCK)
    return path


@pytest.fixture
def quick(monkeypatch):
    """An environment without pip, which an empty lock file does not want."""
    monkeypatch.setattr(environment, "VENV", ["-m", "venv", "--without-pip"])
    monkeypatch.setattr(environment, "PIP", ["-c", ""])


def test_nothing_is_left_of_an_environment_that_cannot_be_made(tmp_path, lock, monkeypatch, quick):
    monkeypatch.setattr(environment, "PIP", ["-c", "import sys; sys.exit('nothing of this name')"])
    said = []

    with pytest.raises(Unavailable, match="nothing of this name"):
        make_environment(tmp_path / "made", lock, said.append)
    assert not (tmp_path / "made").exists()
    assert said == ["making it from its lock file ..."]


def test_what_a_killed_process_left_is_made_anew_and_then_it_is_whole(tmp_path, lock, quick):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "half").write_text("")

    make_environment(tmp_path / "made", lock, lambda _: None, b"settings", lambda folder: (folder / "more").touch())
    assert is_whole(tmp_path / "made", lock, b"settings")
    assert (tmp_path / "made/more").exists() and not (tmp_path / "made/half").exists()
    assert not is_whole(tmp_path / "made", lock, b"other settings")


class SilentIndex(http.server.BaseHTTPRequestHandler):
    """A package index that takes a question and does not answer it until the test is over."""

    asked, over = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        self.over.wait(60)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SilentIndex)
    SilentIndex.asked.clear()
    SilentIndex.over.clear()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    SilentIndex.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("number, before", [(signal.SIGINT, signal.SIG_DFL), (signal.SIGKILL, signal.SIG_IGN)])
def test_pip_ends_with_us_and_ctrl_c_leaves_nothing(tmp_path, lock, index, number, before):
    """Also begun in the background by a shell, which has SIGINT ignored."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {**os.environ, "PIP_INDEX_URL": index, "TMPDIR": str(temporary), "PIP_CONFIG_FILE": os.devnull}
    argv = [sys.executable, "-m", "af_hub.demo.environment", str(tmp_path / "made"), str(lock)]
    maker = subprocess.Popen(
        argv,
        cwd=CHECKOUT,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, before),
    )
    assert SilentIndex.asked.wait(60)
    maker.send_signal(number)
    _, said = maker.communicate(timeout=30)

    # The lock is free when pip is gone too, which has taken it along.
    assert comes_true(lambda: not list(temporary.iterdir()), 10)
    assert comes_true(lambda: not lives_in_session(maker.pid), 10)
    if number == signal.SIGINT:
        assert maker.returncode == 130 and "stopped; nothing half-made is left" in said
        assert not (tmp_path / "made").exists()
        assert "Traceback" not in said


def lives_in_session(leader: int) -> bool:
    """Whether any process of this session lives."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            return True
    return False
