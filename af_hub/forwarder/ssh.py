"""SSH as both ends of the forwarder speak it.

Serves server and client. The figures are measured: aes128-gcm costs half of the default cipher's CPU, a window of 2 MiB (asyncssh's
own) lets a stream through 20 ms at a third of the speed, packets larger than 32 KiB make it slower, and a connection that is
asked for life each 5 s, three times, is given up within 20 s.
"""

import os
import pwd
from collections.abc import MutableMapping, Sequence
from typing import Any

import asyncssh

WINDOW = 16 << 20
"""Bytes that one stream may have under way, each way; also the most that is kept in memory for a slow reader."""

LEAST_WINDOW = 64 << 10
PACKET = 32 << 10

UNSENT = 1 << 20
"""Bytes that wait for a client's TCP connection to take them before nobody may send to it."""

OPEN_SECONDS = 15
"""How long opening a channel or reaching the program behind an endpoint may take."""

CONNECT_SECONDS = 10

SENT_AWAY = (asyncssh.DISC_TOO_MANY_CONNECTIONS, asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE)
"""Codes with which the forwarder ends a connection that should not come back at once; asyncssh hides DISC_BY_APPLICATION from clients."""

COMMON: dict[str, Any] = {
    "config": None,
    "encryption_algs": ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"],
    "compression_algs": ["none"],
    "keepalive_interval": 5,
    "keepalive_count_max": 3,
    "login_timeout": 10,
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "gss_host": None,
}
"""What both ends have in common; ``config: None`` keeps OpenSSH's own files out."""


def server_options(host_key: asyncssh.SSHKey, user_cas: Sequence[str]) -> asyncssh.SSHServerConnectionOptions:
    """Options of the server; the host key is an object, since asyncssh reads a path again at every login.

    Parameters
    ----------
    user_cas
        Public keys, in OpenSSH's form, of the authorities whose user certificates are taken.
    """
    trusted = "".join(f"cert-authority {key}\n" for key in user_cas)
    return asyncssh.SSHServerConnectionOptions(
        **COMMON,
        server_host_keys=[host_key],
        authorized_client_keys=asyncssh.import_authorized_keys(trusted),
        allow_pty=False,
        agent_forwarding=False,
        x11_forwarding=False,
        server_version="AF_Hub",
    )


def have_a_local_user(environ: MutableMapping[str, str] = os.environ) -> None:
    """Give this process a user's name and home where the machine has no entry for its uid, as in many containers and batch systems.

    asyncssh 2.24 asks for both before it connects, and ends without. It tells neither to anybody.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        environ.setdefault("LOGNAME", "nobody")
        environ.setdefault("HOME", "/nonexistent")


def client_options(
    username: str, key: asyncssh.SSHKey, certificate: asyncssh.SSHCertificate, host_key: str
) -> dict[str, Any]:
    """Options of a client: this certificate and nothing else of the machine, and the one host key that was pinned."""
    return COMMON | {
        "username": username,
        "client_keys": [(key, certificate)],
        "known_hosts": ([asyncssh.import_public_key(host_key)], [], []),
        "preferred_auth": "publickey",
        "agent_path": None,
        "agent_forwarding": False,
        "connect_timeout": CONNECT_SECONDS,
        "client_version": "AF_Hub",
    }
