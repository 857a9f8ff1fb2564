"""Leads the browsers outside to a facility whose network is its own.

A socket that listens belongs to the network where it was made. So it is made outside and handed to this process, which runs inside and
passes every connection on to one address there, byte by byte. Leaves everything else to those who talk.
"""

import argparse
import asyncio
import os
import signal
import socket
from contextlib import suppress

from af_hub.session.processes import die_with

CHUNK = 65536


async def relay(listening: socket.socket, host: str, port: int) -> None:
    """Pass on what comes to ``listening``, until cancelled."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            far_writer.close()
        writer.close()

    async with await asyncio.start_server(meet, sock=listening) as server:
        await server.serve_forever()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, to its end."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
        return
    writer.close()  # an end that broke, so that the other direction ends too


def main() -> None:
    """``python -m af_hub.demo.relay --listen-fd N --to HOST:PORT``; ends with its parent."""
    parser = argparse.ArgumentParser(prog="af_hub.demo.relay", description=__doc__.partition("\n")[0])
    parser.add_argument("--listen-fd", type=int, required=True, help="descriptor of a socket that listens")
    parser.add_argument("--to", required=True, help="where to, HOST:PORT")
    args = parser.parse_args()
    die_with(os.getppid(), signal.SIGTERM)
    # Nothing to put in order; and asyncio before Python 3.12 ends each connection that is still open with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    host, _, port = args.to.rpartition(":")
    asyncio.run(relay(socket.socket(fileno=args.listen_fd), host, int(port)))


if __name__ == "__main__":
    main()
