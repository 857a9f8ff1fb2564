"""A folder of authorities as OpenSSL looks into it; the sums are those of ``openssl x509 -subject_hash`` (3.0)."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from af_hub.errors import PolicyError
from af_hub.session.authorities import authority_files, subject_hash


def name(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


@pytest.mark.parametrize(
    "subject, found",
    [
        (name((NameOID.COMMON_NAME, "AF Hub data service")), "1b53bdc5"),
        (
            name(
                (NameOID.COUNTRY_NAME, "IT"),
                (NameOID.ORGANIZATION_NAME, "INFN"),
                (NameOID.COMMON_NAME, "INFN  Certification\tAuthority "),
            ),
            "bc77a803",
        ),
        (
            name(
                (NameOID.DOMAIN_COMPONENT, "ch"),
                (NameOID.DOMAIN_COMPONENT, "cern"),
                (NameOID.COMMON_NAME, "CERN Grid CA"),
            ),
            "dc792bde",
        ),
        (name((NameOID.COMMON_NAME, "Università Ä xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")), "c11c2530"),
    ],
)
def test_the_name_is_that_of_openssl(subject: x509.Name, found: str) -> None:
    assert subject_hash(subject) == found


def certificate(subject: x509.Name) -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 7, now, now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_two_of_one_name_have_two_files() -> None:
    one, other = name((NameOID.COMMON_NAME, "One")), name((NameOID.COMMON_NAME, "Other"))
    files = authority_files(certificate(one) + certificate(other) + certificate(one))

    assert list(files) == [f"{subject_hash(one)}.0", f"{subject_hash(other)}.0", f"{subject_hash(one)}.1"]
    assert all(text.startswith("-----BEGIN CERTIFICATE-----\n") for text in files.values())


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(PolicyError, match="wanted those of authorities"):
        authority_files(b"nothing")
