"""The keys of a session for one Dask cluster: made here, in memory; only public halves leave.

The kinds are those that the controller certifies: ed25519 for SSH, P-256 for TLS.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SessionKeys:
    """Private keys as text (OpenSSH, PKCS #8), and what the controller has to see of them."""

    ssh: str = field(repr=False)
    ssh_public: str
    tls: str = field(repr=False)
    tls_csr: str


def make_keys() -> SessionKeys:
    """New keys."""
    # Not at the top: these take a third of a second to load, for which no session that starts shall wait.
    import asyncssh
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    ssh = asyncssh.generate_private_key("ssh-ed25519")
    tls = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(tls, hashes.SHA256())
    return SessionKeys(
        ssh=ssh.export_private_key().decode(),
        ssh_public=ssh.export_public_key().decode().strip(),
        tls=tls.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        tls_csr=csr.public_bytes(serialization.Encoding.PEM).decode(),
    )
