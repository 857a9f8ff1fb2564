"""A real XRootD origin and cache on loopback, for tests and for the demo.

Serves the hop "data". The programs are Debian's packages, unpacked into the user's cache without root and started through their
own loader, so that they run on a Linux with an older C library too. The configurations are those that administrators get in
``hub_config/xrootd``. Promises: a started server answers the protocol; a stopped one has no process left; a restarted one has
the same port. Leaves the data to :mod:`af_hub.demo.data` and the clients' configuration to :mod:`af_hub.session.xrootd`.

Limit: here the servers ask for no token, and every process of this machine reads what they have; other machines are refused. Those with
tokens are made by :mod:`af_hub.testing.xrootd_tokens`.
"""

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Self

from af_hub.errors import Unavailable
from af_hub.session.authorities import authority_files
from af_hub.session.fragments import merge
from af_hub.session.probes import xrootd_answers
from af_hub.session.xrootd import datasets_fragment, xrootd_fragment
from af_hub.testing import debian
from af_hub.testing.places import CONFIGURATION
from af_hub.testing.process import Daemon

SUITE = "trixie"
PACKAGES = ("xrootd-server", "xrootd-server-plugins", "xrootd-plugins", "xrootd-scitokens-plugins")
LAYOUT = "2"
"""Change it when the packages change: checkouts of different versions on one machine have a folder each."""
CONFIG = CONFIGURATION / "xrootd"
# Debian's name of the library folder, and the loader in it.
LOADERS = {
    "x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "aarch64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
ORIGIN_HOST = "127.0.3.1"
PUBLIC, PROTECTED = "/store", "/protected"
SECRETS = "/proc/self/cwd/secrets"
READY_SECONDS = 20
SERVES = re.compile(r"^------ xrootd \S+:(\d+) initialization completed\.$", re.MULTILINE)

Progress = Callable[[str], None]


def loader_paths(folder: Path) -> tuple[Path, Path]:
    """The library folder and the loader of Debian packages unpacked in ``folder``."""
    try:
        triplet, loader = LOADERS[platform.machine()]
    except KeyError as error:
        raise Unavailable(f"no XRootD servers for {platform.machine()}, only for {' and '.join(LOADERS)}") from error
    return folder / "usr/lib" / triplet, folder / "usr/lib" / triplet / loader


def xrootd_folder(progress: Progress = lambda _: None) -> Path:
    """Have XRootD's servers in the user's cache, 55 MB, and return their folder; the first time this takes some ten seconds.

    Raises
    ------
    Unavailable
        When Debian's packages cannot be had here, with the reason.
    """
    into = debian.cache_folder() / f"xrootd-{SUITE}-{LAYOUT}"
    with debian.whole_folder(into, f"{SUITE} {' '.join(PACKAGES)}", progress) as building:
        if building:
            with TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as apt:
                for package in debian.download(PACKAGES, SUITE, Path(apt), progress):
                    debian.run(["dpkg-deb", "-x", str(package), str(building)], debian.UNPACK_SECONDS)
            prune(building)
    return into


def xrootd_command(programs: Path, *arguments: str) -> list[str]:
    """How to start the ``xrootd`` in that folder; it finds its plugins along the same library path."""
    libraries, loader = loader_paths(programs)
    return [str(loader), "--library-path", str(libraries), str(programs / "usr/bin/xrootd"), *arguments]


def prune(folder: Path) -> None:
    """Keep the server and the libraries; the rest of the packages is two thirds of their size."""
    libraries, _ = loader_paths(folder)
    kept = folder / "kept"
    (kept / "usr/bin").mkdir(parents=True)
    (kept / libraries.relative_to(folder)).mkdir(parents=True)
    for path in [folder / "usr/bin/xrootd", *libraries.glob("*.so*")]:
        path.rename(kept / path.relative_to(folder))
    for path in set(folder.iterdir()) - {kept}:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (kept / "usr").rename(folder / "usr")
    kept.rmdir()


@dataclass
class Server:
    """One XRootD daemon with a folder of its own.

    Parameters
    ----------
    programs
        What :func:`xrootd_folder` returned.
    folder
        Where it keeps everything: ``data``, ``run`` and ``log``; may exist already.
    data
        What an origin serves, or where a cache keeps its blocks; ``folder/data`` when None.
    host
        The address under which clients reach it. XRootD listens on all addresses of the machine.
    port
        0 takes a free one at the first start and keeps it.
    clients
        Who may connect, as a pattern of addresses; 127.0.0.1 is where connections to any loopback address come from.
    secrets
        The folder that ``hub_config/xrootd/tokens.cfg`` wants; None for a server that asks for no tokens.
    """

    programs: Path
    folder: Path
    data: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    clients: str = "127.0.0.1"
    secrets: Path | None = None
    daemon: Daemon | None = field(default=None, init=False, repr=False)
    name: ClassVar[str]

    @property
    def url(self) -> str:
        """``root://host:port``."""
        return f"root://{self.host}:{self.port}"

    @property
    def data_folder(self) -> Path:
        """Where its files are."""
        return (self.data or self.folder / "data").resolve()

    @property
    def log(self) -> Path:
        """What it says, since its last start."""
        return self.folder / "log"

    def variables(self) -> dict[str, str]:
        """What the configuration in ``hub_config/xrootd`` takes from the environment."""
        return {
            "AF_XROOTD_PORT": str(self.port or "any"),
            # Its own folder by a name that is short and has no space: XRootD makes Unix sockets there, whose paths may have 107
            # bytes only, and its configuration takes a space for the end of a value.
            "AF_XROOTD_DATA": "/proc/self/cwd/data",
            "AF_XROOTD_RUN": "/proc/self/cwd/run",
            "AF_XROOTD_CLIENTS": self.clients,
            "AF_XROOTD_RULES": "/proc/self/cwd/rules.cfg",
            **(
                {"AF_XROOTD_SECRETS": SECRETS, "XDG_CACHE_HOME": SECRETS, "X509_CERT_FILE": f"{SECRETS}/ca.pem"}
                if self.secrets
                else {}
            ),
        }

    def start(self) -> Self:
        """Start it and wait until it answers XRootD's handshake.

        Raises
        ------
        Unavailable
            When run as root, or when it does not serve within some seconds; the message holds the end of its log.
        """
        if os.geteuid() == 0:
            raise Unavailable("XRootD's servers refuse to run as root: start this as an ordinary user")
        self.make_folders()
        self.log.unlink(missing_ok=True)
        argv = xrootd_command(self.programs, "-c", str(CONFIG / f"{self.name}.cfg"))
        # The whole environment: a client configuration of the caller would send the cache to itself.
        self.daemon = Daemon(f"XRootD {self.name}", argv, self.log, self.variables(), cwd=self.folder).start()
        try:
            self.daemon.wait_until(self.serves, READY_SECONDS)
        except Unavailable:
            self.stop()
            raise
        self.daemon.env = self.variables()  # started anew, it takes the same port
        return self

    def make_folders(self) -> None:
        """Make what it needs: ``run``, and ``data``, which may be a link to data elsewhere."""
        for folder in (self.data_folder, self.folder / "run"):
            folder.mkdir(parents=True, exist_ok=True)
        links = {"rules.cfg": CONFIG / ("tokens.cfg" if self.secrets else "open.cfg")}
        links |= {name: path.resolve() for name, path in (("data", self.data), ("secrets", self.secrets)) if path}
        for name, target in links.items():
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / name).symlink_to(target)

    def serves(self) -> bool:
        """Whether it has said its port and answers there."""
        said = SERVES.search(self.log.read_text(errors="replace"))
        if said:
            self.port = int(said[1])
        return bool(said) and xrootd_answers(self.host, self.port)

    def stop(self) -> None:
        """End it; its data stay."""
        if self.daemon:
            self.daemon.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass
