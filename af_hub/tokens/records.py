"""Claims as the IAM last gave them, one row a person: the part of the keeper's database that is no secret.

``af-hub explain`` and the controller's people endpoint read it; :mod:`af_hub.tokens.store` alone writes it. Reading needs no hub.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.iam.claims import Claims

SECONDS = 2.0


@dataclass(frozen=True)
class Record:
    """Who somebody is, and when the IAM last said so (Unix seconds)."""

    claims: Claims
    seen_at: float


def describe_record(record: Record) -> dict[str, object]:
    """The JSON of a record, as in ``GET /hub/api/af/people/{username}``."""
    return {**asdict(record.claims), "groups": list(record.claims.groups), "seen_at": record.seen_at}


def read_record(database: Path, username: str) -> Record | None:
    """The record of this user in the keeper's ``database``, which is opened for reading only; None when there is none.

    Raises
    ------
    Unavailable
        When the database cannot be read.
    """
    if not database.exists():
        return None
    try:
        with closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=SECONDS)
        ) as connection:
            row = connection.execute(
                "SELECT issuer, subject, username, groups, name, email, seen_at FROM people WHERE username = ?",
                (username,),
            ).fetchone()
    except sqlite3.Error as error:
        raise Unavailable(f"the claims recorded in {database} cannot be read: {error}") from error
    return row and row_to_record(*row)


def row_to_record(
    issuer: str, subject: str, username: str, groups: str, name: str, email: str, seen_at: float
) -> Record:
    """A record out of its row."""
    return Record(Claims(issuer, subject, username, tuple(json.loads(groups)), name, email), seen_at)
