"""A plain batch job from a session, with HTCondor's own tools and nothing told them: it is found, it runs, it reads with its owner's token."""

import json
import textwrap

import pytest

from af_hub.demo.notebook import open_kernel

pytestmark = pytest.mark.real

CELL_SECONDS = 120
SUBMIT = """
    import base64, json, os, pathlib, subprocess, time

    os.makedirs("batch", exist_ok=True)
    os.chdir("batch")
    pathlib.Path("job.sh").write_text("#!/bin/sh\\ncat input.txt $BEARER_TOKEN_FILE")
    pathlib.Path("input.txt").write_text("from the session:")
    pathlib.Path("job.sub").write_text(
        "executable = job.sh\\ntransfer_input_files = input.txt\\noutput = out.txt\\nerror = err.txt\\n"
        "request_memory = 64MB\\nrequest_disk = 1MB\\nqueue\\n"
    )

    def tool(*argv):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def payload(token):
        middle = token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))

    before = time.monotonic()
    while not (pool_token := pathlib.Path(os.environ["_condor_SCITOKENS_FILE"])).exists() and time.monotonic() < before + 20:
        time.sleep(0.2)
    unspooled = tool("condor_submit", "job.sub")
    status, said = tool("condor_submit", "-spool", "job.sub")
    assert status == 0, said
    cluster = said.rpartition("cluster ")[2].strip(". \\n")
    listed = tool("condor_q", cluster, "-af", "Owner", "AcctGroup", "OAuthServicesNeeded")
    while (state := tool("condor_q", cluster, "-af", "JobStatus", "HoldReason")[1]).split()[:1] not in (["4"], []):
        assert time.monotonic() < before + 90, state
        time.sleep(0.5)
    fetched = tool("condor_transfer_data", cluster)
    out = pathlib.Path("out.txt").read_text()
    tool("condor_rm", cluster)
    token = out.removeprefix("from the session:")
    print(json.dumps({
        "unspooled": unspooled, "listed": listed, "fetched": fetched[0], "begins": out[:17],
        "job": payload(token), "pool": payload(pool_token.read_text()),
        "session": payload(pathlib.Path(os.environ["BEARER_TOKEN_FILE"]).read_text()),
    }))
"""


def test_tools_in_a_session_need_nothing(place, session):
    with open_kernel(session, "/user/cms-analyst/") as kernel:
        found = json.loads(kernel.run(textwrap.dedent(SUBMIT), CELL_SECONDS))
    status, said = found["unspooled"]
    assert status == 1 and "add -spool to condor_submit" in said
    assert found["listed"] == [0, "u-cms-cms-analyst cms.itcms iam\n"]
    assert found["fetched"] == 0 and found["begins"] == "from the session:"
    assert "storage.read:/" in found["job"]["scope"] and "compute" not in found["job"]["scope"]
    assert "compute.create" in found["pool"]["scope"] and found["pool"]["aud"] == "htcondor.af-hub.test"
    assert "compute" not in found["session"]["scope"], "what every storage element sees cannot submit jobs"
    assert found["job"]["sub"] == found["session"]["sub"]
