"""``python -m af_hub.testing.iam``: the demo IAM as a program of its own."""

import argparse
import asyncio
import time
from pathlib import Path

from af_hub.ready import say_ready
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_authority import ISSUER
from af_hub.testing.iam_faults import read_fault
from af_hub.testing.iam_oauth import read_clients, read_users


async def serve(options: argparse.Namespace) -> None:
    """Serve until the process is told to end."""
    users, clients = read_users(options.users), read_clients(options.clients)
    iam = DemoIAM(
        users,
        clients,
        issuer=options.issuer,
        port=options.port,
        address=options.address,
        lifetime=options.lifetime,
        algorithm=options.algorithm,
        state=options.state,
        interval=options.interval,
        clock=lambda: time.time() + options.skew,
    )
    iam.faults = dict(options.fault)
    async with iam:
        say_ready(options.ready_fd, **iam.facts())
        await asyncio.Event().wait()


def main() -> None:
    """``python -m af_hub.testing.iam``."""
    parser = argparse.ArgumentParser(
        prog="python -m af_hub.testing.iam", description="A small IAM for demo and tests, on loopback"
    )
    parser.add_argument("--users", type=Path, required=True, metavar="FILE", help="YAML list of users")
    parser.add_argument("--clients", type=Path, required=True, metavar="FILE", help="JSON list of clients, mode 0600")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="tell this descriptor when it serves")
    parser.add_argument("--port", type=int, default=0, help="any free one by default")
    parser.add_argument("--address", default="127.0.0.1", help="where it listens; default: %(default)s")
    parser.add_argument("--issuer", default=ISSUER, metavar="URL", help="the `iss` of its tokens")
    parser.add_argument("--lifetime", type=float, default=3600, metavar="SECONDS", help="of access tokens")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep keys and refresh tokens there, mode 0600")
    parser.add_argument(
        "--interval", type=float, default=5, metavar="SECONDS", help="between questions of the device flow"
    )
    parser.add_argument("--skew", type=float, default=0, metavar="SECONDS", help="its clock is ahead by so much")
    parser.add_argument("--algorithm", choices=["RS256", "ES256"], default="RS256")
    parser.add_argument(
        "--fault", type=read_fault, action="append", default=[], metavar="ENDPOINT=KIND", help="how an endpoint fails"
    )
    try:
        asyncio.run(serve(parser.parse_args()))
    except KeyboardInterrupt:
        pass
