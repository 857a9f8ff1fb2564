"""Beside an origin or a cache: keeps who reads what there, and the issuers' keys, as ``facility.yaml`` and the issuers say.

``python -m af_hub.xrootd.watch --policy facility.yaml --origin FOLDER --cache FOLDER root://origin:1094``, with the folders that
``hub_config/xrootd/tokens.cfg`` calls AF_XROOTD_SECRETS, which are the daemons' ``XDG_CACHE_HOME`` too. New keys count for the next token, and are
there :data:`EVERY_SECONDS` after the issuer published them; XRootD reads new rules within a minute.

It promises that a file is whole or as before, that a broken edit and an issuer that does not answer change nothing but the log, that what an
editor is still writing is left alone (until the next look), and that a key set which could not be renewed is borne for four days, as the
SciTokens library itself does.
"""

import argparse
import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from af_hub.errors import AFError, PolicyError, Unavailable
from af_hub.files import RestingFile, write_private
from af_hub.iam.http import fetch
from af_hub.policy.load import read_policy, unreadable
from af_hub.policy.model import Policy
from af_hub.ready import say_ready
from af_hub.xrootd.access import cache_prefixes, describe_rules, openers, read_cache_names
from af_hub.xrootd.keycache import write_keys

log = logging.getLogger("af_hub.xrootd.watch")

EVERY_SECONDS = 30.0
SOON_SECONDS = 1.0
"""How soon an issuer is asked again that has not given its keys yet."""

BORNE_SECONDS = 4 * 86400
RENEW_SECONDS = 3600
KEYTAB, WELL_KNOWN = "sss.keytab", "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Server:
    """One daemon's folder; ``origin`` is the address before which a cache stands, empty for an origin itself."""

    folder: Path
    origin: str = ""

    def rules(self, policy: Policy, public: Sequence[str], audiences: Sequence[str]) -> dict[str, str]:
        """What its files shall be."""
        if self.origin:
            return describe_rules(policy, public, cache_prefixes(self.origin), audiences)
        keytab = self.folder / KEYTAB
        caches = read_cache_names(keytab.read_text()) if keytab.exists() else []
        return describe_rules(policy, public, audiences=audiences, caches=caches)


@dataclass
class Watch:
    """What is watched, and what was made of it."""

    policy: Path
    servers: Sequence[Server]
    public: Sequence[str] = ()
    audiences: Sequence[str] = ()
    clock: Callable[[], float] = time.time
    _file: RestingFile | None = field(default=None, init=False)
    _parsed: Policy | None = field(default=None, init=False)
    _keys: dict[str, tuple[dict[str, Any], float]] = field(default_factory=dict, init=False)
    _complaints: dict[str, str] = field(default_factory=dict, init=False)

    async def look(self) -> bool:
        """Bring everything up to date; says whether every issuer's keys are there."""
        self._look_at_policy()
        policy = self._parsed
        if policy is None:
            return False
        try:
            self._write_rules(policy)
            self._complain("rules")
        except (PolicyError, OSError) as error:
            self._complain("rules", f"what was in force stays so: {error}")
        issuers = dict.fromkeys(issuer for _, issuer, _ in openers(policy))
        await asyncio.gather(*(self._renew(issuer, discovery_of(policy, issuer)) for issuer in issuers))
        return issuers.keys() <= self._keys.keys()

    def _look_at_policy(self) -> None:
        """Read it at the first look, and later when it has changed and nobody writes to it any more."""
        try:
            content = self._file.news() if self._file else self._first()
            if content is not None:
                self._parsed = read_policy(content, str(self.policy), os.environ)
                self._complain("policy")
        except OSError as error:
            self._complain("policy", f"what was in force stays so: {unreadable(self.policy, error)}")
        except PolicyError as error:
            self._complain("policy", f"what was in force stays so: {error}")

    def _first(self) -> bytes:
        self._file = RestingFile(self.policy, self.clock)
        return self._file.first()

    def _write_rules(self, policy: Policy) -> None:
        # All are rendered before the first is written.
        whole = [(server.folder, server.rules(policy, self.public, self.audiences)) for server in self.servers]
        for folder, rules in whole:
            for name, text in rules.items():
                path = folder / name
                if not path.exists() or path.read_text() != text:
                    write_private(path, text)
                    log.info("%s is new", path)

    async def _renew(self, issuer: str, discovery: str) -> None:
        try:
            jwks = await fetch_keys(issuer, discovery)
            self._bring(issuer, jwks)
            self._complain(issuer)
        except (AFError, OSError) as error:
            self._complain(issuer, f"no keys of {issuer}, those of before stay: {error}")

    def _bring(self, issuer: str, jwks: dict[str, Any]) -> None:
        known, at = self._keys.get(issuer, ({}, 0.0))
        now = self.clock()
        if jwks == known and now - at < RENEW_SECONDS:
            return
        for server in self.servers:
            write_keys(server.folder, issuer, jwks, now + BORNE_SECONDS)
        if jwks != known:
            log.info("keys of %s: %s", issuer, ", ".join(str(key.get("kid")) for key in jwks["keys"]))
        self._keys[issuer] = jwks, now

    def _complain(self, about: str, sentence: str = "") -> None:
        """Say it once, and once that it is over."""
        if sentence != self._complaints.pop(about, ""):
            log.warning(sentence or f"{about}: well again")
        if sentence:
            self._complaints[about] = sentence


