"""Each image as a pod under a user id that it does not know, with no right, nothing to write to but /tmp, and no network but the cluster's."""

import json
import sys

import pytest
from ordinary_pods import NOTHING_MORE, ORDINARY, pod

from af_hub.policy.load import read_policy
from af_hub.registry.prover import Prover

pytestmark = [pytest.mark.kube, pytest.mark.more, pytest.mark.timeout(900)]

MB = 1_000_000
POLICY = """
facility: {{name: Test, contact: help@af-hub.test}}
issuers: [{{issuer: "https://iam.af-hub.test/"}}]
rules: [{{name: all, groups: [/all], login: true, images: [lab], sizes: [small]}}]
images: {{lab: {{title: Lab, container: "af-hub.test/python-base:1"}}}}
sizes: {{small: {{title: Small, cpus: 1, memory: 1 GiB}}}}
registries: {{af-hub.test: {{address: "{address}"}}}}
sessions: {{unnumbered_user: refuse}}
"""

# What must hold in all of them; each line that is printed is a fault.
SOUND = r"""
find / -xdev -type f -perm /6000 2>/dev/null
for program in $UNWANTED; do command -v $program; done
ls -d /root/.cache /home/af/.cache /etc/pip.conf /tmp/wheel /tmp/requirements.lock /opt/pip 2>/dev/null
find /var/lib/apt/lists /var/cache/apt -type f -size +0 2>/dev/null | head -3
find /opt /usr/local -xdev ! -user root 2>/dev/null | head -3
[ "$(stat -c %a /home/af)" = 1777 ] || echo the home cannot be written by everybody
[ "$(id -u)" = 12345 ] || echo the user is not 12345
touch /here 2>/dev/null && echo the root file system can be written
"""

SERVES = {
    "hub": """
        jupyterhub --version >/dev/null && af-hub --version >/dev/null &&
        python3 -c 'import af_hub.spawner, af_hub.authenticator, jupyterhub_traefik_proxy.redis'""",
    "controller": """
        python3 -m af_hub.controller --help >/dev/null && AF_STATE_DIR=/tmp/s python3 -m af_hub.controller keys --state /tmp/s >/dev/null &&
        python3 -c 'import af_hub.controller.app, htcondor2'""",
    "agent": "python3 -m af_hub.session.agent --help >/dev/null",
    "forwarder": """
        python3 -c 'import asyncssh; asyncssh.generate_private_key("ssh-ed25519").write_public_key("/tmp/ca.pub")'
        python3 -m af_hub.forwarder.server --listen 127.0.0.1:31022 --host-key /tmp/key --user-ca /tmp/ca.pub 2>/tmp/log &
        tries=0
        until python3 -m af_hub.forwarder.probe 127.0.0.1:31022 >/tmp/said 2>&1; do
          tries=$((tries + 1)); [ $tries -lt 100 ] || { cat /tmp/said /tmp/log; exit 1; }
        done
        kill %1; wait %1""",
    "proxy": "traefik version >/dev/null && redis-server --version >/dev/null",
    "python-base": """
        jupyterhub-singleuser --version >/dev/null && af --help >/dev/null
        python3 -c 'import uproot, awkward, dask, distributed, bokeh, matplotlib, XRootD.client, fsspec_xrootd, htcondor2, af_hub.job.agent'
        condor_version | grep -q CondorVersion
        condor_q 2>&1 | grep -qi schedd
        JUPYTERHUB_API_TOKEN= jupyter lab --no-browser --ip 127.0.0.1 --port 8888 --IdentityProvider.token=x 2>/tmp/log &
        python3 -c '
import json, time, urllib.request
for _ in range(600):
    try:
        print(file=open("/tmp/api", "w"), *[json.load(urllib.request.urlopen("http://127.0.0.1:8888/api", timeout=5))["version"]])
        break
    except OSError:
        time.sleep(0.1)
else:
    print(open("/tmp/log").read())
'""",
}
SERVES["python-analysis"] = SERVES["python-base"] + "\npython3 -c 'import hist, ipywidgets'"
SERVES["python-root"] = (
    SERVES["python-analysis"]
    + """
python3 -W ignore -c '
import XRootD.client, ROOT
ROOT.gInterpreter.Declare("#include <vector>\\ndouble twice(double x) { return 2 * x; }")
assert ROOT.RDataFrame(10).Define("x", "twice(rdfentry_)").Mean("x").GetValue() == 9
' 2>&1 | grep -v -i alpha"""
)

# What a node without any of them pulls, 65 MB of Debian among it.
MOST = {
    "agent": 120 * MB,
    "forwarder": 115 * MB,
    "controller": 175 * MB,
    "hub": 175 * MB,
    "proxy": 150 * MB,
    "python-base": 340 * MB,
    "python-analysis": 350 * MB,
    "python-root": 900 * MB,
}
LABELLED = {"hub", "python-base", "python-analysis", "python-root"}


def restless(name: str) -> object:
    """ROOT is big: only in the full matrices."""
    return pytest.param(name, marks=pytest.mark.long) if name == "python-root" else name


@pytest.mark.parametrize("name", [restless(name) for name in SERVES])
async def test_it_serves_as_a_stranger(kube, restricted, name):
    image = kube.push(name)
    # ROOT's interpreter needs a compiler's headers, and asks it for them.
    unwanted = "make curl wget" if name == "python-root" else "cc gcc c++ g++ clang make curl wget"
    made = pod("stranger", image, "bash", "-c", f"UNWANTED='{unwanted}'{SOUND}\n{SERVES[name]}\necho done")
    main, spec = made["spec"]["containers"][0], made["spec"]
    main["securityContext"] = {**NOTHING_MORE, "readOnlyRootFilesystem": True}
    main["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    main["env"] = [{"name": "HOME", "value": "/tmp"}]
    spec["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    spec["securityContext"] = {**ORDINARY, "runAsUser": 12345, "runAsGroup": 0}
    kube.kubectl("create", "-n", restricted, "-f", "-", text=json.dumps(made))
    ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
    kube.kubectl("wait", "-n", restricted, "pod/stranger", ended, "--timeout=600s", timeout=660)
    assert kube.kubectl("logs", "-n", restricted, "stranger") == "done\n"

    policy = read_policy(POLICY.format(address=kube.registry), "facility.yaml", {})
    proof = await Prover(lambda: policy).prove(image)
    print(f"{name}: {proof.size / MB:.0f} MB", file=sys.stderr)
    assert (proof.uid, proof.gid) == (1000, 100)
    assert proof.size < MOST[name]
    assert ("org.af-hub.jupyterhub" in proof.labels) == (name in LABELLED)
