"""What the program beside XRootD's servers does with a policy, keys, and an issuer that fails."""

import json
import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_authority import ISSUER
from af_hub.xrootd.watch import BORNE_SECONDS, RENEW_SECONDS, Server, Watch

ABOUT: dict[str, Any] = {"facility": {"name": "AF", "contact": "c"}, "rules": [], "images": {}, "sizes": {}}


class Here:
    """An issuer, a policy, an origin and a cache; the clock is ours."""

    def __init__(self, folder: Path, iam: DemoIAM) -> None:
        self.iam, self.folder = iam, folder
        self.now = time.time() + 60  # by this clock every file has rested
        self.policy = folder / "facility.yaml"
        self.write(data_paths=["/protected"])
        for name in ("origin", "cache"):
            (folder / name).mkdir()
        servers = [Server(folder / "origin"), Server(folder / "cache", "root://o:2094")]
        self.watch = Watch(self.policy, servers, ["/store"], clock=lambda: self.now)

    def write(self, **issuer: object) -> None:
        about = {"name": "demo", "issuer": ISSUER, "discovery": self.iam.discovery, **issuer}
        self.policy.write_text(yaml.safe_dump({**ABOUT, "issuers": [about]}))

    def rules(self, server: str) -> str:
        return (self.folder / server / "scitokens.cfg").read_text()

    def keys(self, server: str) -> dict[str, Any]:
        database = self.folder / server / "scitokens/scitokens_cpp.sqllite"
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("SELECT issuer, keys FROM keycache").fetchall()
        assert [issuer for issuer, _ in rows] == [ISSUER]
        found: dict[str, Any] = json.loads(rows[0][1])
        return found


@pytest.fixture
async def here(tmp_path: Path):
    async with DemoIAM([], []) as iam:
        yield Here(tmp_path, iam)


async def test_the_first_look_writes_all(here: Here) -> None:
    assert await here.watch.look()
    until = int(here.now + BORNE_SECONDS)
    for server in ("origin", "cache"):
        assert here.keys(server) == {"jwks": here.iam.keys.published(), "expires": until, "next_update": until}
        folder = here.folder / server
        assert {path.stat().st_mode & 0o777 for path in folder.glob("*.cfg")} == {0o600}
        assert (folder / "scitokens").stat().st_mode & 0o777 == 0o700
    assert "base_path = /\n" in here.rules("origin") and "base_path = /root:/o:2094" in here.rules("cache")


async def test_rotated_keys_replace_all_of_before(here: Here) -> None:
    await here.watch.look()
    here.iam.keys.rotate(keep=False)
    await here.watch.look()
    assert here.keys("cache")["jwks"] == here.iam.keys.published()


async def test_the_same_keys_are_written_again_now_and_then(here: Here) -> None:
    await here.watch.look()
    first = here.keys("origin")["expires"]
    for later, grows in ((RENEW_SECONDS / 2, False), (RENEW_SECONDS, True)):
        here.now += later
        await here.watch.look()
        assert (here.keys("origin")["expires"] > first) == grows


@pytest.mark.parametrize("fault", ["down", "html", "list", "cut", "other issuer"])
async def test_an_issuer_that_fails_is_said_once_and_its_keys_stay(
    here: Here, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await here.watch.look()
    keys = here.keys("cache")
    here.iam.faults["discovery"] = fault
    here.now += RENEW_SECONDS
    assert await here.watch.look() and await here.watch.look()
    assert here.keys("cache") == keys and len(caplog.records) == 1
    here.iam.recover()
    await here.watch.look()
    assert here.keys("cache") != keys and caplog.messages[1] == f"{ISSUER}: well again"


async def test_an_issuer_without_keys_is_not_believed(here: Here) -> None:
    here.iam.faults["keys"] = "list"
    assert not await here.watch.look()
    assert "restricted_path = /protected\n" in here.rules("origin"), "the rules need no issuer"


async def test_an_edit_is_taken_and_a_broken_one_is_not(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    await here.watch.look()
    here.write(data_paths=["/protected", "/more"])
    await here.watch.look()
    assert "restricted_path = /protected, /more\n" in here.rules("cache")
    for broken in ("version: 7", "issuers: [", ""):
        here.policy.write_text(broken)
        assert await here.watch.look()
    here.policy.unlink()
    assert await here.watch.look()
    assert "restricted_path = /protected, /more\n" in here.rules("cache")
    assert "what was in force stays so" in caplog.text


async def test_a_half_saved_policy_puts_nothing_in_force_though_it_is_a_valid_one(here: Here) -> None:
    await here.watch.look()
    before = here.rules("origin")
    here.write(data_paths=["/protected", "/more"])
    whole = here.policy.read_text()
    here.policy.write_text(whole.replace("- /protected\n", ""))
    here.now = here.policy.stat().st_mtime
    assert await here.watch.look() and here.rules("origin") == before
    here.policy.write_text(whole)
    here.now = here.policy.stat().st_mtime + 0.9
    assert await here.watch.look() and here.rules("origin") == before
    here.now += 0.2
    assert await here.watch.look() and "restricted_path = /protected, /more\n" in here.rules("origin")


async def test_while_an_edit_is_wrong_it_is_said_once_and_keys_are_renewed(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await here.watch.look()
    text = here.policy.read_text()
    here.policy.write_text("issuers: [")
    here.iam.keys.rotate(keep=False)
    assert await here.watch.look() and await here.watch.look()
    assert here.keys("cache")["jwks"] == here.iam.keys.published() and len(caplog.records) == 1
    here.policy.write_text(text)
    await here.watch.look()
    assert caplog.messages[1:] == ["policy: well again"]
