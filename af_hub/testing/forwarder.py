"""A real forwarder in a folder, with a user CA of its own that certifies whatever a test asks for.

Serves tests of everything that dials the forwarder. Leaves the product's own keys to :mod:`af_hub.controller.keys`.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import asyncssh

from af_hub.forwarder.login import Credentials, ForwarderAddress
from af_hub.testing.process import Daemon


class SSHAuthority:
    """A CA for SSH user certificates, the odd ones too."""

    def __init__(self) -> None:
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.public = self.key.export_public_key().decode().strip()

    def certify(
        self,
        principals: str | Sequence[str],
        username: str | None = None,
        valid_for: float = 3600,
        valid_after: float = -300,
        port_forwarding: bool = True,
    ) -> Credentials:
        """A new key with a certificate for these principals; ``username`` is the first of them when it is not given."""
        names = [principals] if isinstance(principals, str) else list(principals)
        key = asyncssh.generate_private_key("ssh-ed25519")
        certificate = self.key.generate_user_certificate(
            key.convert_to_public(),
            key_id="test",
            principals=names,
            valid_after=int(time.time() + valid_after),
            valid_before=int(time.time() + valid_for),
            permit_port_forwarding=port_forwarding,
        )
        return Credentials(
            principal=username if username is not None else names[0],
            private_key=key.export_private_key().decode(),
            certificate=certificate.export_certificate().decode(),
        )


class RunningForwarder(SSHAuthority):
    """The forwarder's daemon; may be stopped and started again on the same port with the same keys."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.port = 0
        (folder / "user_ca.pub").write_text(self.public + "\n")
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had before."""
        arguments = ["--listen", f"127.0.0.1:{self.port}", "--host-key", str(self.folder / "host_key")]
        arguments += ["--user-ca", str(self.folder / "user_ca.pub"), "--ready-fd", "{ready_fd}"]
        argv = [sys.executable, "-m", "af_hub.forwarder.server", *arguments]
        self.daemon = Daemon("forwarder", argv, self.folder / "forwarder.log").start()
        facts = self.daemon.ready()
        self.port = facts["port"]
        self.address = ForwarderAddress(facts["host"], facts["port"], facts["host_key"])

    def stop(self) -> None:
        """Stop it."""
        self.daemon.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
