"""The hub's signing keys over the months: who is published, who signs, and that nobody who verifies ever meets a stranger."""

import json
import random
from pathlib import Path

import pytest

from af_hub.errors import PolicyError, Unavailable
from af_hub.tokens.issuer_keys import DAY, IssuerKey, KeyFile, keep, next_from, read_keys, signing

LIFE = 30 * DAY
START = 1_800_000_000.0


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path, clock: Clock) -> KeyFile:
    return KeyFile(tmp_path / "keys.json", LIFE, clock)


def key(signs_from: float) -> IssuerKey:
    return IssuerKey(f"k{signs_from:g}", "", signs_from)


@pytest.mark.parametrize(
    "begins, now, life, wanted",
    [
        pytest.param([], 5.0, LIFE, 5.0, id="the first signs at once"),
        pytest.param([0], 28 * DAY, LIFE, None, id="too early"),
        pytest.param([0], 29 * DAY, LIFE, 30 * DAY, id="a day ahead"),
        pytest.param([0, 30 * DAY], 29.5 * DAY, LIFE, None, id="there is one already"),
        pytest.param([0], 90 * DAY, LIFE, 91 * DAY, id="a hub that was off for long still tells a day ahead"),
    ],
)
def test_when_another_key_signs(begins: list[float], now: float, life: float, wanted: float | None) -> None:
    assert next_from([key(one) for one in begins], now, life) == wanted


def test_who_signs_and_who_is_kept() -> None:
    keys = [key(30 * DAY), key(0)]
    assert [signing(keys, day * DAY).signs_from / DAY for day in (-1, 0, 29, 30, 31)] == [0, 0, 0, 30, 30]
    assert [len(keep(keys, day * DAY)) for day in (29, 31.9, 32)] == [2, 2, 1]
    assert keep(keys, 31 * DAY) == [key(0), key(30 * DAY)]


def test_a_year_of_somebody_who_looks_once_a_day_and_of_tokens_that_live_a_day(file: KeyFile, clock: Clock) -> None:
    seen: list[set[str]] = []
    signed: list[str] = []
    for _ in range(365):
        seen.append({one.kid for one in file.current()})
        signed.append(signing(file.current(), clock.now).kid)
        assert signed[-1] in seen[max(0, len(seen) - 2)]  # known to whoever looked yesterday
        assert signed[max(0, len(signed) - 2)] in seen[-1]  # yesterday's token still verifies
        assert len(seen[-1]) <= 2
        clock.now += DAY * random.Random(len(seen)).uniform(0.9, 1.0)
    assert 11 <= len(set(signed)) <= 13


def test_keys_are_private_and_survive_a_restart(tmp_path: Path, file: KeyFile, clock: Clock) -> None:
    keys = file.current()
    path = tmp_path / "keys.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyFile(path, LIFE, clock).current() == keys == read_keys(path)
    public = keys[0].public
    assert set(public) == {"kty", "crv", "x", "y", "kid", "alg", "use"} and public["alg"] == "ES256"
    assert "BEGIN" in keys[0].pem and "BEGIN" not in repr(keys)


@pytest.mark.parametrize("wrong", ["", "{}{", '{"a": 1}', '[{"kid": "a", "pem": "x", "signs_from": 1}]', "[1]"])
def test_file_that_holds_something_else_says_what_to_do(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(wrong)
    with pytest.raises(PolicyError, match="remove the file"):
        KeyFile(path, LIFE, Clock())


def test_file_that_others_read_is_refused(tmp_path: Path, file: KeyFile) -> None:
    file.current()
    (tmp_path / "keys.json").chmod(0o640)
    with pytest.raises(PolicyError, match="0600"):
        KeyFile(tmp_path / "keys.json", LIFE, Clock())


def test_removed_file_means_other_keys(tmp_path: Path, file: KeyFile, clock: Clock) -> None:
    first = file.current()
    (tmp_path / "keys.json").unlink()
    assert not set(first) & set(KeyFile(tmp_path / "keys.json", LIFE, clock).current())


def test_a_file_that_cannot_be_written_is_said_once_a_minute(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = KeyFile(tmp_path / "gone" / "keys.json", LIFE, clock)
    for later, said in ((0, 1), (1, 1), (58, 1), (1, 2), (59, 2), (-100, 3)):
        clock.now += later
        with pytest.raises(Unavailable):
            nowhere.current()
        assert len(caplog.records) == said


def test_key_that_is_not_on_disk_signs_nothing(tmp_path: Path, clock: Clock) -> None:
    nowhere = KeyFile(tmp_path / "gone" / "keys.json", LIFE, clock)
    with pytest.raises(Unavailable):
        nowhere.current()
    (tmp_path / "gone").mkdir()
    first = nowhere.current()
    (tmp_path / "gone" / "keys.json").unlink()
    (tmp_path / "gone").rmdir()
    clock.now += LIFE
    assert nowhere.current() == first  # goes on with what is there
    (tmp_path / "gone").mkdir()
    assert len(nowhere.current()) == 2 == len(json.loads((tmp_path / "gone" / "keys.json").read_text()))