def discovery_of(policy: Policy, issuer: str) -> str:
    """Where an issuer's configuration is read, the hub's own included."""
    found = policy.issuer(issuer)
    return found.discovery_url if found else issuer.rstrip("/") + WELL_KNOWN


async def fetch_keys(issuer: str, discovery: str) -> dict[str, Any]:
    """What the issuer publishes (RFC 7517), found by its configuration (OpenID Connect Discovery 1.0, section 4.3).

    Raises
    ------
    Unavailable
        When it does not answer, is another issuer, or gives no keys.
    """
    found = await fetch(discovery)
    if found.get("issuer") != issuer:
        raise Unavailable(f"facility.yaml names {issuer!r}, but {discovery} is that of {found.get('issuer')!r:.120}")
    jwks = await fetch(str(found.get("jwks_uri", "")))
    keys = jwks.get("keys")
    if not keys or not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise Unavailable(f"{issuer} gives no keys at {found.get('jwks_uri')!r:.120}")
    return jwks


async def run(watch: Watch, every: float, ready_fd: int | None) -> None:
    """Watch until told to end; ready when it has looked once."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    whole = await watch.look()
    say_ready(ready_fd, keys=whole)
    while True:
        try:
            async with asyncio.timeout(every if whole else min(SOON_SECONDS, every)):
                await ended.wait()
            return
        except TimeoutError:
            whole = await watch.look()


def main(argv: Sequence[str] | None = None) -> None:
    """Watch until told to end."""
    parser = argparse.ArgumentParser(prog="python -m af_hub.xrootd.watch", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--policy", type=Path, required=True, help="facility.yaml")
    parser.add_argument("--origin", type=Path, action="append", default=[], help="folder of an origin on this machine")
    parser.add_argument(
        "--cache", nargs=2, action="append", default=[], metavar=("FOLDER", "ORIGIN"), help="of a cache, and its origin"
    )
    parser.add_argument("--public", action="append", default=[], help="a folder that everybody reads, such as /store")
    parser.add_argument("--audience", action="append", default=[], help="a name of these servers in tokens")
    parser.add_argument("--every", type=float, default=EVERY_SECONDS, help="seconds between two looks")
    parser.add_argument("--ready-fd", type=int, help="where to say that the first look is done")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    caches = [Server(Path(folder), origin) for folder, origin in given.cache]
    watch = Watch(given.policy, [*map(Server, given.origin), *caches], given.public, given.audience)
    asyncio.run(run(watch, given.every, given.ready_fd))


if __name__ == "__main__":
    main()
