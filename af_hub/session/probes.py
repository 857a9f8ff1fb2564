"""Is the data service there? A look from a session, without any XRootD library and with a hard time limit.

Serves the hop "data" for the check in the session, for the fixtures and for the demo. It only asks whether a server speaks the
protocol; whether it gives a file is for :mod:`af_hub.client.check` to see.
"""

import socket
import struct
import time

HANDSHAKE_SECONDS = 2.0
# XRootD protocol, section "Session Establishment": four zeros, four, and ROOTD_PQ.
HELLO = struct.pack(">5i", 0, 0, 0, 4, 2012)
ANSWER = struct.Struct(">2sHiii")
DATA_SERVER, LOAD_BALANCER = 1, 0


def xrootd_answers(host: str, port: int, seconds: float = HANDSHAKE_SECONDS) -> bool:
    """Whether an XRootD server completes the protocol's handshake within ``seconds``; needs no credential."""
    deadline = time.monotonic() + seconds
    try:
        with socket.create_connection((host, port), seconds) as connection:
            connection.sendall(HELLO)
            return is_welcome(_receive(connection, ANSWER.size, deadline))
    except OSError:
        return False


def is_welcome(answer: bytes) -> bool:
    """Whether these are the 16 bytes with which a data server or a load balancer greets."""
    if len(answer) != ANSWER.size:
        return False
    _stream, status, length, _version, kind = ANSWER.unpack(answer)
    return status == 0 and length == 8 and kind in (DATA_SERVER, LOAD_BALANCER)


def _receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    received = b""
    while len(received) < size:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(size - len(received))
        if not chunk:
            break
        received += chunk
    return received
