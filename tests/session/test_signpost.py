"""The signpost's decisions, and what it says to clients that are none; with XRootD's own client in tests/xrootd."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from af_hub.session.probes import ANSWER, HELLO
from af_hub.session.signpost import (
    BAD_ARGUMENT,
    ERROR,
    NOT_FOUND,
    OK,
    REDIRECT,
    REQUEST,
    RESPONSE,
    TOKEN_FILE_VARIABLE,
    UNREACHABLE,
    UNSUPPORTED,
    WHOLE_URL,
    Request,
    Signpost,
    Wish,
    login_name,
    open_signpost,
    read_wish,
    signpost_before,
    way_of,
    with_login,
)
from af_hub.testing.process import free_port

ORIGIN = "root://o.test:1094//store/f"


def wish(*tried: str, reasons: tuple[str, ...] = ()) -> Wish:
    return Wish(ORIGIN, "o.test", frozenset(tried), frozenset(reasons))


@pytest.mark.parametrize(
    "tried, alive, way",
    [
        pytest.param((), True, "cache", id="first time"),
        pytest.param((), False, "origin", id="cache is down"),
        pytest.param(("c.test",), True, "origin", id="cache failed this client"),
        pytest.param(("o.test",), True, "cache", id="origin failed, cache is back"),
        pytest.param(("o.test",), False, "none", id="origin failed, cache is down"),
        pytest.param(("c.test", "o.test"), True, "none", id="both failed"),
    ],
)
def test_way(tried: tuple[str, ...], alive: bool, way: str) -> None:
    assert way_of(wish(*tried), "c.test", alive) == way


@pytest.mark.parametrize(
    "asked, found",
    [
        pytest.param(f"/{ORIGIN}", wish(), id="plain"),
        pytest.param(f"//{ORIGIN}?xrdcl.requuid=1", wish(), id="with the client's own words"),
        pytest.param(
            f"/{ORIGIN}?tried=c.test,d.test&triedrc=enoent", wish("c.test", "d.test", reasons=("enoent",)), id="again"
        ),
        pytest.param("/store/f", None, id="no origin"),
        pytest.param("/https://o.test/f", None, id="another protocol"),
        pytest.param("/root://", None, id="no host"),
        pytest.param("/root://[", None, id="no address"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_what_is_asked(asked: str, found: Wish | None) -> None:
    assert read_wish(asked) == found


class Client:
    """A client of the protocol, word by word."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, signpost: str) -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", int(signpost.rstrip("/").rpartition(":")[2])))
        client.writer.write(HELLO)
        assert ANSWER.unpack(await client.reader.readexactly(16))[4] == 0
        return client

    async def ask(self, request: int, data: bytes = b"") -> tuple[int, bytes]:
        self.writer.write(REQUEST.pack(b"ab", request, bytes(16), len(data)) + data)
        stream, status, size = RESPONSE.unpack(await self.reader.readexactly(8))
        assert stream == b"ab"
        return status, await self.reader.readexactly(size)


@pytest.fixture
async def nobody() -> str:
    """A cache that is not there."""
    return f"root://127.0.0.1:{free_port()}"


@pytest.fixture
async def client(nobody: str) -> AsyncIterator[Client]:
    async with open_signpost(nobody) as signpost:
        yield await Client.of(signpost)


async def test_a_session_of_the_protocol(client: Client) -> None:
    assert (await client.ask(Request.PROTOCOL))[0] == OK
    assert len((await client.ask(Request.LOGIN))[1]) == 16
    status, body = await client.ask(Request.OPEN, f"/{ORIGIN}".encode())
    assert status == REDIRECT and body == struct.pack(">i", WHOLE_URL) + ORIGIN.encode()
    assert (await client.ask(Request.PING)) == (OK, b"")
    assert (await client.ask(Request.END_SESSION)) == (OK, b"")


@pytest.mark.parametrize(
    "request_, data, code, words",
    [
        pytest.param(Request.OPEN, b"/etc/passwd", BAD_ARGUMENT, b"only files of an origin", id="no origin"),
        pytest.param(Request.OPEN, b"\xff\xfe", BAD_ARGUMENT, b"only files of an origin", id="no text"),
        pytest.param(
            Request.OPEN, f"/{ORIGIN}?tried=o.test&triedrc=enoent".encode(), NOT_FOUND, b"no such file", id="not there"
        ),
        pytest.param(
            Request.OPEN, f"/{ORIGIN}?tried=o.test".encode(), UNREACHABLE, b"neither the cache", id="both down"
        ),
        pytest.param(3017, b"/x", UNSUPPORTED, b"only files are opened", id="stat"),
        pytest.param(1, b"", UNSUPPORTED, b"only files are opened", id="no request at all"),
    ],
)
async def test_errors_in_words(client: Client, request_: int, data: bytes, code: int, words: bytes) -> None:
    status, body = await client.ask(request_, data)
    assert status == ERROR and struct.unpack(">i", body[:4])[0] == code and words in body
    assert (await client.ask(Request.PING)) == (OK, b""), "and the connection is still good"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP"),
        pytest.param(HELLO + REQUEST.pack(b"ab", Request.OPEN, bytes(16), 2**31 - 1), id="endless"),
        pytest.param(HELLO + REQUEST.pack(b"ab", Request.OPEN, bytes(16), -1), id="negative"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_who_speaks_otherwise_is_left_alone(nobody: str, said: bytes) -> None:
    async with open_signpost(nobody) as signpost:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(signpost.rstrip("/").rpartition(":")[2]))
        writer.write(said)
        writer.write_eof()
        assert b"HTTP" not in await reader.read()
        assert await (await Client.of(signpost)).ask(Request.PING) == (OK, b"")


