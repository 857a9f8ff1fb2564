"""The pool's floor: ``python -m tests.bench.floor FILES STARTED SITE SCHEDD`` submits and spools a job that only says when it runs.

Prints the Unix times as JSON. The description is that of a scheduler job but for the program and the attributes of ours.
"""

import json
import os
import sys
import time
from pathlib import Path, PurePath

import htcondor2

from af_hub.condor.submit import JobDescription, describe_job
from af_hub.testing.process import comes_true

SECONDS = 30


def description(files: list[str], started: Path, site: str) -> str:
    """The job's submit description."""
    script = f"date +%s.%N > {started}.new && mv {started}.new {started}"
    job = JobDescription(
        cluster="0" * 32,
        role="scheduler",
        site=site,
        python=PurePath("/bin/sh"),
        arguments=("-c", script),
        files=tuple(files),
        cores=1,
        memory=3 << 30,
        lifetime=600,
    )
    # Without our attributes, or the controller would look after it.
    return "".join(f"{line}\n" for line in describe_job(job).splitlines() if not line.startswith("+AF"))


def main() -> None:
    """Submit, wait, print."""
    folder, started = map(Path, sys.argv[1:3])
    site, name = sys.argv[3:5]
    started.unlink(missing_ok=True)
    os.chdir(folder)
    text = description(sorted(path.name for path in folder.iterdir()), started, site)
    began = time.time()
    schedd = htcondor2.Schedd(htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, name))
    result = schedd.submit(htcondor2.Submit(text), spool=True)
    schedd.spool(result)
    submitted = time.time()
    if not comes_true(started.exists, SECONDS, pause=0.005):
        sys.exit("the job did not start")
    print(json.dumps({"began": began, "submitted": submitted, "ended": float(started.read_text())}))


if __name__ == "__main__":
    main()
