"""The relay: whatever comes to a socket made elsewhere is passed on, to the end of either side."""

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from af_hub.demo.relay import relay


@asynccontextmanager
async def led_to(serve):
    """The port of a relay before a server whose connections ``serve`` takes; before nobody when None."""
    listening = socket.create_server(("127.0.0.1", 0))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(serve, "127.0.0.1", 0) if serve else None
        port = (server.sockets[0] if server else nobody).getsockname()[1]
        running = asyncio.create_task(relay(listening, "127.0.0.1", port))
        yield listening.getsockname()[1]
        running.cancel()
        if server:
            server.close()


async def test_both_directions_to_their_ends():
    async def shout(reader, writer):
        writer.write((await reader.read()).upper())  # read() ends with what the other side says last
        writer.close()

    async with led_to(shout) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 300_000)
        writer.write_eof()
        assert await reader.read() == b"X" * 300_000
        writer.close()


async def test_one_that_leaves_takes_nobody_along():
    async def echo(reader, writer):
        writer.write(await reader.read(100))
        writer.close()

    async with led_to(echo) as port:
        _, left = await asyncio.open_connection("127.0.0.1", port)
        left.transport.abort()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"here")
        assert await reader.read() == b"here"
        writer.close()


async def test_nobody_there_is_an_end_at_once():
    async with led_to(None) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_without_a_word_while_a_page_is_open(number):
    with socket.create_server(("127.0.0.1", 0)) as far, socket.create_server(("127.0.0.1", 0)) as near:
        to = f"127.0.0.1:{far.getsockname()[1]}"
        argv = [sys.executable, "-m", "af_hub.demo.relay", "--listen-fd", str(near.fileno()), "--to", to]
        process = subprocess.Popen(argv, pass_fds=[near.fileno()], stderr=subprocess.PIPE)
        try:
            with socket.create_connection(near.getsockname(), timeout=20) as page:
                server, _ = far.accept()
                with server:
                    page.sendall(b"x")
                    assert server.recv(1) == b"x"
                    process.send_signal(number)
                    assert process.communicate(timeout=20)[1] == b""
        finally:
            process.kill()
            process.wait()
