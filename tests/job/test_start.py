"""The program that runs first, with a proxy as HTCondor's starter keeps one for the job."""

import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from af_hub.job import start

PROGRAM = Path(start.__file__)
COOKIE = "c00k1e"


@dataclass
class FakeProxy:
    """Takes the job's commands; answers ``refuses`` to those that set something."""

    folder: Path
    refuses: bytes = b"0\n"
    heard: list = field(default_factory=list)

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        (self.folder / ".chirp.config").write_text(f"{host} {port} {COOKIE}\n")
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with stream, stream.makefile("rwb") as lines:
                admitted = lines.readline() == f"cookie {COOKIE}\n".encode()
                lines.write(b"0\n" if admitted else b"-1\n")
                lines.flush()
                if line := lines.readline():
                    self.heard.append(line.decode())
                    lines.write(self.refuses)
                    lines.flush()


@pytest.fixture
def proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    with FakeProxy(tmp_path) as proxy:
        yield proxy


def run(folder, module):
    program = folder / "start.py"
    program.write_bytes(PROGRAM.read_bytes())
    environment = {"_CONDOR_SCRATCH_DIR": str(folder), "PATH": os.environ["PATH"]}
    argv = [sys.executable, "-S", str(program), module]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    "text, line",
    [
        ("", ""),
        ("one\n\n  two  three \n", "one | two three"),
        ("\n".join("abcdefgh"), "d | e | f | g | h"),
        ('he said "no" \\', "he said 'no' /"),
        ("tab\there \x1b[31mred é", "tab here [31mred"),
        ("  x = y\n  ~~^~~\nError: no", "x = y | Error: no"),
        ("x" * 5000, "x" * start.LENGTH),
    ],
)
def test_one_line(text, line):
    assert start.one_line(text) == line


def test_what_is_said_arrives(proxy):
    assert start.say('the "scheduler"\ndied')
    assert proxy.heard == ["set_job_attr AFSays \"the\\ 'scheduler'\\ |\\ died\"\n"]


def test_a_proxy_that_refuses_or_is_gone_fails_nothing(proxy, tmp_path):
    proxy.refuses = b"-2\n"
    assert not start.say("x")
    (tmp_path / ".chirp.config").write_text("127.0.0.1 1 x")
    assert not start.say("x")
    (tmp_path / ".chirp.config").write_text("nonsense")
    assert not start.say("x")
    (tmp_path / ".chirp.config").unlink()
    assert not start.say("x")


def test_a_module_that_is_missing_is_named(proxy, tmp_path):
    done = run(tmp_path, "af_hub_is_not_here.job")
    assert done.returncode == 1 and "No module named" in done.stderr
    assert "No\\ module\\ named\\ 'af_hub_is_not_here'" in proxy.heard[0]


def test_a_module_that_fails_says_why(proxy, tmp_path):
    (tmp_path / "ours.py").write_text("import sys\nassert len(sys.argv) == 1, sys.argv\nraise ValueError('no good')\n")
    assert run(tmp_path, "ours").returncode == 1
    assert "ValueError:\\ no\\ good" in proxy.heard[0]


def test_a_module_that_ends_by_itself_keeps_its_status(proxy, tmp_path):
    (tmp_path / "ours.py").write_text("import sys\nassert __name__ == '__main__'\nsys.exit(7)\n")
    assert run(tmp_path, "ours").returncode == 7
    assert proxy.heard == []
