"""``af-hub check site``: whether the jobs of two people at a site can read each other.

Serves whoever runs a site: says which of the things that the explanation "limits and trust" counts on hold on its worker nodes. Two jobs
of two accounts run side by side on one node, and each tries (:mod:`af_hub.condor.neighbour`). Decides what that means; leaves it to
the administrator to write it into ``facility.yaml`` (``sites.*.shared``).
"""

import asyncio
import inspect
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from af_hub.condor import neighbour
from af_hub.condor.ads import SLOT_ATTRIBUTES, SLOTS
from af_hub.condor.operation import ERRORS, OUTPUT
from af_hub.condor.pool import CondorPool
from af_hub.condor.submit import quote_arguments, quote_string
from af_hub.condor.why import one_line
from af_hub.errors import Refused, Unavailable
from af_hub.policy.load import load_policy

PROGRAM = "neighbour.py"
PATH = "PATH=/usr/local/bin:/usr/bin:/bin"
LIFE_SECONDS = 60
"""How long a job waits for its neighbour to be done."""

TMP, VAR_TMP, SHM = neighbour.PUBLIC_FOLDERS
RISKS = {
    "sandbox": "the files in a job's folder, its keys among them",
    "private socket": "sockets in a job's folder",
    "environment": "the environment of a job's processes",
    "memory": "the memory of a job's processes",
    "open files": "files that a job has open",
    "signals": "the right to end a job's processes",
    TMP: "what a job puts there",
    VAR_TMP: "what a job puts there",
    SHM: "what a job puts there",
}
"""What people must be kept apart in."""

OPEN = {
    "command lines": "no secret is ever an argument",
    "ports": "each asks for a certificate of its Dask cluster",
}
"""What jobs of a node see of each other at nearly every site; nothing depends on it."""

AS_ROOT = "with a startd that is started as root"
REMEDIES = {
    TMP: f"MOUNT_UNDER_SCRATCH = /tmp, /var/tmp, {AS_ROOT}",
    VAR_TMP: f"MOUNT_UNDER_SCRATCH = /tmp, /var/tmp, {AS_ROOT}",
    SHM: f"MOUNT_PRIVATE_DEV_SHM = True, {AS_ROOT}",
}
ACCOUNTS = f"an account for each slot (SLOT1_1_USER), {AS_ROOT}"


@dataclass(frozen=True)
class Finding:
    """One line: what was tried, ``ok``, ``shared`` or ``open``, and a sentence."""

    what: str
    state: str
    sentence: str


@dataclass(frozen=True)
class Report:
    """What was found at one worker node of the site; ``marked``: what ``facility.yaml`` says."""

    site: str
    machine: str
    marked: bool
    findings: tuple[Finding, ...]

    @property
    def shared(self) -> bool:
        """Whether one person's job got anything of the other's."""
        return any(finding.state == "shared" for finding in self.findings)

    @property
    def remedies(self) -> tuple[str, ...]:
        """What helps, each once."""
        shared = (finding.what for finding in self.findings if finding.state == "shared")
        return tuple(dict.fromkeys(REMEDIES.get(what, ACCOUNTS) for what in shared))

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        findings = [vars(finding) for finding in self.findings]
        return {
            "site": self.site,
            "machine": self.machine,
            "shared": self.shared,
            "marked": self.marked,
            "findings": findings,
        }

    def __str__(self) -> str:
        lines = [f"{finding.state:<7} {finding.what:<15} {finding.sentence}" for finding in self.findings]
        return "\n".join([*lines, "", self._outcome(), *(f"What helps: {remedy}." for remedy in self.remedies)])

    def _outcome(self) -> str:
        found = "can read each other" if self.shared else "are kept apart"
        where = f"Jobs of different people {found} at {self.site} (worker node {self.machine})."
        if self.shared == self.marked:
            return f"{where} facility.yaml says so, too."
        if self.shared:
            return f"{where} facility.yaml says otherwise: write `shared: true` under sites.{self.site}."
        return f"{where} When all its worker nodes are like this one, write `shared: false` under sites.{self.site}."


def choose_machine(ads: Iterable[Mapping[str, Any]], wanted: str = "") -> str:
    """The worker node with the most free cores, of slot ads with ``Machine``; ``wanted`` if given.

    Raises
    ------
    Unavailable
        When there is none where two jobs could start now.
    """
    free: Counter[str] = Counter()
    for ad in ads:
        if ad.get("PartitionableSlot") or ad.get("State") == "Unclaimed":
            free[ad["Machine"]] += ad["Cpus"]
    fit = [machine for machine, cores in free.most_common() if cores >= 2 and wanted in ("", machine)]
    if not fit:
        found = ", ".join(f"{machine} ({cores} free)" for machine, cores in free.items()) or "none"
        raise Unavailable(f"two free cores on {wanted or 'one worker node'} are needed; found: {found}")
    return fit[0]


