"""Keys of the forwarder and of those who come: its own host key, the authorities that it trusts, the certificate that somebody shows."""

from base64 import b64encode
from pathlib import Path

import asyncssh
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from af_hub.files import write_private


def read_certificate(key_data: bytes) -> SSHCertificate:
    """The certificate that a client shows, in SSH's wire form.

    Raises
    ------
    ValueError
        When it is a bare key or cannot be read.
    """
    kind = key_data[4 : 4 + int.from_bytes(key_data[:4], "big")]
    try:
        identity = load_ssh_public_identity(kind + b" " + b64encode(key_data))
    except Exception as error:  # cryptography has several for malformed data
        raise ValueError(f"unreadable certificate: {type(error).__name__}") from None
    if not isinstance(identity, SSHCertificate):
        raise ValueError("a key without a certificate")
    return identity


def read_host_key(path: Path) -> asyncssh.SSHKey:
    """The host key, made (ed25519, 0600) at the first start."""
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", "af-hub forwarder")
        write_private(path, key.export_private_key())
    return asyncssh.read_private_key(path)


def read_keys(path: Path) -> list[str]:
    """Public keys in OpenSSH's form, one a line."""
    return [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
