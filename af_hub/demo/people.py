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


def demo_users(path: Path = USERS_FILE) -> list[dict[str, Any]]:
    """The rows of the users file, in its order."""
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())
    return found


def demo_claims(issuer: str, path: Path = USERS_FILE) -> Iterator[Claims]:
    """What the demo IAM says of each of them."""
    for user in demo_users(path):
        yield Claims(
            issuer, user["subject"], user["username"], normalise_groups(user["groups"]), user["name"], user["email"]
        )


def find_claims(
    policy: Policy, username: str | None, claims_file: TextIO | None, groups: str | None, database: Path
) -> tuple[Claims, str]:
    """The claims that a question is about, and where they come from in words.

    Raises
    ------
    ClaimsError
        When nothing is known of that person, or not exactly one of the three was given.
    """
    if sum(given is not None for given in (username, claims_file, groups)) != 1:
        raise ClaimsError("give one of: a user name, --claims FILE, --groups /a,/b")
    issuer = policy.issuers[0].issuer
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
    claims = next((person for person in demo_claims(issuer) if person.username == username), None)
    if claims is None:
        known = ", ".join(person.username for person in demo_claims(issuer))
        where = f"{database} knows no login of them" if database.exists() else f"there is no {database}"
        raise ClaimsError(f"nothing is known of {username!r}: {where}, and the demo's user file has {known}")
    return claims, f"the demo's user file ({USERS_FILE.name}); no login is recorded"
