"""The people of the demo, and where ``af-hub explain`` finds what is known of somebody."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import yaml

from af_hub.errors import ClaimsError
from af_hub.iam.claims import Claims, normalise_groups, read_claims
from af_hub.policy.model import Policy
from af_hub.tokens.records import read_record

USERS_FILE = Path(__file__).with_name("users.yaml")
KEYS = {"username", "subject", "name", "email", "groups", "about"}


def demo_users(path: Path = USERS_FILE) -> list[dict[str, Any]]:
    """The rows of the users file, in its order.

    Raises
    ------
    ClaimsError
        When it cannot be read, or does not say all of everybody, or two of them could not be told apart.
    """
    try:
        rows = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ClaimsError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise ClaimsError(f"{path}: no YAML ({error})") from error
    if not isinstance(rows, list) or not rows:
        raise ClaimsError(f"{path}: a list of people is wanted, each with the keys {', '.join(sorted(KEYS))}")
    for number, row in enumerate(rows, 1):
        _check_row(row, f"{path}, person {number}")
    for key in ("username", "subject"):
        values = [row[key] for row in rows]
        if twice := {value for value in values if values.count(value) > 1}:
            raise ClaimsError(
                f"{path}: {key} {', '.join(sorted(twice))} stands twice; it must be another for each person"
            )
    return rows


def _check_row(row: object, where: str) -> None:
    found = set(row) if isinstance(row, dict) else set()
    if missing := KEYS - found:
        raise ClaimsError(f"{where}: without {', '.join(sorted(missing))}; wanted are {', '.join(sorted(KEYS))}")
    if more := found - KEYS:
        raise ClaimsError(f"{where}: unknown {', '.join(sorted(map(str, more)))}; wanted are {', '.join(sorted(KEYS))}")
    assert isinstance(row, dict)
    texts = KEYS - {"groups"}
    if wrong := sorted(key for key in texts if not isinstance(row[key], str) or (key != "about" and not row[key])):
        raise ClaimsError(f"{where}: {wrong[0]} is {row[wrong[0]]!r}; a text is wanted")
    if not isinstance(row["groups"], list) or not all(isinstance(group, str) for group in row["groups"]):
        raise ClaimsError(f"{where}: groups is {row['groups']!r}; a list of names is wanted, as in [/cms, /cms/itcms]")


def demo_claims(issuer: str, path: Path = USERS_FILE) -> Iterator[Claims]:
    """What the demo IAM says of each of them."""
    for user in demo_users(path):
        yield Claims(
            issuer, user["subject"], user["username"], normalise_groups(user["groups"]), user["name"], user["email"]
        )


def _issuer(policy: Policy, name: str | None) -> str:
    """The issuer of this short name; the first one when none is given."""
    if name is None:
        return policy.issuers[0].issuer
    found = next((one for one in policy.issuers if one.name == name), None)
    if found is None:
        raise ClaimsError(f"no issuer is called {name!r}; there are {', '.join(one.name for one in policy.issuers)}")
    return found.issuer


def find_claims(
    policy: Policy,
    username: str | None,
    claims_file: TextIO | None,
    groups: str | None,
    database: Path,
    users: Path = USERS_FILE,
    issuer_name: str | None = None,
) -> tuple[Claims, str]:
    """The claims that a question is about, and where they come from in words.

    Raises
    ------
    ClaimsError
        When nothing is known of that person, or not exactly one of the three was given, or there is no such issuer.
    """
    if sum(given is not None for given in (username, claims_file, groups)) != 1:
        raise ClaimsError("give one of: a user name, --claims FILE, --groups /a,/b")
    issuer = _issuer(policy, issuer_name)
    if groups is not None:
        return Claims(issuer, "-", "somebody", normalise_groups(groups.split(","))), "the command line"
    if claims_file is not None:
        try:
            found = json.load(claims_file)
        except ValueError as error:
            raise ClaimsError(f"{claims_file.name} is no JSON: {error}") from error
        return read_claims(found, found.get("iss", issuer)), claims_file.name
    assert username is not None
    record = read_record(database, username)
    if record is not None:
        seen = datetime.fromtimestamp(record.seen_at, UTC)
        return record.claims, f"what the IAM said at {seen:%Y-%m-%d %H:%M} UTC (recorded in {database})"
    claims = next((person for person in demo_claims(issuer, users) if person.username == username), None)
    if claims is None:
        known = ", ".join(person.username for person in demo_claims(issuer, users))
        where = f"{database} knows no login of them" if database.exists() else f"there is no {database}"
        raise ClaimsError(f"nothing is known of {username!r}: {where}, and the demo's user file has {known}")
    return claims, f"the demo's user file ({users.name}); no login is recorded"
