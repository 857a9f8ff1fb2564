"""A forwarder that takes people in is told from a port that is merely open."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from af_hub.errors import Unavailable
from af_hub.forwarder.probe import probe


@contextmanager
def listener(says: bytes) -> Iterator[int]:
    """Somebody at a port who says this to the first who comes, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(says)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1024)
            connection.close()

        thread = Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_forwarder(forwarder) -> None:
    probe(forwarder.address.host, forwarder.address.port)
    command = [sys.executable, "-m", "af_hub.forwarder.probe", f"{forwarder.address.host}:{forwarder.address.port}"]
    assert subprocess.run(command, timeout=30, check=True, capture_output=True).stderr == b""


@pytest.mark.parametrize(
    "says, why",
    [
        pytest.param(b"", "no version of SSH 2", id="nothing"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "no version of SSH 2", id="a web server"),
        pytest.param(b"SSH-1.5-old\r\n", "no version of SSH 2", id="an old one"),
        pytest.param(b"SSH-2.0-x\r\n", "takes anybody in", id="a version and no more"),
        pytest.param(b"SSH-2.0-x\r\n\0\0\0\x0c\x04\x01aaaaaaaaaa", "offer algorithms", id="sends us away"),
        pytest.param(b"SSH-2.0-x\r\n\0\0\1\0\x04\x14aa", "offer algorithms", id="half an offer"),
    ],
)
def test_somebody_else(says: bytes, why: str) -> None:
    with listener(says) as port, pytest.raises(Unavailable, match=why):
        probe("127.0.0.1", port)


def test_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=f"127.0.0.1 port {port}: .*refused"):
        probe("127.0.0.1", port)


def test_a_forwarder_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="timed out"):
        probe("127.0.0.1", silent.getsockname()[1], seconds=0.05)
