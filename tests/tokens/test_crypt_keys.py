"""Keys are changed without logging anybody out, and never lost by mistake."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_token_store import ADA, LOGIN

from af_hub.cli import main
from af_hub.errors import AFError, PolicyError, Refused
from af_hub.tokens import keys
from af_hub.tokens.store import Store


def opened(database: Path, file: Path) -> Store:
    return Store(database, [keys.fernet(bytes.fromhex(key)) for key in keys.read_keys(file)])


def test_change_of_keys_from_begin_to_end(tmp_path: Path) -> None:
    file, database = tmp_path / "keys", tmp_path / "keeper.sqlite"
    first = keys.make(file)
    store = opened(database, file)
    store.write_claims(ADA, 1.0)
    store.write_login("ada", LOGIN)
    store.close()

    second = keys.rotate(file)
    assert keys.read_keys(file) == [second, first] and file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused, match="Start the hub anew"):
        keys.prune(file, database)

    store = opened(database, file)  # as the hub does when it starts
    assert store.sealed_by() == [0, 1, 0]
    assert store.reseal() == 1 and store.reseal() == 0
    assert store.sealed_by() == [1, 0, 0] and store.logins() == {"ada": LOGIN}
    store.close()

    assert keys.prune(file, database) == [first] and keys.prune(file, database) == []
    assert opened(database, file).logins() == {"ada": LOGIN}


def test_login_written_between_two_steps_of_resealing_stays(tmp_path: Path) -> None:
    file, database = tmp_path / "keys", tmp_path / "keeper.sqlite"
    keys.make(file)
    store = opened(database, file)
    store.write_claims(ADA, 1.0)
    store.write_login("ada", LOGIN)
    rows = store._rows()
    keys.rotate(file)
    anew = opened(database, file)
    anew._rows = lambda: rows  # type: ignore[method-assign]
    newer = type(LOGIN)("newer", None)
    store.write_login("ada", newer)
    anew.reseal()
    assert store.logins() == {"ada": newer}


def test_lost_key_is_said_and_nothing_is_thrown_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, database = tmp_path / "keys", tmp_path / "keeper.sqlite"
    keys.make(file)
    store = opened(database, file)
    store.write_claims(ADA, 1.0)
    store.write_login("ada", LOGIN)
    other = tmp_path / "other"
    keys.make(other)
    anew = opened(database, other)
    assert anew.logins() == {} and "1 of 1 people" in caplog.text and anew.sealed_by() == [0, 1]
    assert anew.reseal() == 0 and store.logins() == {"ada": LOGIN}


@pytest.mark.parametrize("content", ["", "abc", "zz" * 32, "ab" * 32 + "\n\nnot a key"])
def test_file_that_is_no_key_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(PolicyError) as caught:
        keys.read_keys(file)
    assert not content or content not in str(caught.value)


def test_others_may_not_read_it_and_none_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with pytest.raises(PolicyError, match="af-hub keys new"):
        keys.read_keys(file)
    keys.make(file)
    with pytest.raises(Refused, match="rotate"):
        keys.make(file)
    file.chmod(0o640)
    with pytest.raises(AFError, match="0600"):
        keys.rotate(file)


def test_commands(tmp_path: Path) -> None:
    file, database = tmp_path / "keys", tmp_path / "keeper.sqlite"

    def run(*arguments: str) -> str:
        more = ["--database", str(database)] if arguments[0] in ("list", "prune") else []
        done = CliRunner().invoke(main, ["keys", *arguments, "--file", str(file), *more])
        assert done.exit_code == 0, done.output
        return done.output

    made = run("new")
    key = file.read_text().strip()
    assert keys.mark(key) in made and key not in made
    store = opened(database, file)
    store.write_claims(ADA, 1.0)
    store.write_login("ada", LOGIN)
    store.close()
    assert "restart the hub" in run("rotate")
    assert "1 login" in run("list")
    assert CliRunner().invoke(main, ["keys", "prune", "--file", str(file), "--database", str(database)]).exit_code == 1
    opened(database, file).reseal()
    assert keys.mark(key) in run("prune")


def test_prune_of_keys_that_nobody_counted(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = keys.make(file)
    second = keys.rotate(file)
    with pytest.raises(Refused, match=r"There is no .*mistyped\.sqlite"):
        keys.prune(file, tmp_path / "mistyped.sqlite")
    assert keys.read_keys(file) == [second, first]


def test_files_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"cannot be written \(No such file or directory\)"):
        keys.make(tmp_path / "nowhere" / "keys")


def test_a_key_file_of_somebody_else_stays_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    first = keys.make(file)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(Refused, match="run this as the hub's user"):
        keys.rotate(file)
    assert keys.read_keys(file) == [first]
