"""The whole facility as processes of one user on one machine, in one folder.

Order: who needs an address waits for it. The proxy, the IAM, XRootD, and the keys with the forwarder begin at once; the pool waits for the
cache's address, the hub for the pool's, the controller for the hub's. The homes of earlier runs stay, everything else is new.

Limits, printed at the start: one OS user, so that code in one session can read the others; sites are addresses of this machine
without a firewall; the cache asks for no token.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import httpx
from rich.console import Console

from af_hub.demo.data import make_dataset
from af_hub.demo.machine import full_disk
from af_hub.demo.parts import data_folder, images_folder
from af_hub.demo.people import USERS_FILE, demo_users
from af_hub.demo.processes import be_guarded, end_descendants
from af_hub.demo.revival import Revival
from af_hub.demo.site import FACTS
from af_hub.errors import Unavailable
from af_hub.files import write_private
from af_hub.policy.load import load_policy
from af_hub.ready import say_ready
from af_hub.session.processes import die_with
from af_hub.session.xrootd import PLUGIN_CONFIGURATION, PLUGIN_FILE, xrootd_environment
from af_hub.testing.condor import RealPool
from af_hub.testing.condor_prefix import find_condor
from af_hub.testing.hub import FACILITY, HubPlan, hub_daemon, hub_listens, hub_serves, iam_daemon, proxy_daemon
from af_hub.testing.iam_authority import ISSUER
from af_hub.testing.process import Daemon, free_port, hold_port
from af_hub.testing.xrootd import Cache, Origin, xrootd_folder

# A Unix socket's path has at most 107 bytes, and the longest below our folder needs about 50 of them.
LONGEST_FOLDER = 55
ORIGIN_ADDRESS = "127.0.3.1"
PROXY_SECONDS, HUB_SECONDS = 20, 60
LOOK_SECONDS = 0.25
# MB: what a demo needs, its cache and logs; what two jobs of a Dask cluster ask for beside; what is as good as none.
LEAST_SPACE, SPACE_FOR_JOBS, NO_SPACE = 300, 2500, 2


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
    users_file
        The people of the IAM.
    sites
        As in :class:`~af_hub.testing.condor.RealPool`; those of the policy, at addresses of this machine, when None.
    cache_clients
        Who may read through the cache, as a pattern of addresses.
    """

    checkout: Path
    folder: Path
    port: int = 0
    facility_file: Path = FACILITY
    users_file: Path = USERS_FILE
    address: str = "127.0.0.1"
    hostname: str = "localhost"
    sites: Mapping[str, str] | None = None
    cache_clients: str = "127.0.0.1"
    daemons: list[Daemon] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.users = demo_users(self.users_file)
        self.sites = addresses_of_sites(self.facility_file) if self.sites is None else self.sites
        clear(self.folder)
        self.plan = HubPlan(self.folder / "hub", public_port=self.port, facility=self.facility_file)
        programs = xrootd_folder()
        self.origin = Origin(programs, self.folder / "origin", data_folder(lambda _: None), ORIGIN_ADDRESS)
        self.cache = Cache(
            programs, self.folder / "cache", host=self.address, clients=self.cache_clients, permitted=ORIGIN_ADDRESS
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
            for start in (self._start_pool, self._start_hub, self._start_controller):
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
        }

    def _start_proxy(self) -> None:
        # First of all, so that the port that people type is ours before anything waits.
        self._begin(proxy_daemon(self.plan)).wait_until(lambda: hub_listens(self.plan), PROXY_SECONDS)

    def _start_iam(self) -> None:
        folder = self.folder / "iam"
        folder.mkdir(mode=0o700)
        daemon = iam_daemon(folder, [self.plan.iam_client()], self.users_file, state=str(folder / "state.json"))
        self.iam = self._begin(daemon).ready()
        daemon.argv = [*daemon.argv, "--port", str(urlsplit(self.iam["url"]).port)]

    def _iam_keys(self) -> str:
        try:
            return httpx.get(self.iam["jwks"], timeout=10).raise_for_status().text
        except httpx.HTTPError as error:
            raise Unavailable(f"the demo IAM does not give its keys: {error}") from error

    def _start_data(self) -> None:
        self.origin.start()
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
        pool = RealPool(self.folder / "pool", find_condor(), address=self.address, hostname=self.hostname)
        pool.worker_environment = xrootd_environment(self.cache.url, str(plugins))
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
        self._begin(Daemon("mapping", argv, self.folder / "mapping.log", env=self.pool.operator_environment())).ready()

    def _start_hub(self) -> None:
        extra = self.folder / "hub" / "demo_config.py"
        dataset = make_dataset(data_folder(lambda _: None))
        extra.write_text(
            f"c.LocalAFSpawner.welcome = {str(Path(__file__).with_name('Welcome.ipynb'))!r}\n"
            f"c.LocalAFSpawner.datasets = {{'dimuon': {dataset.urls(self.origin.url)!r}}}\n"
        )
        hub = self._begin(hub_daemon(self.plan, self._environ(), extra))
        hub.wait_until(lambda: self._see_all_alive() and hub_serves(self.plan), HUB_SECONDS)

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


