"""The whole facility as processes of one user on one machine, in one folder.

Order: who needs an address waits for it. The proxy, the IAM, XRootD, and the keys with the forwarder begin at once; the pool waits for the
cache's address, the hub for the pool's, the controller for the hub's. The homes of earlier runs stay, everything else is new.

Its sessions are processes too, or pods of a cluster that somebody else runs (:mod:`af_hub.demo.pods`).

Limits, which :mod:`af_hub.demo.run` prints at the start: one OS user, so that code in one session can read the others, unless they are pods;
sites are addresses of this machine without a firewall; all data but ``/protected`` are read without a token.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from af_hub.demo.data import make_dataset, protect
from af_hub.demo.parts import data_folder, images_folder
from af_hub.demo.people import USERS_FILE, demo_users
from af_hub.demo.pods import PodSessions
from af_hub.demo.processes import end_descendants
from af_hub.errors import Unavailable
from af_hub.policy.load import load_policy
from af_hub.session.authorities import authority_files
from af_hub.session.xrootd import PLUGIN_CONFIGURATION, PLUGIN_FILE, xrootd_environment
from af_hub.testing.condor import RealPool
from af_hub.testing.condor_prefix import find_condor
from af_hub.testing.hub import FACILITY, HubPlan, hub_daemon, hub_listens, hub_serves, iam_daemon, proxy_daemon
from af_hub.testing.iam_authority import ISSUER
from af_hub.testing.process import Daemon
from af_hub.testing.xrootd import PUBLIC, Cache, Origin, xrootd_folder
from af_hub.testing.xrootd_tokens import prepare_secrets, write_rules

ORIGIN_ADDRESS = "127.0.3.1"
PROXY_SECONDS, HUB_SECONDS = 20, 60


@dataclass
class Facility:
    """Everything that runs; ``start`` and ``stop`` it once.

    Parameters
    ----------
    folder
        Where all of it lies, mode 0700.
    port
        The hub's; any free one when 0.
    address, hostname
        Where sites find central manager, access point, forwarder and cache; all else is for this machine only.
    origin_address
        Where the data's origin is found.
    users_file
        The people of the IAM.
    sites
        As in :class:`~af_hub.testing.condor.RealPool`; those of the policy, at addresses of this machine, when None.
    origin_clients, cache_clients
        Who may connect to each, as a pattern of addresses.
    token_seconds
        How long access tokens of the IAM live.
    iam_port
        The IAM's; any free one when 0.
    pods
        The cluster whose pods the sessions are; then hub and controller are found at ``address`` too. Processes when None.
    """

    checkout: Path
    folder: Path
    port: int = 0
    facility_file: Path = FACILITY
    users_file: Path = USERS_FILE
    address: str = "127.0.0.1"
    hostname: str = "localhost"
    sites: Mapping[str, str] | None = None
    origin_address: str = ORIGIN_ADDRESS
    origin_clients: str = "127.0.0.1"
    cache_clients: str = "127.0.0.1"
    token_seconds: float = 3600
    iam_port: int = 0
    pods: PodSessions | None = None
    daemons: list[Daemon] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.users = demo_users(self.users_file)
        self.sites = addresses_of_sites(self.facility_file) if self.sites is None else self.sites
        clear(self.folder)
        at = {"address": self.address} if self.pods else {}
        self.plan = HubPlan(self.folder / "hub", public_port=self.port, facility=self.facility_file, **at)
        programs = xrootd_folder()
        for_origin, for_cache = prepare_secrets(self.folder / "data-secrets", self.address, self.origin_address)
        self.origin = Origin(
            programs,
            self.folder / "origin",
            data_folder(lambda _: None),
            self.origin_address,
            clients=self.origin_clients,
            secrets=for_origin,
        )
        self.cache = Cache(
            programs,
            self.folder / "cache",
            host=self.address,
            clients=self.cache_clients,
            secrets=for_cache,
            permitted=self.origin_address,
        )
        self.pool: RealPool | None = None
        self.forwarder: dict[str, Any] = {}
        self.iam: dict[str, Any] = {}

    def start(self) -> None:
        """Start all parts; what has started is stopped again when one fails.

        Raises
        ------
        Unavailable
            When a part does not come up; the message holds the end of its log.
        """
        try:
            with ThreadPoolExecutor(max_workers=4) as pool:
                steps = (self._start_proxy, self._start_iam, self._start_data, self._start_forwarder)
                early = [pool.submit(step) for step in steps]
                for step in early:
                    step.result()
            for start in (self._start_pool, self._start_data_rules, self._start_hub, self._start_controller):
                self._see_all_alive()
                start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all parts, the last one first, then whatever they left running."""
        while self.daemons:
            self.daemons.pop().stop()
        if self.pool:
            self.pool.stop()
        self.cache.stop()
        self.origin.stop()
        end_descendants()

    def facts(self) -> dict[str, Any]:
        """Addresses and places for whoever tests this facility; no secrets."""
        assert self.pool is not None
        return {
            "url": self.plan.url,
            "folder": str(self.folder),
            "iam": self.iam["url"],
            "controller": self.plan.controller_url,
            "forwarder": self.forwarder,
            "collector": self.pool.collector,
            "schedd": self.pool.schedd,
            "condor_prefix": str(self.pool.prefix),
            "pool_folder": str(self.pool.folder),
            "pool_ca": str(self.pool.ca_file),
            "reader_tokens": str(self.pool.reader_token),
            "environment": self._environ(),
            "job_environment": dict(self.pool.worker_environment),
            "origin": self.origin.url,
            "cache": self.cache.url,
        }

    def parts(self) -> list[Daemon]:
        """Everything that should run. Started anew, each comes back on its address with its state."""
        data = [server.daemon for server in (self.origin, self.cache) if server.daemon]
        return [*self.daemons, *data, *(self.pool.daemons if self.pool else [])]

    def _begin(self, daemon: Daemon) -> Daemon:
        self.daemons.append(daemon)
        return daemon.start()

    def _see_all_alive(self) -> bool:
        """Raise when one is not: else another part would wait long for it, and be blamed."""
        for part in self.parts():
            if not part.alive():
                raise Unavailable(part.why_not_ready())
        return True

    def _environ(self) -> dict[str, str]:
        """What ``${NAME}`` in facility.yaml name; the whole environment of our daemons beside what each adds."""
        assert self.pool is not None
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "AF_PUBLIC_URL": self.plan.url,
            "AF_IAM_DISCOVERY": self.iam["discovery"],
            "AF_IMAGES": str(images_folder(self.checkout)),
            "AF_CONDOR_COLLECTOR": self.pool.collector,
            "AF_CONDOR_CA_FILE": str(self.pool.ca_file),
            "AF_XROOTD_CACHE": self.cache.url,
            "AF_XROOTD_CA_FILE": str(self._data_authority),
            "AF_REGISTRY": self.pods.registry if self.pods else "",
        }

    @property
    def _data_authority(self) -> Path:
        assert self.cache.secrets is not None
        return self.cache.secrets / "ca.pem"

    def _start_proxy(self) -> None:
        # First of all, so that the port that people type is ours before anything waits.
        self._begin(proxy_daemon(self.plan)).wait_until(lambda: hub_listens(self.plan), PROXY_SECONDS)

    def _start_iam(self) -> None:
        folder = self.folder / "iam"
        folder.mkdir(mode=0o700)
        options = {"state": str(folder / "state.json"), "lifetime": str(self.token_seconds), "port": str(self.iam_port)}
        daemon = iam_daemon(folder, [self.plan.iam_client()], self.users_file, **options)
        self.iam = self._begin(daemon).ready()
        daemon.argv = [*daemon.argv, "--port", str(urlsplit(self.iam["url"]).port)]

    def _iam_keys(self) -> str:
        try:
            return httpx.get(self.iam["jwks"], timeout=10).raise_for_status().text
        except httpx.HTTPError as error:
            raise Unavailable(f"the demo IAM does not give its keys: {error}") from error

    def _start_data(self) -> None:
        policy = load_policy(self.facility_file, lenient=True)
        write_rules(self.origin, policy)
        self.origin.start()
        write_rules(self.cache, policy, self.origin)
        self.cache.start()

    def _start_forwarder(self) -> None:
        # The controller's user CA is made by the controller; the forwarder gets its public half.
        keys = Daemon(
            "controller keys",
            [sys.executable, "-m", "af_hub.controller", "keys", "--state", str(self.folder / "controller")],
            self.folder / "controller-keys.log",
        )
        keys.start()
        assert keys.process is not None
        keys.process.wait(30)
        keys.stop()
        if keys.process.returncode:
            raise Unavailable(keys.why_not_ready())
        public_key = keys.log_tail(1)
        folder = self.folder / "forwarder"
        folder.mkdir(mode=0o700)
        argv = [sys.executable, "-m", "af_hub.forwarder.server", "--listen", f"{self.address}:0"]
        argv += ["--ready-fd", "{ready_fd}", "--host-key", str(folder / "host.key"), "--user-ca", public_key]
        daemon = Daemon("forwarder", argv, folder / "log")
        self.forwarder = self._begin(daemon).ready()
        daemon.argv = [*argv, "--listen", f"{self.forwarder['host']}:{self.forwarder['port']}"]

    def _start_pool(self) -> None:
        # What a site has on its worker nodes, so that its jobs read through the cache.
        plugins = self.folder / "site-xrootd"
        plugins.mkdir(mode=0o700)
        (plugins / PLUGIN_FILE).write_text(PLUGIN_CONFIGURATION)
        authorities = plugins / "authorities"
        authorities.mkdir()
        for name, text in authority_files(self._data_authority.read_bytes()).items():
            (authorities / name).write_text(text)
        pool = RealPool(self.folder / "pool", find_condor(), address=self.address, hostname=self.hostname)
        pool.worker_environment = xrootd_environment(self.cache.url, str(plugins), authorities_folder=str(authorities))
        assert self.sites is not None
        pool.sites = self.sites
        self.pool = pool.start()
        self.pool.seed_issuer(ISSUER, self._iam_keys())
        people = self.folder / "people.json"
        keys = ("subject", "username")
        people.write_text(json.dumps([{"issuer": ISSUER} | {key: user[key] for key in keys} for user in self.users]))
        argv = [
            sys.executable,
            "-m",
            "af_hub.condor.watch",
            "--policy",
            str(self.facility_file),
            "--people",
            str(people),
        ]
        argv += ["--into", str(self.pool.mapping_table.parent), "--ready-fd", "{ready_fd}"]
        argv += ["--tell", "schedd", "--tell", "negotiator"]
        self._begin(Daemon("mapping", argv, self.folder / "mapping.log", env=self.pool.operator_environment())).ready()

    def _start_data_rules(self) -> None:
        """What keeps the rules and the IAM's keys of origin and cache fresh; nobody waits for it."""
        argv = [sys.executable, "-m", "af_hub.xrootd.watch", "--policy", str(self.facility_file), "--public", PUBLIC]
        argv += ["--origin", str(self.origin.secrets), "--cache", str(self.cache.secrets), self.origin.url]
        self._begin(Daemon("data rules", argv, self.folder / "data-rules.log", env=self._environ()))

    def _start_hub(self) -> None:
        assert self.pool is not None
        extra = self.folder / "hub" / "demo_config.py"
        extra.write_text(self._hub_configuration())
        hub = self._begin(hub_daemon(self.plan, self._hub_environ(), extra))
        hub.wait_until(lambda: self._see_all_alive() and hub_serves(self.plan), HUB_SECONDS)

    def _hub_environ(self) -> dict[str, str]:
        return self._environ() | (self.pods.environment() if self.pods else {})

    def _hub_configuration(self) -> str:
        assert self.pool is not None
        dataset = make_dataset(data_folder(lambda _: None))
        datasets = {"dimuon": dataset.urls(self.origin.url), "protected": [self.origin.url + protect(dataset)]}
        common = (
            f"c.ChoosingSpawner.welcome = {str(Path(__file__).with_name('Welcome.ipynb'))!r}\n"
            f"c.ChoosingSpawner.datasets = {datasets!r}\n"
        )
        if self.pods:
            return common + self.pods.configuration(self.plan.controller_url)
        return common + f"c.LocalAFSpawner.tools = {[str(self.pool.prefix / 'usr/bin')]!r}\n"

    def _start_controller(self) -> None:
        assert self.pool is not None
        environ = self._environ() | {
            "AF_FACILITY_FILE": str(self.facility_file),
            "AF_STATE_DIR": str(self.folder / "controller"),
            "AF_HUB_API_URL": self.plan.api_url,
            "AF_CONTROLLER_TOKEN_FILE": str(self.plan.folder / "controller_token"),
            "AF_PUBLIC_URL": self.plan.url,
            "AF_FORWARDER_HOST": self.forwarder["host"],
            "AF_FORWARDER_PORT": str(self.forwarder["port"]),
            "AF_FORWARDER_HOST_KEY": self.forwarder["host_key"],
            "AF_CONDOR_READER_TOKEN_FILE": str(self.pool.reader_token),
        }
        listen = self.plan.controller_url.removeprefix("http://")
        argv = [sys.executable, "-m", "af_hub.controller", "--listen", listen, "--ready-fd", "{ready_fd}"]
        self._begin(Daemon("controller", argv, self.folder / "controller.log", env=environ)).ready()


def addresses_of_sites(facility_file: Path) -> dict[str, str]:
    """An address of this machine for each site of a policy; of the demo's own, 127.0.1.1 and 127.0.2.1.

    Raises
    ------
    PolicyError
        When the policy is wrong.
    """
    names = load_policy(facility_file, lenient=True).sites
    free = (address for number in range(1, 255) if (address := f"127.0.{number}.1") != ORIGIN_ADDRESS)
    return dict(zip(names, free, strict=False))


def clear(folder: Path) -> None:
    """Make the folder, mode 0700, and take away all that an earlier run left but the homes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    homes, kept = folder / "hub" / "home", folder / "homes-kept"
    if homes.is_dir():
        homes.rename(kept)
    for path in set(folder.iterdir()) - {kept, folder / "lock"}:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if kept.is_dir():
        homes.parent.mkdir(mode=0o700)
        kept.rename(homes)