def describe_neighbour(site: str, machine: str, own: str, other: str) -> str:
    """The submit description of one of the two jobs."""
    lines = {
        "universe": "vanilla",
        "executable": "/usr/bin/env",
        "transfer_executable": "False",
        "arguments": quote_arguments([PATH, "python3", PROGRAM, own, other, str(LIFE_SECONDS)]),
        "transfer_input_files": PROGRAM,
        "transfer_output_files": '""',
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "output": OUTPUT,
        "error": ERRORS,
        "requirements": f"TARGET.SiteName == {quote_string(site)} && TARGET.Machine == {quote_string(machine)}",
        "request_cpus": "1",
        "request_memory": "64MB",
        "request_disk": "10MB",
        "notification": "Never",
        "leave_in_queue": f"JobStatus == 4 && time() - QDate < {20 * LIFE_SECONDS}",
        "periodic_remove": f"time() - QDate > {20 * LIFE_SECONDS}",
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items()) + "queue\n"


def judge(told: Sequence[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """What the two jobs told, in lines.

    Raises
    ------
    Unavailable
        When they did not run at the same time, so that nothing was tried.
    """
    pairs = [(one, other) for one, other in (told, told[::-1]) if other["begun"] <= one["tried"] <= other["ended"]]
    if not pairs:
        raise Unavailable("the two jobs did not run at the same time, so nothing is known; try again")
    users = sorted({one["uid"] for one in told})
    same = (
        f"both jobs run as user {users[0]}" if len(users) == 1 else f"the jobs run as users {users[0]} and {users[1]}"
    )
    return (Finding("account", "ok" if len(users) == 2 else "open", same), *_findings(pairs))


def _findings(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Iterable[Finding]:
    for what, meaning in RISKS.items():
        if any(_is_of(one["found"][what].get("got"), other) for one, other in pairs):
            yield Finding(what, "shared", f"{meaning}: the other job got it")
        else:
            why = pairs[0][0]["found"][what].get("why", "found, but not the other job's")
            yield Finding(what, "ok", f"{meaning}: {why}")
    for what, why in OPEN.items():
        if any("got" in one["found"][what] for one, _ in pairs):
            yield Finding(what, "open", f"seen by the other job, as nearly everywhere; {why}")
        else:
            yield Finding(what, "ok", "not seen by the other job")


def _is_of(got: str | None, other: Mapping[str, Any]) -> bool:
    return got in (other["secret"], neighbour.ALLOWED.decode())


@dataclass(frozen=True)
class SiteCheck:
    """What to check, and as whom.

    Parameters
    ----------
    marked
        Whether ``facility.yaml`` calls the site shared.
    credentials
        Of two accounts, as :meth:`~af_hub.condor.pool.CondorPool.run` takes them; the first may read at the central manager.
    """

    pool: CondorPool
    site: str
    marked: bool
    credentials: tuple[str, str] = field(repr=False)

    def run(self, seconds: float, machine: str = "") -> Report:
        """Run the two jobs, within ``seconds``, on ``machine`` or on the worker node with the most free cores; judge what they tell.

        Raises
        ------
        Unavailable, Refused
            When the jobs cannot run.
        """
        return asyncio.run(self._run(seconds, machine))

    async def _run(self, seconds: float, machine: str) -> Report:
        here = f"SiteName == {quote_string(self.site)} && {SLOTS}"
        ads = await self.pool.slot_ads(self.credentials[0], here, [*SLOT_ATTRIBUTES, "Machine"])
        chosen = choose_machine(ads, machine)
        names = [f"af-check-{secrets.token_hex(8)}" for _ in self.credentials]
        files = {PROGRAM: inspect.getsource(neighbour).encode()}
        jobs = [
            self.pool.run(credential, describe_neighbour(self.site, chosen, own, other), files, seconds)
            for credential, own, other in zip(self.credentials, names, reversed(names), strict=True)
        ]
        said = await asyncio.gather(*jobs)
        return Report(self.site, chosen, self.marked, judge([read_answer(text) for text in said]))


def plan_check(facility: Path, environ: Mapping[str, str], site: str, credentials: Sequence[str]) -> SiteCheck:
    """The check of a site of ``facility.yaml``.

    Raises
    ------
    PolicyError
        When the file cannot be used.
    Refused
        When it has no such site, or there are not two credentials.
    """
    policy = load_policy(facility, environ)
    if site not in policy.sites:
        raise Refused(f"{facility} has no site {site!r}; it has {', '.join(policy.sites) or 'none'}")
    if len(credentials) != 2:
        raise Refused(f"two credentials are wanted, of two accounts; found {len(credentials)}")
    pool = policy.pools[policy.sites[site].pool]
    where = CondorPool(pool.collector, pool.schedd, pool.ca_file)
    return SiteCheck(where, site, policy.sites[site].shared, (credentials[0], credentials[1]))


def read_answer(text: str) -> dict[str, Any]:
    """What one of the jobs printed.

    Raises
    ------
    Refused
        When it is something else.
    """
    try:
        told = json.loads(text)
        found = {
            what: {key: one_line(str(said)) for key, said in told["found"][what].items()} for what in (*RISKS, *OPEN)
        }
        times = {name: float(told[name]) for name in ("begun", "tried", "ended")}
        return {"secret": str(told["secret"]), "uid": int(told["uid"]), **times, "found": found}
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        pass
    raise Refused(f"the job printed something else than was wanted: {one_line(text)[-500:]}")
