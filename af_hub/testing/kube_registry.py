"""A real image registry as a process: Debian's package docker-registry, with its images in a folder.

For the nodes of a test's cluster, and for what asks a registry about images. With ``people`` it wants a name and a password.
"""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from af_hub.files import write_private
from af_hub.testing.process import Daemon, free_port

PROGRAM = "docker-registry"
PACKAGE = "docker-registry"


class Registry:
    """Serves the images in ``folder`` at ``host``, on a free port when none is given; a context.

    Parameters
    ----------
    people
        Names and their passwords as ``htpasswd -B`` writes them; anybody may read and write when there are none.
    tls
        Certificate and key; without them it speaks plain HTTP.
    program
        Where it is, when not among the machine's programs (:func:`af_hub.testing.registry.find_registry`).
    """

    def __init__(
        self,
        folder: Path,
        logs: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        people: Mapping[str, str] | None = None,
        tls: tuple[Path, Path] | None = None,
        program: str = PROGRAM,
    ) -> None:
        self.folder, self.host, self.port = folder, host, port or free_port(host)
        self.people, self.tls = dict(people or {}), tls
        self._files = logs / "registry"
        self._daemon = Daemon("registry", [program, "serve", str(self._files / "config.yml")], logs / "registry.log")

    @property
    def address(self) -> str:
        """Where it answers, such as ``10.88.0.1:5000``."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The same with the protocol."""
        return f"http{'s' if self.tls else ''}://{self.address}"

    def config(self) -> str:
        """What it reads; YAML, of which JSON is a part."""
        tls = {"tls": dict(zip(("certificate", "key"), map(str, self.tls), strict=True))} if self.tls else {}
        auth = {"auth": {"htpasswd": {"realm": "registry", "path": str(self._files / "people")}}} if self.people else {}
        return json.dumps(
            {
                "version": "0.1",
                "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(self.folder)}, "delete": {"enabled": True}},
                "http": {"addr": self.address, **tls},
                **auth,
            }
        )

    def answers(self) -> bool:
        """Whether it listens, which it does only once it serves."""
        try:
            socket.create_connection((self.host, self.port), 2).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files.mkdir(parents=True, exist_ok=True)
        write_private(self._files / "people", "".join(f"{name}:{secret}\n" for name, secret in self.people.items()))
        (self._files / "config.yml").write_text(self.config())
        self._daemon.start().wait_until(self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.stop()