async def test_the_cache_is_looked_at_once_for_all_and_again_later() -> None:
    looks = 0

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal looks
        looks += 1
        await reader.readexactly(20)
        writer.write(ANSWER.pack(b"\0\0", 0, 8, 0x310, 1))
        await writer.drain()
        writer.close()

    now = 1000.0
    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    async with server:
        signpost = Signpost(f"root://127.0.0.1:{server.sockets[0].getsockname()[1]}", lambda: now)
        assert all(await asyncio.gather(*(signpost.alive() for _ in range(5)))) and looks == 1
    now += 1
    assert not await signpost.alive()


async def test_a_job_gets_its_signpost_and_its_children_with_it(nobody: str) -> None:
    environ = {"XROOT_PROXY": f"{nobody}//"}
    async with signpost_before(environ):
        assert environ["AF_CACHE"] == nobody and environ["XROOT_PROXY"] != f"{nobody}//"
        child = dict(environ)
        async with signpost_before(child):
            assert child == environ, "one is enough"
    for without in ({}, {"XROOT_PROXY": ""}):
        async with signpost_before(dict(without)):
            pass


async def test_who_is_quiet_makes_room(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody on the machine can connect, and must not use up what the process has."""
    monkeypatch.setattr("af_hub.session.signpost.CONNECTIONS_AT_MOST", 8)
    async with open_signpost(nobody) as signpost:
        client = await Client.of(signpost)
        quiet = [await Client.of(signpost) for _ in range(5)]
        assert await client.ask(Request.PING) == (OK, b"")
        many = [await Client.of(signpost) for _ in range(6)]
        assert await client.ask(Request.PING) == (OK, b"")
        assert [await one.reader.read() for one in quiet[:4]] == [b""] * 4
        for one in [client, *quiet, *many]:
            one.writer.close()


async def test_the_next_signpost_stands_where_the_last_stood(nobody: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with open_signpost(nobody, listener) as before:
            assert await (await Client.of(before)).ask(Request.PING) == (OK, b"")
        between = asyncio.create_task(Client.of(before))
        async with open_signpost(nobody, listener) as after:
            assert after == before
            assert await (await between).ask(Request.PING) == (OK, b""), "and who asked meanwhile waits"


def test_a_new_token_is_another_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert login_name("") == login_name(str(file)) == ""
    names = []
    for milliseconds in (0, 1, 10**10):
        file.write_text("token")
        os.utime(file, ns=(0, 1_800_000_000 * 10**9 + milliseconds * 10**6))
        names.append(login_name(str(file)))
    assert len(set(names)) == 3 and names[2] == login_name(str(file))
    assert all(name.startswith("t") and name.endswith("@") and len(name) <= 9 for name in names), (
        "XRootD takes eight bytes"
    )


@pytest.mark.parametrize(
    "url, found",
    [
        ("root://o.test:1094//f", "root://t1@o.test:1094//f"),
        ("root://me@o.test//f@g", "root://me@o.test//f@g"),
        ("roots://o.test//f@g", "roots://t1@o.test//f@g"),
    ],
)
def test_who_names_nobody_gets_a_login(url: str, found: str) -> None:
    assert with_login(url, "t1@") == found and with_login(url, "") == url


async def test_a_job_logs_in_with_the_token_that_its_environment_names_now(nobody: str, tmp_path: Path) -> None:
    environ = {"XROOT_PROXY": f"{nobody}//"}
    async with signpost_before(environ):
        client = await Client.of(environ["XROOT_PROXY"])
        asked = f"/{ORIGIN}".encode()
        assert (await client.ask(Request.OPEN, asked))[1] == struct.pack(">i", WHOLE_URL) + ORIGIN.encode()
        (tmp_path / "token").write_text("token")
        environ[TOKEN_FILE_VARIABLE] = str(tmp_path / "token")
        login = login_name(environ[TOKEN_FILE_VARIABLE])
        assert (await client.ask(Request.OPEN, asked))[1][4:].decode() == with_login(ORIGIN, login)
