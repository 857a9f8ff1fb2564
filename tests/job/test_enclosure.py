"""What a job keeps to itself, in a process of its own."""

import json
import os
import stat
import subprocess
import sys

PROGRAM = """
import json, os, resource, tempfile
from af_hub.job.enclosure import enclose
enclose()
from pathlib import Path
Path("file").write_text("x")
with tempfile.NamedTemporaryFile() as made:
    child = json.loads(os.popen("python3 -c 'import json, resource, tempfile;"
        "print(json.dumps([tempfile.gettempdir(), resource.getrlimit(resource.RLIMIT_CORE)[0]]))'").read())
    print(json.dumps({"made": made.name, "child": child, "core": resource.getrlimit(resource.RLIMIT_CORE)[0]}))
"""


def test_a_job_keeps_to_its_sandbox(tmp_path):
    environ = {"PATH": os.environ["PATH"], "TMPDIR": "/tmp"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environ, capture_output=True, check=True)
    told = json.loads(done.stdout)
    scratch = str(tmp_path / "scratch")
    assert told["made"].startswith(scratch + "/")
    assert (told["child"], told["core"]) == ([scratch, 0], 0)
    assert stat.S_IMODE((tmp_path / "scratch").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
