"""``make demo-check`` as people run it, and what it leaves behind: nothing token-shaped anywhere but in its places."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from af_hub.demo.keyfiles import JWT, PRIVATE_KEY
from af_hub.session.processes import descendants
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

CHECK_SECONDS = 240

# Where secrets may lie, below the demo's folder: files of mode 0600 that design and docs name.
PLACES = [
    "hub/iam_client_secret",
    "hub/controller_token",
    "hub/crypt_key",
    "hub/cookie_secret",
    "hub/proxy_password",
    "hub/proxy/rules.toml",
    "iam/iam_clients.json",
    "iam/state.json",
    "controller/user_ca",
    "forwarder/host.key",
    "data-secrets/*/tls.key",
    "pool/tls/*.key",
    "pool/*/etc/hostkey.pem",
    "pool/*/etc/trust_domain_ca_privkey.pem",
    "pool/reader.tokens",
    "pool/*/etc/passwords.d/*",
    "pool/*/etc/tokens.d/*",
    "pool/access-point/credentials/*/iam.*",
]


@dataclass
class Seen:
    """What a look at the processes saw, again and again while the check ran."""

    arguments: set[bytes] = field(default_factory=set)
    environments: set[bytes] = field(default_factory=set)
    job_environments: set[bytes] = field(default_factory=set)
    hub_tokens: set[bytes] = field(default_factory=set)

    def look(self, root: int) -> None:
        for pid in descendants(root):
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            self.arguments.add(arguments)
            self.environments.add(environment)
            if b"_CONDOR_SCRATCH_DIR=" in environment:
                self.job_environments.add(environment)
            elif token := re.search(rb"JUPYTERHUB_API_TOKEN=([^\0]+)", environment):
                self.hub_tokens.add(token[1])


@dataclass
class Run:
    """One demo-check that is over."""

    status: int
    printed: str
    hops: list[dict]
    folder: Path
    seen: Seen

    def secrets(self) -> dict[str, bytes]:
        """Every secret that this run had, by name."""
        hub = self.folder / "demo" / "hub"
        files = ("iam_client_secret", "controller_token", "proxy_password", "cookie_secret")
        found = {name: (hub / name).read_bytes().strip() for name in files}
        found |= {f"key {index}": key for index, key in enumerate((hub / "crypt_key").read_bytes().split())}
        return (
            found
            | self.refresh_tokens()
            | {f"hub token {index}": token for index, token in enumerate(sorted(self.seen.hub_tokens))}
        )

    def refresh_tokens(self) -> dict[str, bytes]:
        """All that the IAM ever gave; they have no form of their own."""
        grants = json.loads((self.folder / "demo/iam/state.json").read_text())["grants"]
        tokens = [token.encode() for grant in grants for token in grant["tokens"]]
        return {f"refresh token {index}": token for index, token in enumerate(tokens)}

    def secrets_in(self, content: bytes) -> Iterator[str]:
        """The names of those that stand in ``content``, and of anything that has the form of a token or a private key."""
        yield from (name for name, secret in self.secrets().items() if secret in content)
        if PRIVATE_KEY.search(content):
            yield "a private key"
        if JWT.search(content):
            yield "a token"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The check, watched; its folder is kept until the tests have looked at it."""
    report = tmp_path_factory.mktemp("check") / "hops.json"
    argv = [sys.executable, "-m", "af_hub.cli", "demo-check", "--keep", "--json", str(report)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen, over = Seen(), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.look(process.pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        printed, _ = process.communicate(timeout=CHECK_SECONDS)
    finally:
        over.set()
        watcher.join()
        process.kill()
    if "could not be had" in printed or "No HTCondor" in printed:
        unavailable(printed)
    folder = Path(re.search(r"Logs and all files: (.+)", printed)[1])
    yield Run(process.returncode, printed, json.loads(report.read_text()), folder, seen)
    shutil.rmtree(folder)


def test_all_hops_hold(run):
    assert run.status == 0, run.printed
    assert all(hop["ok"] for hop in run.hops)
    assert {"login by IAM", "session starts", "results", "facility stops, nothing is left"} <= {
        hop["name"] for hop in run.hops
    }


def test_no_secret_in_any_file_but_in_its_place(run):
    demo = run.folder / "demo"
    places = {path for pattern in PLACES for path in demo.glob(pattern)}
    for path in run.folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in places:
            found = list(run.secrets_in(path.read_bytes()))
            assert not found, f"{path.relative_to(run.folder)} holds {found}"


def test_the_places_of_secrets_are_closed_to_others(run):
    places = [path for pattern in PLACES for path in (run.folder / "demo").glob(pattern)]
    assert len(places) > 15
    assert not [path for path in places if path.stat().st_mode & 0o077]


def test_no_secret_in_an_argument_or_in_the_environment_of_a_job(run):
    assert len(run.seen.arguments) > 20 and run.seen.job_environments and run.seen.hub_tokens
    for content in [*run.seen.arguments, *run.seen.job_environments]:
        found = list(run.secrets_in(content))
        assert not found, f"{content[:200]!r} holds {found}"


def test_no_refresh_token_in_any_environment(run):
    tokens = run.refresh_tokens().values()
    assert tokens and len(run.seen.environments) > 20
    assert not [token for token in tokens for content in run.seen.environments if token in content]


def test_the_search_finds_what_it_looks_for(run):
    """A search that could find nothing would prove nothing."""
    assert list(run.secrets_in(b"x" + run.secrets()["iam_client_secret"] + b"y")) == ["iam_client_secret"]
    token = b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
    assert list(run.secrets_in(b"Bearer " + token)) == ["a token"]
    logs = [path for path in run.folder.rglob("*") if path.name.endswith("log") or "Log" in path.name]
    assert len(logs) > 15 and (run.folder / "demo/hub/hub.log").stat().st_size > 1000
