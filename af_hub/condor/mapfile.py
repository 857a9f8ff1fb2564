"""A static ``CERTIFICATE_MAPFILE`` out of the policy and a list of people: for a pool that does not run our mapping program.

Decides only; :mod:`af_hub.condor.static` reads the list and writes the file. The account of a person is that of
:func:`af_hub.policy.decide.decide` at one instant with the groups that the list says, so the file is as old as its last run. Nobody whom
it does not name is anybody. Format: HTCondor manual, "The Unified Map File for Authentication".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from af_hub.condor.mapping import Person, pairs, refuse
from af_hub.errors import PolicyError
from af_hub.iam.claims import Claims
from af_hub.policy.accounts import RESERVED
from af_hub.policy.decide import decide
from af_hub.policy.model import Policy

MADE = "# Made by af-hub mapfile"
FIT = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")
LINE = re.compile(r"SCITOKENS (\S+) ([a-z][a-z0-9_.-]*)\Z")
PLUGIN = re.compile(r"PLUGIN:(?:\*|[A-Za-z0-9_]+)\Z")


class Keys(StrEnum):
    """How a line names whom it is for."""

    HASH = "hash"  #: as it is: HTCondor 8.5.8 and later with ``CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS = True``
    REGEX = "regex"  #: as an expression: where that is not set, all lines are


HEADS = {
    Keys.HASH: "keys as they are, which wants CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS = True",
    Keys.REGEX: "keys as expressions, which wants CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS = False",
}


@dataclass(frozen=True)
class Mapfile:
    """What was made of policy and people.

    Parameters
    ----------
    text
        The whole file.
    accounts
        Its lines: issuer and subject with a comma between → account.
    accounting_map
        As :class:`af_hub.condor.mapping.Mapping` has it, for these accounts.
    without
        How many people the policy gives no account.
    refused
        Accounts that nobody gets, though the policy gives them.
    """

    text: str
    accounts: Mapping[str, str]
    accounting_map: str
    without: int
    refused: tuple[str, ...]


def compile_mapfile(
    policy: Policy, people: Iterable[Claims], now: float, keys: Keys = Keys.HASH, tail: str = ""
) -> Mapfile:
    """The file for these people at the instant ``now``; ``tail`` are the lines of other hands that shall stand at its end.

    Raises
    ------
    PolicyError
        When ``tail`` would break the file, or map whoever comes.
    """
    people = {(one.issuer, one.subject): one for one in people}.values()
    given = {
        (Person(one.issuer, one.subject, one.username), rights.condor)
        for one in people
        if (rights := decide(policy, one, now)).condor
    }
    gifts = [rule.condor for rule in (*policy.overrides, *policy.rules) if rule.condor]
    refused = refuse(given, {gift.account for gift in gifts if gift.shared_account})
    kept = [(person, condor) for person, condor in given if condor.account not in refused]
    accounts = {pair: condor.account for person, condor in kept for pair in pairs(policy, person) if FIT.match(pair)}
    lines = [f"SCITOKENS {describe_key(pair, keys)} {accounts[pair]}\n" for pair in sorted(accounts)]
    head = f"{MADE}, which writes it anew: {HEADS[keys]}.\n"
    end = "".join(f"{line}\n" for line in check_tail(tail, keys))
    charged = {f"* {condor.account} {condor.accounting_group}\n" for _, condor in kept}
    nobody = "# Whoever stands above is somebody; nobody else is.\n" if not end else "# Lines of other hands:\n"
    return Mapfile(
        head + "".join(lines) + nobody + end, accounts, "".join(sorted(charged)), len(people) - len(given), refused
    )


def describe_key(pair: str, keys: Keys) -> str:
    """Issuer and subject as a line has them."""
    return pair if keys is Keys.HASH else "^" + re.sub(r"([^A-Za-z0-9_,:-])", r"\\\1", pair) + "$"


def read_accounts(text: str) -> dict[str, str]:
    """The lines of a file that was made here, of either form of keys.

    Raises
    ------
    PolicyError
        When it was made by somebody else.
    """
    if not text.startswith(MADE):
        raise PolicyError(
            "the file was not made by `af-hub mapfile`, which would undo what somebody else wrote into it; move it away, "
            "and give lines that shall stay with --tail"
        )
    lines = text.splitlines()
    ours = lines[: next((number for number, line in enumerate(lines) if number and line.startswith("#")), len(lines))]
    found = (match.groups() for line in ours if (match := LINE.match(line)))
    return {_plain(key): account for key, account in found}


def _plain(key: str) -> str:
    return re.sub(r"\\(.)", r"\1", key[1:-1]) if key.startswith("^") else key


def check_tail(text: str, keys: Keys) -> Iterator[str]:
    """The lines of ``text``, each of which HTCondor can read.

    One bad line makes HTCondor drop the whole file, and a wide one makes everybody somebody.

    Raises
    ------
    PolicyError
        When one of them does not do.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if why := _wrong(line.strip(), keys):
            raise PolicyError(f"line {number} of the tail, {line.strip()!r:.120}: {why}")
        yield line.strip()


def _wrong(line: str, keys: Keys) -> str:
    if not line or line.startswith("#"):
        return ""
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', line)
    if len(words) != 3 or line.startswith("@"):
        return "wanted three words: a method, whom it is for, an account"
    key, account = words[1].strip('"'), words[2]
    expression = key if keys is Keys.REGEX else (found := re.match(r"/(.*)/[iU]*\Z", key)) and found.group(1)
    if PLUGIN.match(account):
        return ""
    if RESERVED.match(account.partition("@")[0]):
        return f"nobody who comes with a token of an IAM may be {account}, which is HTCondor's own"
    if expression is None:
        return ""
    try:
        compiled = re.compile(expression.replace("\\/", "/"))
    except re.error as error:
        return f"it is no expression ({error})"
    if compiled.search("https://iam.somewhere/,anybody") and "\\" not in account:
        return (
            f"whoever comes would be {account}; name the issuer, and take the account from the subject or ask a plugin"
        )
    return ""


def guard(old: Mapping[str, str], new: Mapping[str, str], floor: int, share: float, lose: int | None) -> str:
    """Why the new lines must not replace the old ones, and how to do it nevertheless; empty when they may.

    Parameters
    ----------
    floor
        How many lines there must be.
    share
        How many of the old ones, of 1, may go or get another account; one always may.
    lose
        That many may, whatever their share.
    """
    if len(new) < floor:
        return (
            f"found {len(new)} lines to write, wanted at least {floor}: the list of people may be broken. If it is not, say "
            f"`--floor {len(new)}`"
        )
    lost = sum(new.get(key) != account for key, account in old.items())
    most = max(1, int(share * len(old))) if lose is None else lose
    if lost > most:
        return (
            f"{lost} of {len(old)} lines would go or get another account, wanted {most} at most: the list of people may be broken, or the policy. "
            f"See the lines that begin with `-`; if they are meant, say `--lose {lost}`"
        )
    return ""