@dataclass(frozen=True)
class Place:
    """A folder that is ours alone while ``lock`` is open; ``brief`` when it is taken away at the end."""

    folder: Path
    lock: TextIO
    brief: bool

    def leave(self) -> None:
        """Take away what should not stay."""
        if self.brief:
            shutil.rmtree(self.folder, ignore_errors=True)


def take_place(wanted: Path) -> Place:
    """``wanted``, or the next free one beside it when a demo runs there; a short one elsewhere when its path is too long.

    Raises
    ------
    Unavailable
        When a hundred demos run.
    """
    if len(str(wanted.resolve())) > LONGEST_FOLDER:
        short = Path(tempfile.mkdtemp(prefix="af-hub-"))
        return Place(short, (short / "lock").open("w"), brief=True)
    for number in range(1, 100):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Place(folder, lock, brief=False)
        except BlockingIOError:
            lock.close()
    raise Unavailable(f"a demo runs in {wanted} and in each of the 98 folders after it")


def run(
    checkout: Path,
    folder: Path,
    port: int,
    ready_fd: int | None = None,
    with_parent: bool = False,
    facility_file: Path = FACILITY,
    users_file: Path = USERS_FILE,
) -> None:
    """The demo until somebody ends it: Ctrl-C, SIGTERM, the terminal's end, and the end of our parent when ``with_parent``.

    Raises
    ------
    Unavailable
        When it cannot start; the message says why. Nothing is left running.
    """
    if with_parent:
        die_with(os.getppid(), signal.SIGTERM)
    with saying_what_to_change(folder):
        place = take_place(folder)
    be_guarded(place.leave)
    console = Console(highlight=False, soft_wrap=True)
    # SIGINT too: a shell starts what it puts in the background with SIGINT ignored, and Python leaves it so.
    _on_ending_signals(_as_interrupt)
    with saying_what_to_change(place.folder):
        facility = Facility(checkout, place.folder, port_or_free(port), facility_file, users_file)
    began = time.monotonic()
    try:
        with saying_what_to_change(place.folder):
            console.print("Starting IAM, XRootD, HTCondor, forwarder, hub, controller ...")
            facility.start()
            write_private(place.folder / FACTS, json.dumps(facility.facts()))
        if port not in (0, facility.port):
            console.print(f"Port {port} is taken by another program; the hub has {facility.port} instead.")
        describe(console, facility, time.monotonic() - began)
        say_ready(ready_fd, **facility.facts())
        watch(console, facility)
    except KeyboardInterrupt:
        console.print("\nStopping ...")
    finally:
        _on_ending_signals(signal.SIG_IGN)
        (place.folder / FACTS).unlink(missing_ok=True)
        facility.stop()
        place.leave()
    console.print("Everything is stopped.")


@contextmanager
def saying_what_to_change(folder: Path) -> Iterator[None]:
    """Tell what the disk has to do with an error, also when a part whose log could not be written does not know.

    Raises
    ------
    Unavailable
        For every error of the disk.
    """
    try:
        if full := full_disk(folder, LEAST_SPACE):
            raise Unavailable(full)
        yield
    except OSError as error:
        raise Unavailable(
            f"{error.filename or folder} cannot be used ({error.strerror or error}); a folder that can be written is wanted: "
            "af-hub demo --folder FOLDER"
        ) from error
    except Unavailable as error:
        raise Unavailable(f"{error}\n{full_disk(folder, NO_SPACE)}".rstrip()) from error


def watch(console: Console, facility: Facility) -> None:
    """Until interrupted: start again what ends by itself, and say so."""
    revival = Revival(console.print, obstacle=lambda: full_disk(facility.folder, NO_SPACE))
    terminal = sys.stdin is not None and sys.stdin.isatty()
    while True:
        time.sleep(LOOK_SECONDS)
        # When make leads the terminal's session (ssh -t host make demo), it alone hears that the terminal is gone.
        if terminal and not sys.stdin.isatty():
            raise KeyboardInterrupt
        revival.look(facility.parts())


def describe(console: Console, facility: Facility, seconds: float) -> None:
    """Where to go, who one may be, what does not hold here, how to end it."""
    console.print(
        f"\nThe facility runs after {seconds:.0f} s. Open  [bold]{facility.plan.url}[/]  and sign in as one of\n"
    )
    for user in facility.users:
        console.print(f"  [bold]{user['username']:<16}[/]{' '.join(user['groups']):<20}{user['about']}")
    console.print(
        "\nLimits of this demo: everything runs as your own user, so code in one session can read the others';\n"
        f"the sites ({', '.join(facility.sites or ())}) are addresses of this machine without a firewall; the cache asks for no token.\n"
        f"Files and logs: {facility.folder}\n\n[bold]Ctrl-C[/] ends all of it."
    )
    if short := full_disk(facility.folder, SPACE_FOR_JOBS):
        console.print(f"\n[yellow]Each job asks for 1 GB of disk[/]; others will wait for ever: {short}.")


def port_or_free(port: int) -> int:
    """``port`` while nobody has it, else one that is free."""
    try:
        with hold_port(port) as held:
            return int(held.getsockname()[1])
    except OSError:
        return free_port()


def _as_interrupt(*_: object) -> None:
    # Once: a terminal's hang-up reaches us directly and again through our guard, and the second one must not cut the stopping short.
    _on_ending_signals(signal.SIG_IGN)
    raise KeyboardInterrupt


def _on_ending_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)
