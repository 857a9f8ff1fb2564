"""A Dask cluster on a worker node, and the job of another owner on the same node that tries all its ports and sockets; a real pool."""

import asyncio
import base64
import json
import time
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from distributed import Client
from distributed.security import Security

from af_hub.condor.check_site import describe_neighbour
from af_hub.condor.pool import CondorPool
from af_hub.condor.submit import JobDescription, describe_job, quote_arguments
from af_hub.job import kit, start
from af_hub.testing.process import comes_true

pytestmark = [pytest.mark.real, pytest.mark.timeout(420)]

OWNER, STRANGER = "cms-analyst", "cms-colleague"
SITE, ADDRESS = "T2_A", "127.0.1.1"
SCOPES = "compute.read compute.create compute.modify compute.cancel wlcg.groups"
STRANGERS_PROGRAM = Path(__file__).with_name("stranger.py")
START_SECONDS, ATTACK_SECONDS = 60, 240
TLS_ALERT, HANDSHAKE = 21, 22


def text_of(path):
    """What is in a file; nothing when HTCondor has just removed it."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


class Victim:
    """A Dask cluster as jobs of a pool: scheduler and first worker in one, a second worker in another."""

    def __init__(self, dask_cluster, pool, token, python, condor_pool):
        self.dask_cluster, self.pool, self.token, self.python = dask_cluster, pool, token, Path(python)
        self.site_folder = condor_pool.folder / SITE

    async def submit(self, folder, role, module, **changed):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        files[kit.START] = Path(start.__file__).read_bytes()
        own = {"workers": ("second",), "worker_files": ("worker.json",)} if role == "worker" else {}
        if own:
            files["second/worker.json"] = files.pop("worker.json")
        names = tuple(name for name in files if "/" not in name)
        job = JobDescription(
            cluster=self.dask_cluster.id, role=role, site=SITE, python=self.python, arguments=(kit.START, module), files=names,
            cores=1, memory=3 << 30, lifetime=300, **own,
        )  # fmt: skip
        await self.pool.submit(self.token, describe_job(job), files)

    def sandboxes(self):
        """The folders of its jobs."""
        found = [*self.site_folder.glob("execute/dir_*/job.json"), *self.site_folder.glob("execute/dir_*/worker.json")]
        return [path.parent for path in found if self.dask_cluster.id in text_of(path)]

    def serves(self):
        """Whether its agent does."""
        return any((folder / kit.AGENT_SOCKET).exists() for folder in self.sandboxes())

    def processes(self, of_htcondor=False):
        """Everything that its jobs started; or HTCondor's own process that looks after each job."""
        folders, found = self.sandboxes(), []
        for process in psutil.process_iter():
            try:
                if any(Path(process.cwd()).is_relative_to(folder) for folder in folders):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return [process for process in found if (process.name() == "condor_starter") is of_htcondor]

    def listens(self, kind, of_htcondor=False):
        """Where these processes listen."""
        found = [one for process in self.processes(of_htcondor) for one in process.net_connections(kind)]
        return sorted({one.laddr for one in found if kind == "unix" or one.status == psutil.CONN_LISTEN} - {""})

    def client(self, bridge):
        tls = self.dask_cluster.tls("client")
        security = Security(
            require_encryption=True,
            tls_ca_file=str(tls.ca),
            tls_client_cert=str(tls.certificate),
            tls_client_key=str(tls.key),
        )
        return Client(f"tls://127.0.0.1:{bridge.port}", security=security, asynchronous=True, set_as_default=False)


@pytest.fixture
def pool(condor_pool):
    return CondorPool(condor_pool.collector, condor_pool.schedd, str(condor_pool.ca_file))


@pytest.fixture
def token(iam, condor_pool):
    return lambda person: iam.mint(person, scope=SCOPES, audience=condor_pool.audience, profile="wlcg")


@pytest.fixture
async def victim(new_dask_cluster, image_python, condor_pool, pool, token, tmp_path):
    dask_cluster = new_dask_cluster(tmp_path / "victim")
    running = Victim(dask_cluster, pool, token(OWNER), image_python, condor_pool)
    dask_cluster.job_kit(tmp_path / "job", bind="")
    await running.submit(tmp_path / "job", "scheduler", "af_hub.job.agent")
    yield running
    await pool.remove(token(OWNER), f'AFCluster == "{dask_cluster.id}"')
    assert await asyncio.to_thread(comes_true, lambda: not running.sandboxes(), 30)


def describe_stranger(python):
    """A job like those of `af-hub check site`, with another program."""
    lines = describe_neighbour(SITE, "t2-a.af-hub.test", "x", "y").splitlines()
    wanted = {
        "executable": python,
        "arguments": quote_arguments([STRANGERS_PROGRAM.name, ADDRESS]),
        "transfer_input_files": ", ".join([STRANGERS_PROGRAM.name, *kit.WORKER_FILES]),
        "request_memory": "256MB",
    }
    kept = [line for line in lines if line.split(" =")[0] not in wanted and line != "queue"]
    return "\n".join([*kept, *(f"{name} = {value}" for name, value in wanted.items()), "queue\n"])


