"""A job of somebody else on the node: ``stranger.py ADDRESS`` tries all that listens there, and prints what it got as JSON.

It has the keys of a Dask cluster of its own, and finds by itself what there is: TCP ports in /proc/net, sockets in the folders beside its own.
"""

import asyncio
import base64
import json
import os
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distributed.comm import connect
from distributed.security import Security

CROWD = 300  # connections to each port that begin a handshake and stay silent
SECONDS = 3
REQUEST = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n"
DASK = b"\x01" + bytes(15) + b"\x81\xa2op\xa8identity" * 8
OWN = {"tls_ca_file": "tls-ca.pem", "tls_client_cert": "tls-worker.pem", "tls_client_key": "tls-worker.key"}


def listening(address):
    """The TCP ports of this machine that listen on ``address`` or on all."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1:4:2]
        host, port = local.split(":")
        if state == "0A" and socket.inet_ntoa(bytes.fromhex(host)[::-1]) in (address, "0.0.0.0"):
            found.add((address, int(port, 16)))
    for line in Path("/proc/net/tcp6").read_text().splitlines()[1:] if Path("/proc/net/tcp6").exists() else []:
        local, state = line.split()[1:4:2]
        if state == "0A" and not int(local.split(":")[0], 16):
            found.add((address, int(local.split(":")[1], 16)))
    return sorted(found)


def dial(target):
    """A connection to a port, or to a socket by its path."""
    stream = socket.socket(socket.AF_INET if isinstance(target, tuple) else socket.AF_UNIX)
    stream.settimeout(SECONDS)
    stream.connect(target)
    return stream


def receive(stream):
    """What comes until the end, or until nothing comes any more; and how it ended."""
    said = b""
    try:
        while chunk := stream.recv(4096):
            said += chunk
        return said, "closed"
    except OSError as error:
        return said, str(getattr(error, "reason", None) or error)


def say(target, words):
    """What the other end says to these words, in clear."""
    with dial(target) as stream:
        try:
            stream.sendall(words)
        except OSError:
            pass
        return receive(stream)


def say_by_tls(target, context):
    """What it says by TLS to a request for a page; and its certificate, which any stranger gets."""
    with dial(target) as plain:
        try:
            stream = context.wrap_socket(plain)
        except OSError as error:
            return b"", str(error), ""
        certificate = base64.b64encode(stream.getpeercert(True) or b"").decode()
        try:
            stream.sendall(REQUEST)
        except OSError:
            pass
        return *receive(stream), certificate


def context(with_certificate, version):
    found = ssl.create_default_context()
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    found.minimum_version = found.maximum_version = version
    if with_certificate:
        found.load_cert_chain(OWN["tls_client_cert"], OWN["tls_client_key"])
    return found


async def comm(address, security):
    """Whether Dask gets a connection; it is told to trust everybody."""
    arguments = security.get_connection_args("client") if security else {}
    if security:
        arguments["ssl_context"] = context(True, ssl.TLSVersion.TLSv1_3)
    try:
        found = await connect(address, timeout=2, **arguments)
        await found.write({"op": "identity", "reply": True})
        return f"answered: {await asyncio.wait_for(found.read(), 2)}"
    except (OSError, TimeoutError, TypeError, ValueError) as error:  # what others than Dask say is none of its words
        return f"refused: {type(error).__name__}"


def attack(target):
    """What is said to all that can be said to a socket; what ended meanwhile is nobody's."""
    try:
        return say_all(target)
    except OSError as error:
        return {"ended": str(error)}


def say_all(target):
    """Bytes in base64."""
    tried = {
        "http": say(target, REQUEST),
        "dask": say(target, DASK),
        "garbage": say(target, os.urandom(1 << 16)),
        "ssh": say(target, b"SSH-2.0-x\r\n"),
    }
    certificates = set()
    for name, known in (("nobody", False), ("another cluster", True)):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            said, end, certificate = say_by_tls(target, context(known, version))
            tried[f"https as {name}, {version.name}"] = said, end
            certificates |= {certificate} - {""}
    words = {name: [base64.b64encode(said).decode(), end] for name, (said, end) in tried.items()}
    return {"said": words, "certificates": sorted(certificates)}


def crowd(ports):
    """Many connections that begin a handshake and say no more; kept until the end."""
    streams = []
    for port in ports:
        for _ in range(CROWD):
            try:
                streams.append(dial(port))
                streams[-1].send(b"\x16")
            except OSError:
                break
    return streams


async def comms(ports):
    own = Security(require_encryption=True, **OWN)
    asked = [
        (f"{kind}://{host}:{port}", own if kind == "tls" else None) for host, port in ports for kind in ("tcp", "tls")
    ]
    answers = await asyncio.gather(*(comm(*one) for one in asked))
    return dict(zip((address for address, _ in asked), answers, strict=True))


def main():
    ports = listening(sys.argv[1])
    streams = crowd(ports)
    paths = [os.path.relpath(path) for path in Path.cwd().parent.glob("*/*.sock")]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(attack, [*ports, *paths]))
    places = [f"{host}:{port}" for host, port in ports] + [Path(path).name for path in paths]
    listed = sorted(
        {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "/" in line or "@" in line}
    )
    result = {"attacked": list(map(list, zip(places, found, strict=True))), "comms": asyncio.run(comms(ports))}
    print(json.dumps(result | {"crowd": len(streams), "unix": listed}))


if __name__ == "__main__":
    main()
