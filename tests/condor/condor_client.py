"""Somebody who uses HTCondor's own tools and library on the real pool."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from af_hub.condor import operation
from af_hub.testing.condor import RealPool
from af_hub.testing.require import unavailable

# The same user on the same machine could read and write the access point's folder without HTCondor. So an attacker gets a
# view of the machine without it, as if elsewhere; with the same path, in case HTCondor sends a file of the client's.
ELSEWHERE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount")
ATTACKS = Path(__file__).with_name("attacks.py")


@dataclass
class Client:
    """Somebody with HTCondor's own client library, and one token or none."""

    pool: RealPool
    folder: Path
    token: str = field(default="", repr=False)
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        (self.folder / "ca.pem").write_bytes(self.pool.ca_file.read_bytes())
        own: dict[str, str] = {"collector": self.pool.collector, "ca_file": str(self.folder / "ca.pem")}
        if self.token:
            file = self.folder / "token"
            file.write_text(self.token)
            file.chmod(0o600)
            own["token_file"] = str(file)
        path = f"{self.pool.prefix}/usr/bin:{self.pool.prefix}/usr/sbin:/usr/bin:/bin"
        return {**operation.settings(own), **self.settings, "PATH": path, "HOME": str(self.folder)}

    def tool(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """One of HTCondor's tools as this person."""
        return subprocess.run(argv, env=self.environment(), cwd=self.folder, capture_output=True, text=True, timeout=60)

    def attack(self, name: str, *arguments: str) -> dict[str, Any]:
        """A function of attacks.py in a process of its own; what it achieved, or the refusal."""
        hide = 'mount -t tmpfs tmpfs "$1" && mkdir "$1/access-point" && echo decoy > "$1/access-point/secret" && shift && exec "$@"'
        attacker = [sys.executable, ATTACKS, name, self.pool.schedd, *arguments]
        done = subprocess.run(
            [*ELSEWHERE, "sh", "-c", hide, "sh", self.pool.folder, *attacker],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode and not done.stdout and "unshare" in done.stderr:
            unavailable(f"an attacker who is elsewhere needs user namespaces: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found
