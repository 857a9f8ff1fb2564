"""The keeper's own database: who somebody is (in clear) and the tokens that the hub holds for them (sealed).

Three tables: ``people`` pins a user name to one (issuer, subject) for ever; ``logins`` holds refresh and access token, encrypted with
the hub's keys (Fernet; several keys mean that the first one seals and any of them opens); ``flights`` says whose refresh token is at the
IAM at this moment, so that a hub which was killed then knows whom to see to first. JupyterHub's own database never sees any of it.

Every change is committed before the call returns; changes that come at one time from several threads share a commit. On a full disk each
raises :class:`~af_hub.errors.Unavailable` and changes nothing.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import (
    Column,
    Executable,
    Float,
    ForeignKey,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    delete,
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
flights = Table(
    "flights",
    metadata,
    Column("username", String, primary_key=True),
    Column("began_at", Float, nullable=False),
)

COLUMNS = [people.c[name] for name in ("issuer", "subject", "username", "groups", "name", "email", "seen_at")]
"""As :func:`af_hub.tokens.records.row_to_record` takes them."""

Change = tuple[Sequence[Executable], "Future[None]"]
"""What shall be made together, and who waits for it."""


@dataclass(frozen=True)
class Login:
    """What the hub holds for somebody.

    Parameters
    ----------
    refresh_token
        Empty when the login has ended.
    token
        The last access token for sessions; None when there was none yet.
    ends_at
        When the IAM will take the refresh token no longer, as far as it said so.
    why
        Why the login ended; empty while it has not, or when the person knows.
    scope
        What the IAM granted to this login, blanks between; no refresh can have more. Empty when unknown.
    """

    refresh_token: str = field(repr=False)
    token: AccessToken | None = None
    ends_at: float | None = None
    why: str = ""
    scope: str = ""


class Store:
    """The database at ``path``, made with mode 0600 when missing, and the keys that seal its tokens. Any thread may use it."""

    def __init__(self, path: Path, keys: Sequence[Fernet]) -> None:
        path.touch(mode=0o600)
        self._keys, self._seal = list(keys), MultiFernet(keys)
        # What is written must not stand in the text of an error, which goes into a log.
        self._engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
        tell_disk_trouble(self._engine, "The hub")
        metadata.create_all(self._engine)
        self._wanted: deque[Change] = deque()
        self._committing = threading.Lock()

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def record(self, username: str) -> Record | None:
        """Who this user is; None for a stranger."""
        with self._engine.connect() as connection:
            row = connection.execute(select(*COLUMNS).where(people.c.username == username)).first()
        return row_to_record(*row) if row else None

    def records(self) -> dict[str, Record]:
        """Who everybody is that ever logged in."""
        with self._engine.connect() as connection:
            return {row.username: row_to_record(*row) for row in connection.execute(select(*COLUMNS))}

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
        self._commit(insert(people).values(row).on_conflict_do_update(index_elements=["username"], set_=row))

    def logins(self) -> dict[str, Login]:
        """All logins that our keys can open."""
        opened = {username: self._open(sealed) for username, sealed in self._rows()}
        if lost := sorted(username for username, login in opened.items() if login is None):
            log.error(
                "the keys of this hub do not open the tokens of %d of %d people (%.200s); they must log in again, unless the key "
                "that sealed them is added to the key file and the hub started anew",
                len(lost),
                len(opened),
                ", ".join(lost),
            )
        return {username: login for username, login in opened.items() if login}

    def write_login(self, username: str, login: Login) -> None:
        """Replace what the hub holds for this user; whatever was under way for them has ended well."""
        row = {"username": username, "sealed": self._seal.encrypt(json.dumps(asdict(login)).encode())}
        change = insert(logins).values(row).on_conflict_do_update(index_elements=["username"], set_=row)
        self._commit(change, delete(flights).where(flights.c.username == username))

    def begin_flight(self, username: str, now: float) -> None:
        """Note that this user's refresh token is about to be sent to the IAM; :meth:`write_login` or :meth:`end_flight` ends that."""
        row = {"username": username, "began_at": now}
        self._commit(insert(flights).values(row).on_conflict_do_update(index_elements=["username"], set_=row))

    def end_flight(self, username: str) -> None:
        """The refresh token came back as it was."""
        self._commit(delete(flights).where(flights.c.username == username))

    def flights(self) -> dict[str, float]:
        """Whose refresh token was under way when this was last written, and since when."""
        with self._engine.connect() as connection:
            return {row.username: row.began_at for row in connection.execute(select(flights))}

    def sealed_by(self) -> list[int]:
        """How many logins each key sealed, in the keys' order; and last, how many none of them opens."""
        counts = [0] * (len(self._keys) + 1)
        for _, sealed in self._rows():
            opens = (number for number, key in enumerate(self._keys) if _opens(key, sealed))
            counts[next(opens, -1)] += 1
        return counts

    def reseal(self) -> int:
        """Seal again, with the first key, what another one sealed; how many that were."""
        changes = []
        for username, sealed in self._rows():
            if not _opens(self._keys[0], sealed) and self._open(sealed):
                # Only as long as nobody wrote a newer one meanwhile.
                same = (logins.c.username == username) & (logins.c.sealed == sealed)
                changes.append(logins.update().where(same).values(sealed=self._seal.rotate(sealed)))
        if changes:
            self._commit(*changes)
        return len(changes)

    def _rows(self) -> Sequence[tuple[str, bytes]]:
        with self._engine.connect() as connection:
            return [(row.username, row.sealed) for row in connection.execute(select(logins))]

    def _open(self, sealed: bytes) -> Login | None:
        try:
            found = json.loads(self._seal.decrypt(sealed))
        except InvalidToken:
            return None
        return Login(**{**found, "token": AccessToken(**found["token"]) if found["token"] else None})

    def _commit(self, *changes: Executable) -> None:
        """Make these changes together; whoever holds the lock makes those of all who wait for it too, since a commit costs the most."""
        done: Future[None] = Future()
        self._wanted.append((changes, done))
        with self._committing:
            self._commit_all([self._wanted.popleft() for _ in range(len(self._wanted))])
        done.result()

    def _commit_all(self, batch: Sequence[Change]) -> None:
        try:
            with self._engine.begin() as connection:
                for changes, _ in batch:
                    for change in changes:
                        connection.execute(change)
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:
                self._commit_all([one])
        else:
            for _, done in batch:
                done.set_result(None)


def _opens(key: Fernet, sealed: bytes) -> bool:
    try:
        key.decrypt(sealed)
    except InvalidToken:
        return False
    return True
