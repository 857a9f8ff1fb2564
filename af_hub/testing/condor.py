"""A real HTCondor pool on loopback, without root: central manager, access point, and sites that are reached through CCB only.

It serves the fixture ``condor_pool`` and the demo. Its daemons read the very files of ``hub_config/condor`` that administrators
use, after a generated header with addresses and folders. It promises ephemeral ports, everything in one folder (0700), and
that nothing is left when it stops or when whoever owns it is killed. It knows no people: the mapping table and the accounting
map are :mod:`af_hub.condor.mapping`'s, and empty at first, so that nobody is mapped.

What is not real: sites are addresses of this machine without a firewall, and all daemons and jobs run as one user.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping as Names
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from af_hub.condor import credmon, mapper
from af_hub.condor.mapping import Mapping, Person, compile_mapping
from af_hub.condor.negotiator import describe_claims, describe_groups
from af_hub.condor.watch import CLAIMS, GROUPS, replace
from af_hub.errors import Unavailable
from af_hub.files import private_folder, write_private
from af_hub.policy.load import load_policy
from af_hub.policy.model import Policy
from af_hub.testing import keeper, places
from af_hub.testing.condor_files import (
    FOLDERS,
    describe_daemons,
    describe_environment,
    seed_keys,
    write_certificate,
)
from af_hub.testing.condor_master import Master
from af_hub.testing.process import Daemon, comes_true, hold_port

if TYPE_CHECKING:
    from af_hub.testing.iam import DemoIAM

CONFIGURATION = places.CONFIGURATION / "condor"
CENTRAL, ACCESS = "central-manager", "access-point"
START_SECONDS = 60
TOOL_SECONDS = 30


@dataclass
class RealPool:
    """HTCondor's own daemons in one folder; a context manager.

    Parameters
    ----------
    folder
        Everything lies here; made with mode 0700.
    prefix
        What :func:`af_hub.testing.condor_prefix.find_condor` gives.
    sites
        Name of each, and the address of this machine that plays its worker node; see :meth:`start_node` for others.
    address, hostname
        Of the central manager and the access point; clients find the address by the name.
    collector
        Host name and port of the central manager: of one that runs already in this folder, or as :meth:`start` finds it.
    cpus, memory
        What each site pretends to have, cores and MiB.
    worker_environment
        Environment of every job, as the sites set it.
    """

    folder: Path
    prefix: Path
    sites: Names[str, str] = field(default_factory=lambda: {"T2_A": "127.0.1.1", "T2_B": "127.0.2.1"})
    domain: str = "af-hub.test"
    audience: str = "htcondor.af-hub.test"
    schedd: str = "schedd@af-hub.test"
    cpus: int = 8
    memory: int = 16384
    worker_environment: Names[str, str] = field(default_factory=dict)
    python: str = sys.executable
    address: str = "127.0.0.1"
    hostname: str = "localhost"
    collector: str = ""
    _masters: list[Master] = field(default_factory=list, init=False, repr=False)
    _ports: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    @property
    def ca_file(self) -> Path:
        """The authority behind the TLS certificate of collector and access point."""
        return self.folder / "tls/ca.pem"

    @property
    def reader_token(self) -> Path:
        """Tokens of ``reader@…``, one a line: may read at the central manager and the access point, nothing else."""
        return self.folder / "reader.tokens"

    @property
    def mapping_table(self) -> Path:
        """What the mapping program reads."""
        return self.folder / "mapping/table.json"

    @property
    def accounting_map(self) -> Path:
        """Account to accounting group, as the access point reads it at :meth:`reconfig`."""
        return self.folder / "mapping/accounting.map"

    @property
    def credentials(self) -> Path:
        """Where the access point keeps the tokens of people's jobs."""
        return self.folder / ACCESS / "credentials"

    def start(self) -> "RealPool":
        """Start everything and wait until the sites offer slots.

        Raises
        ------
        Unavailable
            When it does not come up; the message holds the end of a log.
        """
        private_folder(self.folder)
        private_folder(self.mapping_table.parent)
        write_certificate(self.folder / "tls", self.hostname, f"{self.hostname}.{self.domain}")
        write_private(self.mapping_table, mapper.EMPTY)
        write_private(self.accounting_map, "")
        try:
            self._start_central_manager()
            self._start_access_point()
            for site, address in self.sites.items():
                self.start_node(site, site, address)
            self._wait_until_complete()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything, running jobs too; may be called twice."""
        for master in self._masters:
            if master.process and master.alive():
                master.process.send_signal(signal.SIGTERM)
        for master in self._masters:
            master.stop(grace=keeper.GRACE_SECONDS + 5)
        self._masters.clear()
        self._ports.close()

    def __enter__(self) -> "RealPool":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def daemons(self) -> list[Daemon]:
        """A master for each machine of the pool; started anew after its death, each comes back with its machine's state."""
        return list(self._masters)

    def reconfig(self) -> None:
        """Let the access point read its configuration and the accounting map again."""
        self.tool("condor_reconfig", "-daemon", "schedd")

    def map_people(self, mapping: Mapping) -> None:
        """Put table and accounting map in force, as :mod:`af_hub.condor.watch` does in a facility."""
        replace(self.mapping_table, mapping.table)
        replace(self.accounting_map, mapping.accounting_map)
        self.reconfig()

    def share(self, policy: Policy) -> None:
        """Put the policy's accounting groups in force, as :mod:`af_hub.condor.watch` does in a facility."""
        replace(self.mapping_table.with_name(CLAIMS), describe_claims(policy))
        replace(self.mapping_table.with_name(GROUPS), describe_groups(policy))
        self.reconfig()
        self.tool("condor_reconfig", "-daemon", "negotiator")

    def seed_issuer(self, issuer: str, jwks: str) -> None:
        """Make the daemons know an issuer's public keys (a JWK set as text), without asking it."""
        for role in (CENTRAL, ACCESS):
            seed_keys(self.folder / role / "run/cache", issuer, jwks)

    def operator_environment(self) -> dict[str, str]:
        """Environment in which HTCondor's tools act with the operator's tokens."""
        return self._environment("operator")

    def tool(self, name: str, *arguments: str, role: str = "operator") -> str:
        """Run one of HTCondor's tools as the operator and return what it says."""
        path = next(self.prefix / "usr" / folder / name for folder in ("bin", "sbin") if self._has(folder, name))
        environment = self._environment(role)
        try:
            done = subprocess.run(
                [path, *arguments], env=environment, capture_output=True, text=True, timeout=TOOL_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{name} took more than {TOOL_SECONDS} s") from error
        if done.returncode:
            raise Unavailable(f"{name} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _has(self, folder: str, name: str) -> bool:
        return (self.prefix / "usr" / folder / name).exists()

    def _environment(self, role: str) -> dict[str, str]:
        return {
            "PATH": f"{self.prefix}/usr/bin:{self.prefix}/usr/sbin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "CONDOR_CONFIG": str(self.folder / role / "etc/condor_config"),
        }

    def _start_central_manager(self) -> None:
        self._make_folders(CENTRAL)
        write_private(self.folder / CENTRAL / "etc/passwords.d/POOL", os.urandom(64))
        address_file = self.folder / CENTRAL / "log/.collector_address"
        port = self._hold_port()
        self.collector = f"{self.hostname}:{port}"
        variables = {"SHARED_PORT_PORT": port, "COLLECTOR_ADDRESS_FILE": str(address_file)}
        variables |= {"AF_NEGOTIATOR_GROUPS": str(self.mapping_table.with_name(GROUPS))}
        files = ["common.conf", "identities.conf", "central-manager.conf"]
        master = self._start_master(CENTRAL, self.address, variables, files)
        master.wait_until(lambda: bool(read_line(address_file)), START_SECONDS)

    def _start_access_point(self) -> None:
        self._make_folders(ACCESS)
        write_private(self.folder / ACCESS / "etc/passwords.d/ACCESS-POINT", os.urandom(64))
        variables = {"AF_SCHEDD_NAME": self.schedd, "AF_ACCOUNTING_MAP": str(self.accounting_map)}
        variables |= {"AF_QUOTA_SETTINGS": str(self.accounting_map.with_name(CLAIMS))}
        variables |= {"AF_CREDENTIALS": str(self.credentials), "AF_CREDMON": str(Path(credmon.__file__))}
        variables |= {"SHARED_PORT_PORT": self._hold_port()}
        private_folder(self.credentials)
        files = ["common.conf", "identities.conf", "access-point.conf"]
        self._configure(ACCESS, self.address, variables, files)
        rights = ("ADVERTISE_SCHEDD", "ADVERTISE_MASTER", "READ")
        write_private(self.folder / ACCESS / "etc/tokens.d/pool", self._token(CENTRAL, "access-point", *rights))
        address = {"SCHEDD_ADDRESS_FILE": str(self.folder / ACCESS / "spool/.schedd_address")}
        self._configure("operator", self.address, address, ["common.conf"])
        operator = [self._token(role, "root", "ADMINISTRATOR") for role in (CENTRAL, ACCESS)]
        write_private(self.folder / "operator/etc/tokens.d/operator", "".join(operator))
        write_private(self.reader_token, "".join(self._token(role, "reader", "READ") for role in (CENTRAL, ACCESS)))
        self._start_master(ACCESS, self.address, variables, files)

    def _hold_port(self) -> str:
        """A port that is ours until we stop, also while nobody listens there: a daemon started anew is found where it was."""
        return str(self._ports.enter_context(hold_port(host=self.address)).getsockname()[1])

    def start_node(self, name: str, site: str, address: str, enter: Sequence[str] = ()) -> None:
        """Start a worker node of a site in the folder ``name``; ``enter`` is a command that runs another one where the node is."""
        rights = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ")
        self._make_folders(name)
        write_private(self.folder / name / "etc/tokens.d/pool", self._token(CENTRAL, f"site-{site}", *rights))
        variables = {
            "AF_SITE": site,
            "AF_UPDATE_INTERVAL": "2",
            "AF_TOKEN_INTERVAL": "2",
            "AF_JOB_ENVIRONMENT": describe_environment(self.worker_environment),
            "NUM_CPUS": str(self.cpus),
            "MEMORY": str(self.memory),
        }
        self._start_master(name, address, variables, ["common.conf", "worker-node.conf"], enter)

    def credential(self, name: str) -> str:
        """Tokens of the pool, one a line, with which jobs are submitted for an account that needs no person: ``af-check-1``."""
        return "".join(self._token(role, name, "READ", "WRITE") for role in (CENTRAL, ACCESS))

    def _token(self, role: str, name: str, *rights: str) -> str:
        """A token of the pool for ``name``, signed with the key of ``role`` and limited to ``rights``."""
        key = {CENTRAL: "POOL", ACCESS: "ACCESS-POINT"}[role]
        limits = [word for right in rights for word in ("-authz", right)]
        return self.tool("condor_token_create", "-identity", f"{name}@{self.domain}", "-key", key, *limits, role=role)

    def _make_folders(self, role: str) -> None:
        for name in FOLDERS:
            private_folder(self.folder / role / name)

    def _configure(self, role: str, address: str, variables: Names[str, str], files: list[str]) -> None:
        self._make_folders(role)
        local = self.folder / role
        hostname = self.hostname if address == self.address else f"{role.lower().replace('_', '-')}.{self.domain}"
        common = {
            "AF_POOL_DOMAIN": self.domain,
            "AF_CENTRAL_MANAGER": self.collector.replace(self.hostname, self.address),
            "AF_TLS_CERTIFICATE": str(self.folder / "tls/tls.pem"),
            "AF_TLS_KEY": str(self.folder / "tls/tls.key"),
            "AF_TLS_CA": str(self.ca_file),
            "AF_AUDIENCE": self.audience,
            "AF_PYTHON": self.python,
            "AF_MAPPER": str(Path(mapper.__file__)),
            "AF_MAPFILE": str(CONFIGURATION / "mapfile"),
            "AF_MAPPING_TABLE": str(self.mapping_table),
        }
        paths = [CONFIGURATION / name for name in files]
        text = describe_daemons(local, self.prefix, address, hostname, {**common, **variables}, paths)
        write_private(local / "etc/condor_config", text)

    def _start_master(
        self, role: str, address: str, variables: Names[str, str], files: list[str], enter: Sequence[str] = ()
    ) -> Master:
        self._configure(role, address, variables, files)
        # HTCondor's daemons and jobs leave every process group that they are put into.
        argv = [*enter, sys.executable, "-I", "-S", keeper.__file__, str(self.prefix / "usr/sbin/condor_master"), "-f"]
        local = self.folder / role
        master = Master(f"condor_master of {role}", argv, local / "log/master.out", self._environment(role), local)
        self._masters.append(master)
        master.start()
        return master

    def _wait_until_complete(self) -> None:
        """Wait for the access point and a slot at every site; not longer than all machines are well."""

        def illness() -> str:
            return next((sentence for master in self._masters if (sentence := master.illness())), "")

        if not comes_true(lambda: bool(illness()) or not self._missing(), START_SECONDS):
            missing = ", no ".join(self._missing())
            raise Unavailable(f"the pool has no {missing} after {START_SECONDS} s; its logs are below {self.folder}")
        if sentence := illness():
            raise Unavailable(sentence)

    def _missing(self) -> list[str]:
        """What the collector does not know yet of what must be there."""
        try:
            found = self.tool("condor_status", "-any", "-af", "MyType", "SiteName").split("\n")
        except Unavailable as error:
            return [f"central manager that answers ({error})"]
        missing = [] if any(line.startswith("Scheduler") for line in found) else ["access point"]
        return missing + [f"slot at {site}" for site in self.sites if f"Machine {site}" not in found]


def read_line(path: Path) -> str:
    """The first line of a file, empty while there is none."""
    try:
        return path.read_text().split("\n", 1)[0]
    except OSError:
        return ""


def why_not_here() -> str:
    """Why this process cannot start a pool, as a sentence; empty when it can."""
    if os.geteuid() == 0:
        return (
            "HTCondor's daemons run as an ordinary user here, not as root; "
            "put `unshare -U --map-user=65534 --map-group=65534` before the command"
        )
    return ""


def map_demo_people(pool: RealPool, iam: "DemoIAM") -> None:
    """Let the pool know an IAM's keys, and its users as ``hub_config/facility.yaml`` says."""
    policy = load_policy(places.CONFIGURATION / "facility.yaml", lenient=True)
    people = [Person(iam.issuer, user.subject, user.username) for user in iam.users.values()]
    pool.seed_issuer(iam.issuer, json.dumps(iam.keys.published()))
    pool.map_people(compile_mapping(policy, people, time.time()))
