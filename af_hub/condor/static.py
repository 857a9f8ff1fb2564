"""Puts a static mapfile in place: reads who there is, compares, replaces, tells HTCondor; ``af-hub mapfile`` is its face.

Runs on the central manager and the access point, from a timer; what is decided is :mod:`af_hub.condor.mapfile`'s. It promises that a file
is whole or as before, that two runs at a time do not meet, and that HTCondor is told of a new file even when the run that wrote it was
killed before it could.
"""

import asyncio
import difflib
import fcntl
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import yaml

from af_hub.condor.mapfile import Mapfile, guard, read_accounts
from af_hub.condor.watch import order, replace
from af_hub.errors import ClaimsError, PolicyError, Refused, Unavailable
from af_hub.iam.claims import read_claims
from af_hub.iam.scim import People, read_people
from af_hub.policy.decide import next_change
from af_hub.policy.model import Policy

DUE = "reconfig due"
SHOWN = 20
"""How many people that were passed over are named."""


@dataclass(frozen=True)
class Bounds:
    """How much may change at a time; see :func:`af_hub.condor.mapfile.guard`."""

    floor: int
    share: float
    lose: int | None = None


def by_issuer(policy: Policy, given: Sequence[str], what: str) -> dict[str, str]:
    """``NAME=VALUE`` words as values by ``iss``; ``NAME=`` may be left out where there is one issuer.

    Raises
    ------
    PolicyError
        When an issuer has no such name, or two values.
    """
    names = {issuer.name: issuer.issuer for issuer in policy.issuers}
    found: dict[str, str] = {}
    for word in given:
        name, sign, value = word.partition("=")
        if not sign or name not in names:
            if len(names) > 1:
                raise PolicyError(
                    f"{what} {word!r:.80}: found no issuer, wanted NAME={what.strip('-')} with a NAME of {', '.join(names)}"
                )
            name, value = next(iter(names)), word
        if names[name] in found:
            raise PolicyError(f"{what} {word!r:.80}: found two for the issuer {name}, wanted one")
        found[names[name]] = value
    return found


def read_token(path: Path) -> str:
    """The bearer token in a file that not everybody can read.

    Raises
    ------
    Unavailable
        When there is none.
    """
    try:
        if path.stat().st_mode & 0o007:
            raise Unavailable(f"{path} can be read by everybody on this machine; wanted mode 0600")
        token = path.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{path}: no token can be read there ({type(error).__name__})") from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Unavailable(f"{path} holds no token: one line without blanks was wanted")
    return token


def ask_issuers(urls: Mapping[str, str], tokens: Mapping[str, Path], seconds: float) -> People:
    """Everybody at these IAMs, by ``iss``; all of them or an error."""

    async def ask() -> list[People]:
        asked = [(url, read_token(tokens[issuer]), issuer) for issuer, url in urls.items()]
        return await asyncio.gather(*(read_people(*one, seconds) for one in asked))

    if missing := sorted(urls.keys() - tokens.keys()):
        raise Unavailable(f"there is no --token-file for {', '.join(missing)}")
    answers = asyncio.run(ask())
    return People(
        tuple(one for answer in answers for one in answer.claims),
        tuple(one for answer in answers for one in answer.passed_over),
    )


def read_list(text: str, issuer: str) -> People:
    """People out of a list of ``{subject, username, groups}`` in YAML or JSON, with ``issuer`` where it is another; more keys do not matter.

    Raises
    ------
    ClaimsError
        When it is no such list.
    """
    try:
        rows = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ClaimsError(f"the list of people is no YAML or JSON ({type(error).__name__})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ClaimsError("the list of people is none: a list of {subject, username, groups} was wanted")
    claims, passed_over = [], []
    for row in rows:
        found = {"sub": row.get("subject"), "preferred_username": row.get("username"), "groups": row.get("groups")}
        try:
            claims.append(read_claims(found, str(row.get("issuer") or issuer)))
        except ClaimsError as error:
            passed_over.append(f"{row.get('username')!r:.80}: {error}")
    return People(tuple(claims), tuple(passed_over))


def read_old(path: Path) -> str:
    """What is in the file now; nothing when there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{path} cannot be read ({type(error).__name__})") from error


def difference(path: Path, old: str, new: str) -> str:
    """A unified diff, empty when there is none."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), str(path), f"{path} (new)", n=1
    )
    return "".join(lines)


def summary(made: Mapfile, people: People, now: float, policy: Policy) -> str:
    """What came of whom, for the one who runs it."""
    lines = [f"passed over: {sentence}" for sentence in people.passed_over[:SHOWN]]
    if len(people.passed_over) > SHOWN:
        lines.append(f"passed over: {len(people.passed_over) - SHOWN} more")
    lines += [
        f"nobody gets the account {one}: it is HTCondor's own, or two people would have it" for one in made.refused
    ]
    lines.append(
        f"people: {len(people.claims)}, of whom the policy gives no account: {made.without}; lines: {len(made.accounts)}"
    )
    if (change := next_change(policy, now)) < math.inf:
        lines.append(
            f"an override begins or ends at {datetime.fromtimestamp(change, UTC):%Y-%m-%d %H:%M} UTC; run this again then"
        )
    return "\n".join(lines)


def check(old: str, made: Mapfile, bounds: Bounds) -> None:
    """Whether the new file may take the old one's place.

    Raises
    ------
    Refused
        When too many would lose their account.
    PolicyError
        When the old one is somebody else's.
    """
    before = read_accounts(old) if old else {}
    if reason := guard(before, made.accounts, bounds.floor, bounds.share, bounds.lose):
        raise Refused(f"nothing was changed: {reason}")


def put(texts: Mapping[Path, str], reconfig: str, lock: IO[str]) -> bool:
    """Write these files, and tell HTCondor when one is new or it was not told before; whether it was told.

    Raises
    ------
    Unavailable
        When it does not take the order; the next run gives it again.
    """
    lock.seek(0)
    due = lock.read() == DUE
    if not due and any(read_old(path) != text for path, text in texts.items()):
        _remember(lock, DUE)
        due = True
    for path, text in texts.items():
        replace(path, text)
    if due and reconfig:
        tell(reconfig)
    _remember(lock, "")
    return bool(due and reconfig)


def _remember(lock: IO[str], text: str) -> None:
    lock.seek(0)
    lock.truncate()
    lock.write(text)
    lock.flush()


def tell(reconfig: str) -> None:
    """Run the command that makes HTCondor read its maps again."""
    try:
        order(shlex.split(reconfig))
    except Unavailable as error:
        raise Unavailable(f"the file is new, and HTCondor was not told: {error}") from error


@contextmanager
def only_run(path: Path) -> Iterator[IO[str]]:
    """Be the only run for this file; yields a small file beside it, which remembers what is still to be done.

    Raises
    ------
    Unavailable
        When another run is at it.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        file = lock.open("a+")
    except OSError as error:
        raise Unavailable(f"{lock} cannot be written ({error.strerror}), so neither can {path}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"another run is writing {path}; nothing was done") from error
        yield file
