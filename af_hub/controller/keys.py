"""Every key and certificate of the facility's Dask clusters, as files below the controller's state folder.

::

    user_ca, user_ca.pub        the authority that the forwarder trusts; made at the first start, never in the database
    clusters/<id>/              one folder a cluster (0700, files 0600), gone when the cluster is closed
        ca.key, tls-ca.pem      the cluster's own TLS authority
        tls-<role>.pem, .key    scheduler, worker, controller: the role is CN and DNS name
        ssh.key, ssh.cert       the scheduler job's, for the principal ``job:<id>``

Promises: a key that is made elsewhere stays there (public key and CSR in, certificates out); a certificate names one cluster and
one role; every certificate ends with the greatest lifetime of its cluster. Leaves to the caller who may ask for one.
"""

import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from af_hub.errors import AFError
from af_hub.files import private_folder, write_private
from af_hub.forwarder.access import is_dask_cluster

CLOCK_SKEW = 300
"""Seconds by which a site's clock may be behind ours."""

SERVING_ROLES = ("scheduler", "worker")
ROLES = ("scheduler", "worker", "controller")


class BadKey(AFError):
    """What was sent to be certified is no public key or certificate request that we sign."""


@dataclass(frozen=True)
class SessionCertificates:
    """What a session gets for one cluster: nothing in it is secret."""

    ssh_certificate: str
    tls_certificate: str
    tls_ca: str
    expires_at: int


def new_cluster_id() -> str:
    """128 random bits; never chosen by users, never used again."""
    return secrets.token_hex(16)


class UserCA:
    """Signs SSH user certificates (PROTOCOL.certkeys of OpenSSH) with exactly one principal and no right but forwarding.

    Parameters
    ----------
    state
        The controller's state folder; the key is made there when there is none.
    key_file
        The key, where somebody else keeps it; it must be there.
    """

    def __init__(self, state: Path, key_file: Path | None = None) -> None:
        self.path = key_file or state / "user_ca"
        self.public_path = state / "user_ca.pub"
        private_folder(state)
        if not key_file and not self.path.exists():
            write_private(
                self.path, asyncssh.generate_private_key("ssh-ed25519", "af-hub user ca").export_private_key()
            )
        self._key = asyncssh.read_private_key(self.path)
        write_private(self.public_path, self._key.export_public_key(), mode=0o644)

    def certify(self, public_key: asyncssh.SSHKey, principal: str, until: float, now: float | None = None) -> str:
        """An OpenSSH user certificate for ``principal``, valid until the Unix time ``until``."""
        now = time.time() if now is None else now
        certificate = self._key.generate_user_certificate(
            public_key,
            key_id=principal,
            serial=secrets.randbits(63),
            principals=[principal],
            valid_after=int(now) - CLOCK_SKEW,
            valid_before=int(until),
            permit_x11_forwarding=False,
            permit_agent_forwarding=False,
            permit_pty=False,
            permit_user_rc=False,
        )
        return certificate.export_certificate().decode().strip()


class ClusterKeys:
    """The folder of one cluster.

    Parameters
    ----------
    state
        The controller's state folder.
    cluster
        The cluster's id.
    """

    def __init__(self, state: Path, cluster: str) -> None:
        if not is_dask_cluster(cluster):
            raise BadKey("that is no cluster's id")
        self.cluster = cluster
        self.folder = state / "clusters" / cluster

    def path(self, name: str) -> Path:
        """The file of that name."""
        return self.folder / name

    def exist(self) -> bool:
        """Whether they have been made and not removed."""
        return self.folder.is_dir()

    def make(self, user_ca: UserCA, until: float) -> None:
        """Make all of them, valid until ``until``; nothing happens when they exist."""
        if self.exist():
            return
        private_folder(self.folder.parent)
        half_made = self.folder.with_name(f".{self.cluster}-{secrets.token_hex(4)}")
        half_made.mkdir(mode=0o700)
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _authority(ca_key, self.cluster, until)
        write_private(half_made / "ca.key", _pem_key(ca_key))
        write_private(half_made / "tls-ca.pem", _pem(ca))
        for role in ROLES:
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(half_made / f"tls-{role}.key", _pem_key(key))
            write_private(half_made / f"tls-{role}.pem", _pem(_role(ca_key, ca, key.public_key(), role, until)))
        ssh_key = asyncssh.generate_private_key("ssh-ed25519")
        write_private(half_made / "ssh.key", ssh_key.export_private_key())
        certificate = user_ca.certify(ssh_key.convert_to_public(), f"job:{self.cluster}", until)
        write_private(half_made / "ssh.cert", certificate + "\n")
        half_made.rename(self.folder)

    def certify_session(self, user_ca: UserCA, ssh_public_key: str, csr: str, until: float) -> SessionCertificates:
        """Certificates for a session's own keys: SSH principal ``session:<id>``, TLS role ``client``.

        Raises
        ------
        BadKey
            When either is not what it should be; whatever a CSR asks for besides its key is ignored.
        """
        return SessionCertificates(
            ssh_certificate=user_ca.certify(_read_ssh_key(ssh_public_key), f"session:{self.cluster}", until),
            tls_certificate=self._certify_client(csr, until),
            tls_ca=self.path("tls-ca.pem").read_text(),
            expires_at=int(until),
        )

    def _certify_client(self, csr: str, until: float) -> str:
        ca = x509.load_pem_x509_certificate(self.path("tls-ca.pem").read_bytes())
        ca_key = serialization.load_pem_private_key(self.path("ca.key").read_bytes(), password=None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        return _pem(_role(ca_key, ca, _read_csr(csr), "client", until)).decode()

    def remove(self) -> None:
        """Remove them for good; may be repeated."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read_ssh_key(text: str) -> asyncssh.SSHKey:
    try:
        key = asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise BadKey("ssh_public_key is no OpenSSH public key; one line `ssh-ed25519 AAAA…` was wanted") from error
    if key.get_algorithm() != "ssh-ed25519":
        raise BadKey(f"ssh_public_key is a key of kind {key.get_algorithm()}; ssh-ed25519 was wanted")
    return key


def _read_csr(text: str) -> ec.EllipticCurvePublicKey:
    wanted = "a PEM certificate request (PKCS #10) with an elliptic-curve key on P-256 was wanted"
    try:
        request = x509.load_pem_x509_csr(text.encode())
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadKey(f"tls_csr cannot be read; {wanted}") from error
    if not signed:
        raise BadKey(f"tls_csr is not signed by its own key; {wanted}")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadKey(f"tls_csr has another kind of key; {wanted}")
    return key


def _builder(subject: str, key: ec.EllipticCurvePublicKey, until: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(time.time()) - CLOCK_SKEW, UTC))
        .not_valid_after(datetime.fromtimestamp(int(until), UTC))
    )


def _authority(key: ec.EllipticCurvePrivateKey, cluster: str, until: float) -> x509.Certificate:
    name = f"af-hub cluster {cluster}"
    return (
        _builder(name, key.public_key(), until)
        .issuer_name(_name(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _role(
    ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, key: ec.EllipticCurvePublicKey, role: str, until: float
) -> x509.Certificate:
    """A certificate with the role as its name; only scheduler and worker may also serve."""
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if role in SERVING_ROLES else [])
    return (
        _builder(role, key, until)
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(role)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
