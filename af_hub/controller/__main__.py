"""``python -m af_hub.controller``: serve, or make the keys that the forwarder must know before."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from af_hub.controller.keys import UserCA
from af_hub.errors import AFError


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m af_hub.controller", description="The AF Hub controller.")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="0 takes a free port")
    parser.add_argument("--ready-fd", type=int, help="file descriptor that gets one line of JSON when it serves")
    commands = parser.add_subparsers(dest="command")
    keys = commands.add_parser("keys", help="make the user CA if there is none, and print the path of its public key")
    keys.add_argument("--state", type=Path, required=True, help="the folder that AF_STATE_DIR will name")
    asked = parser.parse_args()
    os.umask(0o077)
    try:
        if asked.command == "keys":
            print(UserCA(asked.state.absolute()).public_path)
            return 0
        return _serve(asked.listen, asked.ready_fd)
    except AFError as error:
        print(f"af-controller: {error}", file=sys.stderr)
        return 1


def _serve(listen: str, ready_fd: int | None) -> int:
    from af_hub.controller.app import serve
    from af_hub.controller.settings import read_settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpcore", "asyncssh", "alembic", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    settings = read_settings(os.environ)
    # When uvicorn is done it sends itself the signal that ended it; what is open has to be closed all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    host, _, port = listen.rpartition(":")
    with socket.create_server((host, int(port)), reuse_port=False) as listener:
        asyncio.run(serve(settings, listener, ready_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main())
