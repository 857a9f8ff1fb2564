"""What a session gets, whole."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from af_hub.errors import FragmentConflict
from af_hub.policy.sites import Pool
from af_hub.session.fragments import (
    SessionFragment,
    condor_fragment,
    dask_fragment,
    image_fragment,
    merge,
    token_fragment,
)
from af_hub.session.xrootd import xrootd_fragment
from af_hub.testing.plugin import Golden

FOLDER = "/srv/run/0123456789abcdef"
CONTROLLER = "https://hub.af-hub.test/services/af-controller/"
POOL = Pool(
    collector="cm.af-hub.test:9618", schedd="schedd@af-hub.test", audience="htcondor.af-hub.test", ca_file="/etc/ca.pem"
)


def test_whole_session(golden: Golden) -> None:
    whole = merge(
        image_fragment("python-analysis"),
        token_fragment(FOLDER),
        dask_fragment(FOLDER, CONTROLLER, ("T2_A", "T2_B")),
        condor_fragment(FOLDER, POOL, job_tokens=True),
        xrootd_fragment(FOLDER, "root://cache.af-hub.test:1094"),
    )
    golden("session.json", json.dumps({k: dict(v) for k, v in vars(whole).items()}, indent=1, sort_keys=True) + "\n")


def test_dask_reads_its_part() -> None:
    """The real reader: Dask, in a process of its own, as it reads its configuration at import."""
    asks = (
        "import json, dask.config as c, distributed;"
        "from distributed.utils import format_dashboard_link as link;"
        "print(json.dumps([c.get('distributed.client.security-loader'), link('127.0.0.1', 1),"
        " c.get('distributed.client.direct-to-workers')]))"
    )
    environment = {**os.environ, **dask_fragment(FOLDER, CONTROLLER, ()).environment}
    found = subprocess.run([sys.executable, "-c", asks], env=environment, capture_output=True, timeout=60, check=True)
    assert json.loads(found.stdout) == ["af_hub.client.security.load_security", CONTROLLER, False]


def test_the_link_of_a_dashboard_is_for_a_browser() -> None:
    """Where sessions have an address of their own for the controller, inside the cluster."""
    inner = dask_fragment(
        FOLDER, "http://controller:8500/services/af-controller/", (), "https://hub.test/services/af-controller/"
    )
    assert inner.environment["AF_CONTROLLER_URL"].startswith("http://controller:8500/")
    assert inner.environment["DASK_DISTRIBUTED__DASHBOARD__LINK"] == "https://hub.test/services/af-controller/"


@pytest.mark.parametrize("part", ["environment", "files", "volumes", "mounts", "sidecars"])
def test_conflict_names_the_place(part: str) -> None:
    one, other = SessionFragment(**{part: {"x": "1"}}), SessionFragment(**{part: {"x": "2"}})
    with pytest.raises(FragmentConflict, match=f"{part} 'x': '1' and '2'"):
        merge(one, other)


def test_same_value_twice_is_no_conflict() -> None:
    one = SessionFragment(environment={"A": "1"}, mounts={"v": {"mountPath": "/v"}})
    assert asdict(merge(one, one)) == asdict(merge(one))


def test_nothing_is_shared_with_the_parts() -> None:
    part = {"A": "1"}
    whole = merge(SessionFragment(environment=part))
    part["A"] = "2"
    assert whole.environment == {"A": "1"}
