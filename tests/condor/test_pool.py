"""Calls that fail: nobody there, somebody silent, nonsense. Those that work are in test_real_pool."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from af_hub.condor import operation
from af_hub.condor.pool import CondorPool
from af_hub.errors import PoolAway, Refused
from af_hub.session.processes import Identity, descendants


@asynccontextmanager
async def silent_collector() -> AsyncIterator[str]:
    """Takes connections and says nothing, like a daemon that hangs."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in held:
            writer.close()


def leftovers(folder: Path) -> list[Path]:
    """Folders of calls that are still there."""
    return list(folder.glob("af-hub-condor-*"))


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "reader.tokens"
    path.write_text("not.a.token\n")
    path.chmod(0o600)
    return path


async def test_a_call_ends_with_whoever_made_it(tokens: Path) -> None:
    """A submit that nobody hears of any more must not arrive after somebody has looked at the queue anew."""
    async with silent_collector() as address:
        call = f"CondorPool({address!r}, 'schedd@af-hub.test', '/nowhere/ca.pem').slots(Path({str(tokens)!r}))"
        program = (
            f"import asyncio; from pathlib import Path; from af_hub.condor.pool import CondorPool; asyncio.run({call})"
        )
        asker = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        try:
            child = await until(lambda: next(iter(waiting_for(address, descendants(asker.pid))), None))
        finally:
            asker.kill()
            await asker.wait()
        await until(lambda: not child.alive())


def waiting_for(address: str, pids: set[int]) -> list[Identity]:
    """Those of the processes that hold an open connection to the address."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(port) and row[3] == "01"}
    return [one for pid in pids if (one := Identity.of(pid)) and inodes & set(open_files(pid))]


def open_files(pid: int) -> list[str]:
    try:
        return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


async def until(ask: Callable[[], Any], seconds: float = 20) -> Any:
    """What ``ask`` says once that is something."""
    async with asyncio.timeout(seconds):
        while not (found := ask()):
            await asyncio.sleep(0.02)
    return found


async def test_nobody_there(tokens: Path) -> None:
    pool = CondorPool("127.0.0.1:1", "schedd@af-hub.test", "/nowhere/ca.pem")
    with pytest.raises(PoolAway, match=r"at 127\.0\.0\.1:1 does not answer"):
        await pool.slots(tokens)


@pytest.mark.slow
async def test_silent_pool_costs_its_time_limit_and_leaves_nothing(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "tmp"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    async with silent_collector() as address:
        pool = CondorPool(address, "schedd@af-hub.test", "/nowhere/ca.pem", timeout=1)
        began = time.monotonic()
        with pytest.raises(PoolAway, match="within 1 s"):
            await pool.submit("header.payload.signature", "queue", {"tls.key": b"secret"})
    assert time.monotonic() - began < 5
    assert list(private.iterdir()) == []


async def test_child_that_says_nothing_useful(tokens: Path, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho Traceback\n")
    program.chmod(0o755)
    with pytest.raises(PoolAway, match="without an answer"):
        await CondorPool("127.0.0.1:1", "s", "ca", python=str(program)).slots(tokens)


async def test_token_is_in_a_private_file_while_the_call_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's argument list, environment and request, as a program in its place sees them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = tmp_path / "python"
    program.write_text(
        '#!/bin/sh\nout=$(dirname $0)/seen\nenv > $out; echo "$@" >> $out; cat > $out.json\n'
        'stat -c %a $(dirname $(sed \'s/.*token_file": "\\([^"]*\\).*/\\1/\' $out.json)) '
        '$(sed \'s/.*token_file": "\\([^"]*\\).*/\\1/\' $out.json) > $out.modes\n'
        'cat $(sed \'s/.*token_file": "\\([^"]*\\).*/\\1/\' $out.json) > $out.token\n'
        'echo \'{"error": {"kind": "refused", "message": "no"}}\'\n'
    )
    program.chmod(0o755)
    with pytest.raises(Refused, match=r"^no$"):
        await CondorPool("127.0.0.1:1", "s", "ca", python=str(program)).remove("a.secret.token", "True")
    assert (tmp_path / "seen.token").read_text() == "a.secret.token"
    assert (tmp_path / "seen.modes").read_text().split() == ["700", "600"]
    assert "secret" not in (tmp_path / "seen").read_text() + (tmp_path / "seen.json").read_text()
    assert leftovers(tmp_path) == []


def test_settings_use_one_token_and_nothing_of_the_machine() -> None:
    request = {"collector": "cm:9618", "ca_file": "/ca.pem"}
    for extra, methods in (({"token_file": "/t"}, "SCITOKENS"), ({"tokens_folder": "/d"}, "IDTOKENS")):
        found = operation.settings({**request, **extra})
        assert found["CONDOR_CONFIG"] == "/dev/null"
        assert found["_condor_SEC_CLIENT_AUTHENTICATION_METHODS"] == methods
        assert found["_condor_SEC_CLIENT_SESSION_DURATION"] == "0"
        assert found["_condor_SEC_TOKEN_SYSTEM_DIRECTORY"] == "/dev/null"
