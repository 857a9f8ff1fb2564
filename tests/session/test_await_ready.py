"""The wait of a pod for its agent: as a program, as the kubelet runs it."""

import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-P", "-m", "af_hub.session.await_ready"]


def test_it_ends_when_the_file_is_there(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with subprocess.Popen([*PROGRAM, str(ready), "20"]) as waiting:
        assert waiting.poll() is None
        ready.touch()
        assert waiting.wait(15) == 0


def test_it_ends_with_a_sentence_when_it_does_not_come(tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, str(tmp_path / "ready"), "0.1"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.startswith("the session agent was not ready within 0.1 s: ")
