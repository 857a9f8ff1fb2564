"""Strangers at a port of Dask: those who never finish, those who come in crowds, and those who fail."""

import asyncio
import logging
import socket

import pytest
from distributed.comm import connect, listen
from distributed.comm.tcp import TLSBackend
from distributed.security import Security

from af_hub.job.handshakes import ImpatientListener, refuse_slow_strangers


@pytest.fixture(scope="module")
def security():
    return Security.temporary()


@pytest.fixture
async def port(security, monkeypatch):
    """A listener that answers whoever has a certificate."""
    monkeypatch.setattr(TLSBackend, "_listener_class", TLSBackend._listener_class)
    refuse_slow_strangers()

    async def answer(comm):
        await comm.write("welcome")

    async with listen("tls://127.0.0.1:0", answer, **security.get_listen_args("scheduler")) as listener:
        assert isinstance(listener, ImpatientListener)
        yield listener


async def welcome(port, security):
    comm = await connect(port.contact_address, timeout=5, **security.get_connection_args("client"))
    try:
        return await asyncio.wait_for(comm.read(), 5)
    finally:
        await comm.close()


def stranger(port):
    stream = socket.create_connection(port.get_host_port(), 5)
    stream.settimeout(5)
    return stream


async def cut(stream):
    """Whether the other end closes it, in time."""
    try:
        return await asyncio.to_thread(stream.recv, 1) == b""
    except ConnectionResetError:
        return True


async def test_who_never_begins_is_cut(port, security):
    port.seconds = 0.2
    with stranger(port) as slow:
        assert await cut(slow)
    assert await welcome(port, security) == "welcome"


async def test_a_crowd_keeps_nobody_out(port, security):
    port.at_most = 10
    crowd = [stranger(port) for _ in range(40)]
    try:
        assert await welcome(port, security) == "welcome"
        assert await cut(crowd[0])
        assert len(port._unfinished) <= 10
    finally:
        for one in crowd:
            one.close()


async def test_failures_fill_no_log(port, security, caplog):
    for _ in range(20):
        with stranger(port) as rude:
            rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
            await cut(rude)
    async with asyncio.timeout(5):
        while port._failures < 20:
            await asyncio.sleep(0)
    lines = [line for line in caplog.records if line.levelno >= logging.WARNING]
    assert len(lines) == 5
    assert await welcome(port, security) == "welcome"
