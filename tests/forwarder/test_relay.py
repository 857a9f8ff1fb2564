"""Bytes of one stream, from a program through bridge, forwarder and job to another program."""

import asyncio
import hashlib
import random
import socket
import struct
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from af_hub.forwarder import ssh
from af_hub.forwarder.access import Service
from af_hub.forwarder.client import tcp_connector
from af_hub.forwarder.link import Link

MB = 1 << 20
FEW_SECONDS = 30


async def listening(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return tcp_connector(*server.sockets[0].getsockname()[:2])


async def send(writer, data):
    for start in range(0, len(data), MB):
        writer.write(data[start : start + MB])
        await writer.drain()
    writer.write_eof()


async def digest(reader):
    seen = hashlib.sha256()
    while data := await reader.read(MB):
        seen.update(data)
    return seen.hexdigest()


@pytest.mark.slow
async def test_fifty_megabytes_each_way_at_once_arrive_as_they_left(bridged):
    up, down = (random.Random(seed).randbytes(50 * MB) for seed in (1, 2))
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        seen, _ = await asyncio.gather(digest(reader), send(writer, down))
        heard.set_result(seen)

    bridge = await bridged(await listening(serve))
    async with asyncio.timeout(FEW_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        seen, _ = await asyncio.gather(digest(reader), send(writer, up))
        assert seen == hashlib.sha256(down).hexdigest()
        assert await heard == hashlib.sha256(up).hexdigest()


async def test_a_program_that_speaks_first_is_heard(bridged):
    async def serve(reader, writer):
        writer.write(b"welcome")
        writer.write_eof()
        assert await reader.read() == b"thanks"
        writer.close()

    bridge = await bridged(await listening(serve))
    for _ in range(50):
        async with asyncio.timeout(FEW_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
            assert await reader.read() == b"welcome"
            writer.write(b"thanks")
            writer.close()
            await writer.wait_closed()


async def test_half_close_is_passed_on_both_ways(bridged):
    async def serve(reader, writer):
        question = await reader.read()
        writer.write(b"answer to " + question)
        await writer.drain()
        writer.close()

    bridge = await bridged(await listening(serve))
    async with asyncio.timeout(FEW_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"answer to question"


@pytest.mark.slow
async def test_an_end_after_a_long_answer_is_no_break(bridged):
    """The last bytes and EOF wait for room when the channel is closed."""

    async def serve(reader, writer):
        await reader.read()
        await send(writer, bytes(40 * MB))
        writer.close()

    bridge = await bridged(await listening(serve))
    async with asyncio.timeout(FEW_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write_eof()
        size = 0
        while data := await reader.read(MB):
            size += len(data)
        assert size == 40 * MB


@pytest.mark.parametrize("who", ["the program in the job", "the program in the session"])
async def test_a_break_is_a_break_at_the_other_end_after_what_came_before(bridged, who):
    seen = asyncio.get_running_loop().create_future()

    def reset(writer):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def serve(reader, writer):
        writer.write(b"first words")
        await reader.readexactly(5)
        if who == "the program in the job":
            return reset(writer)
        try:
            seen.set_result(await reader.read())
        except ConnectionResetError:
            seen.set_result("reset")

    bridge = await bridged(await listening(serve))
    async with asyncio.timeout(FEW_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        assert await reader.readexactly(11) == b"first words"
        writer.write(b"hello")
        if who == "the program in the job":
            with pytest.raises(ConnectionResetError):
                await reader.read()
        else:
            await writer.drain()
            reset(writer)
            assert await seen == "reset"


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
async def test_a_slow_reader_stops_the_writer_and_memory_is_bounded(forwarder, bridged):
    read_on = asyncio.Event()
    size = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        await read_on.wait()
        total = 0
        while data := await reader.read(MB):
            total += len(data)
        size.set_result(total)

    bridge = await bridged(await listening(serve))
    before = resident(forwarder.daemon.process.pid)
    _, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    written = 0
    while written < 400 * MB:
        writer.write(bytes(MB))
        written += MB
        try:
            await asyncio.wait_for(writer.drain(), 1)
        except TimeoutError:
            break
    assert written < 100 * MB
    assert resident(forwarder.daemon.process.pid) - before < 80 * MB
    read_on.set()
    writer.write_eof()
    async with asyncio.timeout(FEW_SECONDS):
        assert await size == written


@pytest.mark.slow
async def test_a_client_that_does_not_read_fills_nothing(forwarder, mine):
    """It promises room for 2 GiB, and its TCP connection takes none of it."""
    written = 0

    async def serve(reader, writer):
        nonlocal written
        with suppress(ConnectionError):
            while written < 400 * MB:
                writer.write(bytes(MB))
                written += MB
                await writer.drain()

    before = resident(forwarder.daemon.process.pid)
    offers = {Service.SCHEDULER: await listening(serve)}
    async with Link(forwarder.address, forwarder.certify(f"job:{mine}"), offers) as job:
        await job.connection()
        credentials = forwarder.certify(f"session:{mine}")
        key = asyncssh.import_private_key(credentials.private_key)
        certificate = asyncssh.import_certificate(credentials.certificate)
        options = ssh.client_options(credentials.principal, key, certificate, forwarder.address.host_key)
        async with asyncssh.connect(forwarder.address.host, forwarder.port, **options) as session:
            await session.open_unix_connection(f"/{mine}/scheduler", window=2**31 - 1)
            session._transport.pause_reading()
            seen = -1
            while written != seen:
                seen = written
                await asyncio.sleep(1)
            assert written < 150 * MB
            assert resident(forwarder.daemon.process.pid) - before < 80 * MB
            session.abort()


@pytest.mark.slow
async def test_no_stream_is_left_over(forwarder, bridged):
    """As many connections as one may have streams, three times: each must have been given back."""

    async def serve(reader, writer):
        writer.write(await reader.read())
        writer.close()

    bridge = await bridged(await listening(serve))

    async def once(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write(b"%d" % number)
        writer.write_eof()
        assert await reader.read() == b"%d" % number
        writer.close()

    async with asyncio.timeout(2 * FEW_SECONDS):
        for start in range(0, 2100, 100):
            await asyncio.gather(*(once(number) for number in range(start, start + 100)))
    assert descriptors(forwarder.daemon.process.pid) < 20
