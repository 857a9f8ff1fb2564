"""Beside the access point, and on the central manager: keeps what HTCondor reads there as ``facility.yaml`` and the list of people say.

``python -m af_hub.condor.watch --policy facility.yaml --people people.json --into FOLDER`` looks four times a second, so that an edit
holds for the next submit within five. The mapping program reads its table at every login; accounting map and settings are read by the
daemon when told, with ``condor_reconfig``, which takes ``CONDOR_CONFIG`` and the operator's token from this process's surroundings.
``--tell`` says which daemons of this machine read something here: the schedd, unless it says otherwise, and the negotiator.

It promises that a file is whole or as before, that a broken edit changes nothing but the log, and that what an editor is still
writing is left alone.
"""

import argparse
import logging
import math
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from af_hub.condor.mapping import compile_mapping, read_people
from af_hub.condor.negotiator import describe_claims, describe_groups
from af_hub.errors import PolicyError, Unavailable
from af_hub.files import RestingFile, stamp
from af_hub.policy.audit import OverrideLog
from af_hub.policy.decide import next_change
from af_hub.policy.load import read_policy
from af_hub.ready import say_ready

log = logging.getLogger("af_hub.condor.watch")

PAUSE_SECONDS = 0.25
RECONFIG_SECONDS = 30
TABLE, ACCOUNTING_MAP, CLAIMS, GROUPS = "table.json", "accounting.map", "schedd.conf", "negotiator.conf"
READERS = {ACCOUNTING_MAP: "schedd", CLAIMS: "schedd", GROUPS: "negotiator"}
"""Which daemon has to be told when a file changed."""


def reconfigure(daemon: str) -> None:
    """Tell a daemon of this machine to read its settings and maps again.

    Raises
    ------
    Unavailable
        When it does not take the order; it will be given again.
    """
    order(["condor_reconfig", "-daemon", daemon])


def order(argv: Sequence[str]) -> None:
    """Run a command that tells HTCondor something.

    Raises
    ------
    Unavailable
        When it fails, or takes too long.
    """
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=RECONFIG_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{shlex.join(argv)} could not finish: {error}") from error
    if done.returncode:
        raise Unavailable(f"{shlex.join(argv)} failed: {(done.stderr or done.stdout).strip()[-500:]}")


@dataclass
class Watch:
    """What is watched, and what was made of it."""

    policy: Path
    people: Path
    into: Path
    reconfigure: Callable[[str], None] = reconfigure
    clock: Callable[[], float] = time.time
    tell: Sequence[str] = ("schedd",)
    _files: dict[Path, RestingFile] = field(default_factory=dict, init=False)
    _contents: dict[Path, bytes] = field(default_factory=dict, init=False)
    _due: set[str] = field(default_factory=set, init=False)
    _complaints: dict[str, str] = field(default_factory=dict, init=False)
    _overrides: OverrideLog = field(default_factory=OverrideLog, init=False)
    _change_at: float = field(default=math.inf, init=False)

    def look(self) -> None:
        """Compile again when a file changed, or an override begins or ends, and tell the daemons whose files changed."""
        if not self._files:  # whoever was killed between file and order left a daemon that knows nothing of it
            self._due.update(self.tell)
        news = [self._news(path) for path in (self.policy, self.people)]
        if any(news) or self.clock() >= self._change_at:
            self._compile()
        for daemon in sorted(self._due):
            try:
                self.reconfigure(daemon)
                self._due.discard(daemon)
                self._complaints.pop(daemon, None)
                log.info("the %s reads its files in %s again", daemon, self.into)
            except Unavailable as error:
                if self._complaints.get(daemon) != str(error):
                    log.error("will be tried again: %s", error)
                self._complaints[daemon] = str(error)

    def _news(self, path: Path) -> bool:
        """Whether there is something new in the file; at the first look whatever is in it."""
        known = path in self._files
        file = self._files.setdefault(path, RestingFile(path, self.clock))
        try:
            content = file.news() if known else file.first()
        except OSError as error:
            log.error("table and map are kept as they were: %s cannot be read (%s)", path, error.strerror)
            return False
        if content is None:
            return False
        self._contents[path] = content
        return True

    def _compile(self) -> None:
        if len(self._contents) < len(self._files):
            return  # one of them could not be read yet, which was said
        try:
            people = read_people(self._contents[self.people].decode())
            # Addresses of other services may stand in the policy as ${NAME}; none of them matters here.
            policy = read_policy(self._contents[self.policy], str(self.policy), os.environ, lenient=True)
        except (PolicyError, UnicodeDecodeError) as error:
            log.error("table and map are kept as they were, since the edit is wrong:\n%s", error)
            return
        now = self.clock()
        self._overrides.look(policy, now)
        self._change_at = next_change(policy, now)
        mapping = compile_mapping(policy, people, now)
        for account in mapping.refused:
            log.warning("nobody gets the account %s: it is HTCondor's own, or two people would have it", account)
        if replace(self.into / TABLE, mapping.table):
            log.info("new mapping table in %s", self.into / TABLE)
        texts = {
            ACCOUNTING_MAP: mapping.accounting_map,
            CLAIMS: describe_claims(policy),
            GROUPS: describe_groups(policy),
        }
        for name, text in texts.items():
            if replace(self.into / name, text) and READERS[name] in self.tell:
                self._due.add(READERS[name])


def replace(path: Path, text: str) -> bool:
    """Give the file this content, in one step; False when it had it already.

    Its time of change is another second than before: HTCondor (23.9) passes over a map with the same one.
    """
    before = stamp(path)
    if before and path.read_text() == text:
        return False
    partial = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if before and before[0] // 10**9 >= partial.stat().st_mtime_ns // 10**9:
        os.utime(partial, ns=(before[0] + 10**9, before[0] + 10**9))
    partial.replace(path)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    """Watch until told to end."""
    parser = argparse.ArgumentParser(prog="python -m af_hub.condor.watch", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--policy", type=Path, required=True, help="facility.yaml")
    parser.add_argument("--people", type=Path, required=True, help="JSON list of {issuer, subject, username}")
    names = f"{TABLE}, {ACCOUNTING_MAP}, {CLAIMS} and {GROUPS}"
    parser.add_argument("--into", type=Path, required=True, help=f"folder of {names}")
    parser.add_argument(
        "--tell", action="append", choices=["schedd", "negotiator"], help="what reads them here; twice for both"
    )
    parser.add_argument("--ready-fd", type=int, help="where to say that the first look is done")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    watch = Watch(arguments.policy, arguments.people, arguments.into, tell=arguments.tell or ["schedd"])
    watch.look()
    say_ready(arguments.ready_fd, table=str(watch.into / TABLE), accounting_map=str(watch.into / ACCOUNTING_MAP))
    while not ended.wait(PAUSE_SECONDS):
        watch.look()


if __name__ == "__main__":
    main()
