"""The program that HTCondor runs to learn whose token it just verified: ``CERTIFICATE_MAPFILE`` with a ``PLUGIN``.

It serves collector and schedd, which wait for it and for nothing else meanwhile: standard library only, no import of ours, run
with ``-I -S``. It promises the account that the policy gives, read from the table that :mod:`af_hub.condor.mapping` compiled,
and nobody (exit status 1) for everything that it does not understand: no table, a broken one, an unknown person. HTCondor
verified signature, issuer, audience and times before; the payload comes on standard input (HTCondor manual, "Mapping for
SciTokens authentication").

The user name comes from the table only: access tokens of an IAM have no ``preferred_username``.
"""

from __future__ import annotations

import json
import re
import sys

TYPE_CHECKING = False  # as in typing, whose import takes longer than all the rest
if TYPE_CHECKING:
    from typing import Any

EMPTY = '{"version": 3, "people": {}, "prefixes": {}, "foreign": {}, "login": [], "login_people": [], "refused": [], "rules": []}\n'
ACCOUNT = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")
# Those of af_hub.policy.accounts, which this program cannot import; a test compares them.
RESERVED = re.compile(
    r"(root|condor|condor_pool|operator|reader|family|child|parent|anonymous|unauthenticated|unmapped|nobody|"
    r"access-point.*|af-check-.*|central-manager.*|site-.*|submit-side.*|execute-side.*|negotiator-side.*)\Z"
)


def may_be_account(name: str) -> bool:
    """Whether ``name`` can be an account of a person."""
    return bool(ACCOUNT.match(name)) and not RESERVED.match(name)


def groups_of(payload: dict[str, Any], prefix: str = "", foreign: tuple[str, ...] = ()) -> set[str]:
    """Groups of either profile with one leading slash, below ``prefix`` and not in ``foreign``; empty when they are no list of names."""
    found = payload.get("wlcg.groups", payload.get("groups"))
    if not isinstance(found, list) or not all(isinstance(group, str) for group in found):
        return set()
    groups = {prefix + "/" + group.strip().strip("/") for group in found if group.strip("/ ")}
    return {group for group in groups if not (group + "/").startswith(foreign)}


def map_account(table: dict[str, Any], payload: dict[str, Any]) -> str | None:
    """The account of whoever the payload of a verified token speaks of, or None."""
    if table.get("version") != 3:
        return None
    username = table["people"].get(f"{payload['iss']},{payload['sub']}")
    issuer = payload["iss"]
    groups = groups_of(payload, table["prefixes"].get(issuer, ""), tuple(table["foreign"].get(issuer, ())))
    if username is None or not (groups.intersection(table["login"]) or username in table["login_people"]):
        return None
    for rule in table["rules"]:
        if groups.intersection(rule["groups"]) or username in rule["people"]:
            account: str = rule["account"].replace("{username}", username)
            return account if may_be_account(account) and account not in table["refused"] else None
    return None


def main(argv: list[str]) -> int:
    """Print the account and return 0, or return 1."""
    try:
        with open(argv[1]) as file:  # noqa: PTH123 (pathlib's import costs some milliseconds)
            account = map_account(json.load(file), json.load(sys.stdin))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        # The name of the error only: its text could hold a claim.
        sys.stderr.write(f"af-hub mapper: nobody is mapped ({type(error).__name__} with {argv[1:]})\n")
        return 1
    if account is None:
        return 1
    sys.stdout.write(account)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