class Origin(Server):
    """A data server: what lies in ``store`` of its data folder is read at ``root://host:port//store``, and with a token in ``protected``."""

    name = "origin"

    def variables(self) -> dict[str, str]:
        """As every server's, and what is protected."""
        return super().variables() | ({"AF_XROOTD_PROTECTED": PROTECTED} if self.secrets else {})


@dataclass
class Cache(Server):
    """A proxy file cache, which fetches from the one permitted host and from nowhere else."""

    permitted: str = ""
    name = "cache"

    def variables(self) -> dict[str, str]:
        """As every server's, and where to fetch."""
        return super().variables() | {
            "AF_XROOTD_ORIGIN": self.permitted,
            # Seconds: how long a failed origin is given up (unset: 1800), how often its address is looked up again (unset: 15).
            "XRD_STREAMERRORWINDOW": "10",
            "XRD_TIMEOUTRESOLUTION": "1",
            **({"XrdSecSSSKT": f"{SECRETS}/sss.keytab"} if self.secrets else {}),
        }


@dataclass(frozen=True)
class DataService:
    """An origin and the cache in front of it."""

    origin: Origin
    cache: Cache

    @property
    def ca_file(self) -> Path | None:
        """The authority behind the servers' certificates; None when they have none."""
        return self.origin.secrets / "ca.pem" if self.origin.secrets else None

    def client_environment(self, folder: Path, datasets: Mapping[str, Sequence[str]] | None = None) -> dict[str, str]:
        """The whole environment of a client that reads through the cache, as in a session whose folder is ``folder``."""
        authorities = authority_files(self.ca_file.read_bytes()) if self.ca_file else {}
        fragment = merge(
            xrootd_fragment(str(folder), self.cache.url, authorities=authorities), datasets_fragment(datasets or {})
        )
        for name, text in fragment.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return {"PATH": os.environ["PATH"], "HOME": str(folder), **fragment.environment}


@contextmanager
def open_data_service(
    folder: Path, data: Path | None = None, progress: Progress = lambda _: None
) -> Iterator[DataService]:
    """Start an origin, which serves ``data``, and a cache before it, with all they need in ``folder``.

    The origin has a loopback address of its own: clients and caches tell hosts apart, but not their ports.
    """
    programs = xrootd_folder(progress)
    with (
        Origin(programs, folder / "origin", data, ORIGIN_HOST) as origin,
        Cache(programs, folder / "cache", permitted=origin.host) as cache,
    ):
        yield DataService(origin, cache)
