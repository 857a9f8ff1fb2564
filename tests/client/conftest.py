import time

import pytest
from dask import config as dask_config
from distributed import LocalCluster
from distributed.security import Security
from fake_facility import CLUSTER, TOKEN, FakeFacility

from af_hub.controller.keys import ClusterKeys, UserCA


@pytest.fixture
def facility(tmp_path, monkeypatch):
    facility = FakeFacility(tmp_path)
    facility.start()
    for name, value in {
        "AF_CONTROLLER_URL": facility.url,
        "AF_AGENT_SOCKET": facility.socket,
        "JUPYTERHUB_API_TOKEN": TOKEN,
        "AF_IMAGE": "python-analysis",
        "AF_SITES": "T2_A,T2_B",
    }.items():
        monkeypatch.setenv(name, value)
    yield facility
    facility.stop()


@pytest.fixture
def dask(facility, tmp_path):
    """A real Dask scheduler with a worker, by mutual TLS, behind the facility's answers."""
    keys = ClusterKeys(tmp_path, CLUSTER)
    keys.make(UserCA(tmp_path), time.time() + 600)
    roles = {
        f"tls_{role}_{kind}": str(keys.path(f"tls-{role}.{suffix}"))
        for role in ("scheduler", "worker")
        for kind, suffix in (("cert", "pem"), ("key", "key"))
    }
    client = {"tls_client_cert": roles["tls_worker_cert"], "tls_client_key": roles["tls_worker_key"]}
    security = Security(tls_ca_file=str(keys.path("tls-ca.pem")), require_encryption=True, **roles, **client)
    facility.tls = {
        "ca": str(keys.path("tls-ca.pem")),
        "cert": str(keys.path("tls-controller.pem")),
        "key": str(keys.path("tls-controller.key")),
    }
    with (
        dask_config.set({"temporary-directory": str(tmp_path)}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tls://",
            host="127.0.0.1",
            security=security,
            dashboard_address=None,
        ) as cluster,
    ):
        facility.scheduler = cluster.scheduler_address
        yield cluster
