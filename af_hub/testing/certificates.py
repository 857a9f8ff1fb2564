"""A certificate authority of a test's own, and server certificates of it."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from af_hub.files import private_folder, write_private

VALID = datetime.timedelta(days=30)


class Authority:
    """A new authority, whose certificate lies in ``folder/ca.pem``; its key is nowhere but in this object."""

    def __init__(self, folder: Path, name: str, valid: datetime.timedelta = VALID) -> None:
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.valid = valid
        self._key = ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=True, path_length=0)
        own = self._certificate(self.name, self._key.public_key()).add_extension(basic, critical=True)
        certificate = own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        self.file = write_private(private_folder(folder) / "ca.pem", certificate)

    def issue(self, folder: Path, *hostnames: str) -> tuple[Path, Path]:
        """A server certificate for ``hostnames`` and its key: ``tls.pem`` and ``tls.key`` in ``folder``.

        An address counts as a name too, since XRootD compares nothing but names.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostnames[0])])
        names = x509.SubjectAlternativeName([general for name in hostnames for general in general_names(name)])
        leaf = self._certificate(subject, key.public_key()).add_extension(names, critical=False)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return (
            write_private(
                private_folder(folder) / "tls.pem", leaf.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
            ),
            write_private(folder / "tls.key", secret),
        )

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(self.name)
            .subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + self.valid)
        )


def general_names(name: str) -> list[x509.GeneralName]:
    """How a certificate says a name, or an address."""
    try:
        return [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(name))]
    except ValueError:
        return [x509.DNSName(name)]
