"""The keeper's own database: who somebody is (in clear) and the tokens that the hub holds for them (sealed).

Two tables: ``people`` pins a user name to one (issuer, subject) for ever, ``logins`` holds refresh and access token, encrypted with
the hub's keys (Fernet; several keys mean that the first one seals and any of them opens). JupyterHub's own database never sees either.
Every change is committed before the call returns; on a full disk each raises :class:`~af_hub.errors.Unavailable` and changes nothing.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from af_hub.database import tell_disk_trouble
from af_hub.errors import Refused
from af_hub.iam.claims import Claims
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.records import Record, row_to_record

log = logging.getLogger(__name__)

metadata = MetaData()
people = Table(
    "people",
    metadata,
    Column("username", String, primary_key=True),
    Column("issuer", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("groups", String, nullable=False),
    Column("name", String, nullable=False),
    Column("email", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    UniqueConstraint("issuer", "subject"),
)
logins = Table(
    "logins",
    metadata,
    Column("username", String, ForeignKey("people.username"), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)


@dataclass(frozen=True)
class Login:
    """What the hub holds for somebody.

    Parameters
    ----------
    refresh_token
        Empty when the IAM ended the login.
    token
        The last access token for sessions; None when there was none yet.
    """

    refresh_token: str = field(repr=False)
    token: AccessToken | None = None


class Store:
    """The database at ``path``, made with mode 0600 when missing, and the keys that seal its tokens."""

    def __init__(self, path: Path, keys: Sequence[Fernet]) -> None:
        path.touch(mode=0o600)
        self._seal = MultiFernet(keys)
        # What is written must not stand in the text of an error, which goes into a log.
        self._engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
        tell_disk_trouble(self._engine, "The hub")
        metadata.create_all(self._engine)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def record(self, username: str) -> Record | None:
        """Who this user is; None for a stranger."""
        columns = (people.c[name] for name in ("issuer", "subject", "username", "groups", "name", "email", "seen_at"))
        with self._engine.connect() as connection:
            row = connection.execute(select(*columns).where(people.c.username == username)).first()
        return row_to_record(*row) if row else None

    def pin(self, claims: Claims) -> Claims:
        """``claims`` under the user name that their subject has had here from the first login on.

        Raises
        ------
        Refused
            When the name belongs to another subject.
        """
        with self._engine.connect() as connection:
            same_person = (people.c.issuer == claims.issuer) & (people.c.subject == claims.subject)
            username = connection.execute(select(people.c.username).where(same_person)).scalar()
        if username is not None:
            return replace(claims, username=username)
        if self.record(claims.username) is not None:
            raise Refused(
                f"The user name {claims.username} belongs to somebody else at this facility, who had it before you. "
                "Ask the facility's admins to sort this out."
            )
        return claims

    def write_claims(self, claims: Claims, now: float) -> None:
        """Record what the IAM says now of a pinned user."""
        row = {**asdict(claims), "groups": json.dumps(claims.groups), "seen_at": now}
        change = insert(people).values(row).on_conflict_do_update(index_elements=["username"], set_=row)
        with self._engine.begin() as connection:
            connection.execute(change)

    def logins(self) -> dict[str, Login]:
        """All logins that our keys can open."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(logins.c.username, logins.c.sealed)).all()
        return {username: login for username, sealed in rows if (login := self._open(username, sealed))}

    def write_login(self, username: str, login: Login) -> None:
        """Replace what the hub holds for this user."""
        sealed = self._seal.encrypt(json.dumps(asdict(login)).encode())
        row = {"username": username, "sealed": sealed}
        change = insert(logins).values(row).on_conflict_do_update(index_elements=["username"], set_=row)
        with self._engine.begin() as connection:
            connection.execute(change)

    def _open(self, username: str, sealed: bytes) -> Login | None:
        try:
            found = json.loads(self._seal.decrypt(sealed))
        except InvalidToken:
            log.warning(
                "the tokens of %s were sealed with a key that the hub no longer has; they must log in again", username
            )
            return None
        return Login(found["refresh_token"], AccessToken(**found["token"]) if found["token"] else None)
