import asyncio
import json
import os
import secrets
import ssl
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from af_hub.controller.keys import ClusterKeys, UserCA
from af_hub.forwarder.access import Endpoint, Service
from af_hub.forwarder.bridge import Bridge
from af_hub.forwarder.link import Link
from af_hub.testing.require import unavailable

IMAGE = Path(__file__).parents[2] / ".images" / "python-analysis" / "bin" / "python"
PYTHON = str(IMAGE) if IMAGE.exists() else sys.executable
SITE_CACHE = "root://cache.af-hub.test:1094//"
SITE_ADDRESS = "127.0.1.1"
GIB = 1 << 30


@dataclass
class TLS:
    """Certificate and key of one role, as files."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def context(self):
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = False
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


class DaskCluster:
    """Keys and certificates of one Dask cluster, as the controller makes them."""

    def __init__(self, folder, forwarder):
        self.id = secrets.token_hex(16)
        self.folder = folder / self.id
        self.forwarder = forwarder
        until = time.time() + 3600
        user_ca = UserCA(self.folder)
        self.keys = ClusterKeys(self.folder, self.id)
        self.keys.make(user_ca, until)
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        ssh_key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        session = self.keys.certify_session(user_ca, ssh_key, pem, until)
        self.keys.path("tls-client.pem").write_text(session.tls_certificate)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.keys.path("tls-client.key").write_bytes(private)

    def tls(self, role=""):
        paths = (self.keys.path(f"tls-{role}.{kind}") for kind in ("pem", "key")) if role else ()
        return TLS(self.keys.path("tls-ca.pem"), *paths)

    def worker_kit(self, folder, **facts):
        folder.mkdir(mode=0o700)
        for name in ("tls-ca.pem", "tls-worker.pem", "tls-worker.key"):
            (folder / name).write_bytes(self.keys.path(name).read_bytes())
        kit = {"cluster": self.id, "nthreads": 1, "memory_limit": GIB, "expires_at": time.time() + 600}
        (folder / "worker.json").write_text(json.dumps(kit | {"bind": SITE_ADDRESS} | facts))

    def job_kit(self, folder, **facts):
        folder.mkdir(mode=0o700)
        for name in ("ca.pem", "scheduler.pem", "scheduler.key", "worker.pem", "worker.key"):
            (folder / f"tls-{name}").write_bytes(self.keys.path(f"tls-{name}").read_bytes())
        credentials = self.forwarder.certify(f"job:{self.id}")
        (folder / "ssh.key").write_text(credentials.private_key)
        (folder / "ssh.cert").write_text(credentials.certificate)
        address = self.forwarder.address
        where = {"host": address.host, "port": address.port, "host_key": address.host_key}
        kit = {"cluster": self.id, "site": "T2_TEST", "forwarder": where, "nthreads": 1, "memory_limit": 3 * GIB}
        kit |= {"expires_at": time.time() + 600, "bind": SITE_ADDRESS}
        (folder / "job.json").write_text(json.dumps(kit | facts))

    @asynccontextmanager
    async def bridge(self, service):
        """A bridge to one of its services, as whoever may open it."""
        service = Service(service)
        principal = f"session:{self.id}" if service is Service.SCHEDULER else "controller"
        async with (
            Link(self.forwarder.address, self.forwarder.certify(principal)) as link,
            Bridge(link, Endpoint(self.id, service)) as bridge,
        ):
            yield bridge


@dataclass
class Job:
    """A program of ours that runs in a sandbox of its own, as HTCondor would run it."""

    folder: Path
    module: str
    dask_cluster: DaskCluster
    site: dict[str, str] = field(default_factory=lambda: {"XROOT_PROXY": SITE_CACHE})
    started: float = field(default_factory=time.monotonic)
    process: subprocess.Popen | None = None

    def start(self):
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= self.site  # as sites set it for their jobs
        argv = [PYTHON, "-m", self.module]
        self.process = subprocess.Popen(argv, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True)
        return self

    def tree(self):
        """The process and all below it."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def command(self, what):
        """The one process below whose command line ends like that."""
        return next(process for process in self.tree() if what in " ".join(process.cmdline()))

    async def wait(self, seconds=20):
        return await asyncio.to_thread(self.process.wait, seconds)

    def left_over(self):
        return [path.name for path in self.folder.iterdir() if path.suffix in (".key", ".sock") or path.name == "token"]

    def log(self, part="agent"):
        return (self.folder / f"{part}.log").read_text()

    def stop(self):
        left = self.tree() if self.process.poll() is None else []
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self.process.communicate()


@pytest.fixture(scope="session")
def image_python():
    """The Python of an image, with which jobs run."""
    return PYTHON


@pytest.fixture(scope="session")
def new_dask_cluster(forwarder):
    """``new_dask_cluster(folder)``: keys of one more Dask cluster; nothing of it runs."""
    return lambda folder: DaskCluster(folder, forwarder)


@pytest.fixture(scope="session")
def bokeh():
    """The jobs' Python can draw dashboards."""
    if subprocess.run([PYTHON, "-c", "import bokeh"], capture_output=True).returncode:
        unavailable(f"no bokeh in {PYTHON}")


@pytest.fixture(scope="session")
def running(forwarder, tmp_path_factory):
    """``running()``: a Dask cluster's job, just started; all are stopped in the end."""
    jobs = []

    def start(module="af_hub.job.agent", dask_cluster=None, site=None, **facts):
        folder = tmp_path_factory.mktemp("sandbox")
        dask_cluster = dask_cluster or DaskCluster(folder, forwarder)
        make = dask_cluster.job_kit if module == "af_hub.job.agent" else dask_cluster.worker_kit
        make(folder / "job", **facts)
        more = {} if site is None else {"site": site}
        jobs.append(Job(folder / "job", module, dask_cluster, **more).start())
        return jobs[-1]

    yield start
    for job in jobs:
        job.stop()


@pytest.fixture(scope="session")
def job(running):
    """One job for tests that leave it as they found it."""
    return running()
