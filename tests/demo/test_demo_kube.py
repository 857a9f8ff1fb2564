"""``make demo-kube`` where it cannot run: one sentence, at once, and nothing is started."""

import subprocess
import sys

import pytest

from af_hub.testing.network import AS_USER


@pytest.mark.slow
def test_without_root(tmp_path):
    argv = [sys.executable, "-m", "af_hub.cli", "demo-kube", "--port", "0", "--folder", str(tmp_path / "d")]
    done = subprocess.run([*AS_USER, *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: make demo-kube cannot run here: a real Kubernetes needs root: its nodes make network interfaces, mounts and containers\n"
    )
    assert not (tmp_path / "d").exists()
