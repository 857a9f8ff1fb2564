"""``python -m af_hub.forwarder.probe HOST:PORT``: whether a forwarder takes somebody in; for whatever watches over its process.

Serves the hop from a kubelet (or systemd, or a load balancer) to the forwarder. Promises: exit status 0 when a login could begin there,
which is more than that the port is open, and 1 with a sentence else; nothing but the standard library, so that asking often costs
little. Leaves to clients whether the host key is the right one.
"""

import socket
import struct
import sys

from af_hub.errors import Unavailable

SECONDS = 5.0
VERSION = b"SSH-2.0-"
KEXINIT = 20
"""The first message of each side (RFC 4253, section 7.1)."""

LONGEST = 1 << 15


def probe(host: str, port: int, seconds: float = SECONDS) -> None:
    """Go through the beginning of a login: both versions, and the server's offer of algorithms.

    Raises
    ------
    Unavailable
        When it does not come to that in ``seconds``.
    """
    where = f"{host} port {port}"
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection, connection.makefile("rb") as answer:
            greeting = answer.readline(256)
            if not greeting.startswith(VERSION):
                raise Unavailable(f"{where} answers {greeting!r:.80}, and no version of SSH 2")
            connection.sendall(VERSION + b"AF_Hub_probe\r\n")
            length, _, message = struct.unpack(">IBB", answer.read(6))
            if message != KEXINIT or len(answer.read(min(length, LONGEST) - 2)) < length - 2:
                raise Unavailable(f"{where} does not offer algorithms")
    except (OSError, struct.error) as error:
        raise Unavailable(f"no forwarder takes anybody in at {where}: {error}") from error


def main() -> int:
    """Read the command line and ask."""
    host, _, port = sys.argv[1].rpartition(":")
    try:
        probe(host.strip("[]"), int(port))
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
