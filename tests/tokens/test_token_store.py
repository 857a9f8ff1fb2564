"""What the keeper's database holds, and what it must not show."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy.exc import OperationalError

from af_hub.errors import Refused, Unavailable
from af_hub.iam.claims import Claims
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.records import Record, describe_record, read_record
from af_hub.tokens.store import Login, Store

ADA = Claims("https://iam.af-hub.test/", "sub-ada", "ada", ("/cms", "/cms/itcms"), "Ada", "ada@af-hub.test")
KEY, OTHER = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())
LOGIN = Login("the-refresh-token", AccessToken("the-access-token", 1.0, 2.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keeper.sqlite"


def filled(path: Path, *keys: Fernet) -> Store:
    store = Store(path, keys or (KEY,))
    store.write_claims(ADA, 5.0)
    store.write_login("ada", LOGIN)
    return store


def test_what_was_written_is_there_after_a_restart(path: Path) -> None:
    filled(path).close()
    store = Store(path, [KEY])
    assert store.logins() == {"ada": LOGIN}
    assert store.record("ada") == Record(ADA, 5.0)
    assert store.record("bob") is None


def test_what_could_not_be_written_is_not_in_the_error(path: Path) -> None:
    """It goes into the hub's log: sealed tokens, names and addresses do not."""
    store = filled(path)
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE people")
        other.execute("DROP TABLE logins")
    for write in (lambda: store.write_login("ada", LOGIN), lambda: store.write_claims(ADA, 5.0)):
        with pytest.raises(OperationalError, match="no such table") as error:
            write()
        assert "gAAAA" not in str(error.value) and ADA.email not in str(error.value)


def test_no_token_in_clear_and_no_others_eyes(path: Path) -> None:
    filled(path).close()
    content = path.read_bytes()
    assert b"the-refresh-token" not in content and b"the-access-token" not in content
    assert path.stat().st_mode & 0o777 == 0o600
    assert "the-" not in repr(LOGIN)


def test_keys_change_one_after_the_other(path: Path) -> None:
    filled(path).close()
    both = Store(path, [OTHER, KEY])
    assert both.logins() == {"ada": LOGIN}
    both.write_login("ada", LOGIN)
    both.close()
    assert Store(path, [OTHER]).logins() == {"ada": LOGIN}
    assert Store(path, [KEY]).logins() == {}


def test_name_stays_with_its_first_subject(path: Path) -> None:
    store = filled(path)
    assert store.pin(ADA) == ADA
    with pytest.raises(Refused, match="somebody else"):
        store.pin(replace(ADA, subject="sub-eve"))
    with pytest.raises(Refused, match="somebody else"):
        store.pin(replace(ADA, issuer="https://other.test/"))


def test_subject_keeps_its_name_when_the_iam_renames_it(path: Path) -> None:
    store = filled(path)
    assert store.pin(replace(ADA, username="ada-new", groups=())).username == "ada"


def test_record_is_read_without_a_hub_and_not_written(path: Path) -> None:
    assert read_record(path, "ada") is None
    assert not path.exists()
    filled(path).close()
    before = path.read_bytes()
    assert read_record(path, "ada") == Record(ADA, 5.0)
    assert read_record(path, "ada' OR 1=1 --") is None
    assert path.read_bytes() == before


def test_broken_database_is_said(path: Path) -> None:
    path.write_bytes(b"no database, but long enough to be taken for one" * 10)
    with pytest.raises(Unavailable, match="cannot be read"):
        read_record(path, "ada")


def test_record_as_json() -> None:
    assert describe_record(Record(ADA, 5.0)) == {
        "issuer": "https://iam.af-hub.test/",
        "subject": "sub-ada",
        "username": "ada",
        "groups": ["/cms", "/cms/itcms"],
        "name": "Ada",
        "email": "ada@af-hub.test",
        "seen_at": 5.0,
    }