async def compute(client, until):
    """Ask for one result after the other; the longest time that one took."""
    longest, number = 0.0, 0
    while not until.done() or number < 3:
        began = time.monotonic()
        assert await client.submit(lambda x: x + 1, number, pure=False) == number + 1
        longest, number = max(longest, time.monotonic() - began), number + 1
        await asyncio.sleep(0.05)
    return longest


async def test_the_job_of_another_gets_nothing_from_any_port(
    victim, new_dask_cluster, image_python, pool, token, tmp_path
):
    own = new_dask_cluster(tmp_path / "stranger")
    own.job_kit(tmp_path / "stranger" / "kit")
    files = {name: own.keys.path(name).read_bytes() for name in kit.WORKER_FILES}
    files[STRANGERS_PROGRAM.name] = STRANGERS_PROGRAM.read_bytes()
    dask_cluster = victim.dask_cluster
    assert await asyncio.to_thread(comes_true, victim.serves, START_SECONDS)
    async with dask_cluster.bridge("scheduler") as bridge, victim.client(bridge) as client:
        scheduler = (await client.scheduler.identity())["address"]
        dask_cluster.worker_kit(tmp_path / "second", bind="", scheduler=scheduler, name="second")
        await victim.submit(tmp_path / "second", "worker", "af_hub.job.worker")
        await asyncio.wait_for(client.wait_for_workers(2), START_SECONDS)
        ports = [f"{one.ip}:{one.port}" for one in victim.listens("tcp")]
        processes = [(process.cmdline(), process.environ()) for process in victim.processes()]
        sockets = victim.listens("unix")
        for address in victim.listens("tcp", of_htcondor=True):
            await check_chirp(address)
        attack = asyncio.create_task(pool.run(token(STRANGER), describe_stranger(image_python), files, ATTACK_SECONDS))
        longest = await compute(client, attack)
        found = json.loads(await attack)
        await asyncio.wait_for(client.wait_for_workers(2), 5)

    assert len(ports) == 5, "a scheduler, two workers, two nannies"
    assert all(port.startswith(f"{ADDRESS}:") for port in ports)
    attacked = dict(found["attacked"])
    assert set(ports) <= attacked.keys(), "the stranger did not find all ports"
    assert sockets == ["agent.sock", "dashboard.sock"] and set(sockets) <= attacked.keys()
    assert not any(one.startswith("@") for one in sockets)
    for place in [*ports, *sockets]:
        check_answers(place, attacked[place], dask_cluster)
    for port in ports:
        for kind in ("tcp", "tls"):
            assert found["comms"][f"{kind}://{port}"].startswith("refused: "), port
    assert found["crowd"] >= 5 * 256, "the crowd was not there"
    assert longest < 10, f"a result took {longest:.1f} s while a crowd stood at the ports"
    check_what_everybody_sees(victim, processes)
    check_logs(victim)


async def check_chirp(address):
    """HTCondor's port for what the job writes into its ad: whoever does not know the cookie in the sandbox is told no."""
    assert address.ip == "127.0.0.1"
    for words in ("GET / HTTP/1.1", "cookie 0", "get_job_attr Owner", "set_job_attr AFCluster 1", "getfile job.json"):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(words.encode() + b"\r\n\r\n")
        writer.write_eof()
        said = await asyncio.wait_for(reader.read(), 5)
        assert all(line.startswith(b"-") for line in said.splitlines()), (words, said)
        writer.close()


def check_answers(place, got, dask_cluster):
    """In clear there is nothing but TLS; by TLS there is no byte of content, and the certificate says no more than the cluster's id."""
    for what, (said, _) in got["said"].items():
        answer = base64.b64decode(said)
        if what.startswith("https"):
            assert answer == b"", f"{place} answers {what}: {answer[:200]!r}"
        else:
            assert answer[:1] in (b"", bytes([TLS_ALERT])) and len(answer) < 20, (
                f"{place} answers {what}: {answer[:200]!r}"
            )
    assert got["certificates"], f"{place} spoke no TLS"
    for text in got["certificates"]:
        certificate = x509.load_der_x509_certificate(base64.b64decode(text))
        (subject,) = certificate.subject
        (issuer,) = certificate.issuer
        assert subject.value in ("scheduler", "worker")
        assert issuer.value == f"af-hub cluster {dask_cluster.id}"
        (names,) = (one.value for one in certificate.extensions if isinstance(one.value, x509.SubjectAlternativeName))
        assert names.get_values_for_type(x509.DNSName) == [subject.value]


def check_what_everybody_sees(victim, processes):
    """Command lines are read by all users of a machine, environments by whoever is the same user."""
    keys = [victim.dask_cluster.keys.path(name).read_text().splitlines()[1] for name in kit.WORKER_FILES]
    assert len(processes) >= 6
    for argv, environ in processes:
        seen = " ".join(argv) + json.dumps(environ)
        assert "PRIVATE KEY" not in seen and not any(key in seen for key in keys)
        assert any(Path(environ["TMPDIR"]).is_relative_to(folder) for folder in victim.sandboxes())


def check_logs(victim):
    """Thousands of failed handshakes are a few lines, in folders that only their owner may enter."""
    for folder in victim.sandboxes():
        assert folder.stat().st_mode & 0o777 == 0o700
        logs = [*folder.glob("*.log"), folder / "_condor_stderr"]
        assert max(path.stat().st_size for path in logs) < 50_000
        assert all(path.stat().st_mode & 0o077 == 0 for path in logs[:-1])
