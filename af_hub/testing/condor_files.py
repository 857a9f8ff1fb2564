"""What the daemons of :mod:`af_hub.testing.condor` find in their folders: generated headers, a TLS certificate, an issuer's keys.

The rules themselves are not here but in ``hub_config/condor``.
"""

import ctypes
import datetime
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from af_hub.errors import Unavailable
from af_hub.files import private_folder, write_private

FOLDERS = ("log", "spool", "execute", "run", "lock", "etc/passwords.d", "etc/tokens.d")
VALID = datetime.timedelta(days=365)
SEED_SECONDS = 30


def describe_daemons(
    local: Path, prefix: Path, address: str, hostname: str, variables: Mapping[str, str], files: list[Path]
) -> str:
    """The ``CONDOR_CONFIG`` of one machine of the pool: where things are, then the files that say what holds."""
    own = {
        "RELEASE_DIR": f"{prefix}/usr",
        "BIN": "$(RELEASE_DIR)/bin",
        "SBIN": "$(RELEASE_DIR)/sbin",
        "LIB": "$(RELEASE_DIR)/lib/condor",
        "LIBEXEC": "$(RELEASE_DIR)/libexec/condor",
        "SHARE": "$(RELEASE_DIR)/share/condor",
        "LOCAL_DIR": str(local),
        "ETC": "$(LOCAL_DIR)/etc",
        **{name.upper(): f"$(LOCAL_DIR)/{name}" for name in ("log", "spool", "execute", "run", "lock")},
        "SEC_PASSWORD_DIRECTORY": "$(ETC)/passwords.d",
        "SEC_TOKEN_SYSTEM_DIRECTORY": "$(ETC)/tokens.d",
        "SEC_TOKEN_DIRECTORY": "$(ETC)/tokens.d",
        "SEC_SCITOKENS_CACHE": "$(RUN)/cache",
        # Else in the home that the password file says, whatever HOME is.
        "SEC_KNOWN_HOSTS": "$(RUN)/known_hosts",
        "NETWORK_INTERFACE": address,
        "NETWORK_HOSTNAME": hostname,
        "FILESYSTEM_DOMAIN": local.name,
        "MASTER_NAME": f"{local.name}@{hostname}",
        "BIND_ALL_INTERFACES": "False",
        "ENABLE_IPV6": "False",
        "NO_DNS": "True",
        "DEFAULT_DOMAIN_NAME": "$(AF_POOL_DOMAIN)",
        "SHARED_PORT_PORT": "0",
        "MAIL": "",
        # No look for a Java, which would leave its own folder in /tmp.
        "JAVA": "",
        # Sites have what they pretend to have; and the program that looks for GPUs is not found in a folder with a blank.
        "STARTD_DETECT_GPUS": "False",
        **variables,
    }
    lines = [f"{name} = {value}" for name, value in own.items()]
    return "\n".join(
        ["# Generated; the rules are in the files at the end.", *lines, *(f"include : {path}" for path in files), ""]
    )


def describe_environment(environment: Mapping[str, str]) -> str:
    """HTCondor's new syntax for an environment: quoted as a whole, each value with a blank in single quotes."""
    words = (f"{name}={value}".replace('"', '""').replace("'", "''") for name, value in environment.items())
    return '"' + " ".join(f"'{word}'" if any(c in word for c in " \t'") else word for word in words) + '"'


def write_certificate(folder: Path, *hostnames: str) -> tuple[Path, Path, Path]:
    """A new authority and a server certificate of it for ``hostnames``: paths of authority, certificate and key."""
    private_folder(folder)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "HTCondor pool on loopback")])
    server = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostnames[0])])
    root = (
        _certificate(authority, authority, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        _certificate(authority, server, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in hostnames]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (
        write_private(folder / "ca.pem", root.public_bytes(Encoding.PEM)),
        write_private(folder / "tls.pem", leaf.public_bytes(Encoding.PEM)),
        write_private(folder / "tls.key", secret),
    )


def _certificate(issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + VALID)
    )


def seed_keys(cache: Path, issuer: str, jwks: str) -> None:
    """Put an issuer's public keys where the daemon's SciTokens library looks before it asks the issuer.

    A child does it: the library reads its cache's place from the environment of the process, once.
    """
    own = {"CONDOR_CONFIG": os.devnull, "XDG_CACHE_HOME": str(cache), "AF_ISSUER": issuer, "AF_JWKS": jwks}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=SEED_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"seeding the keys of {issuer} took more than {SEED_SECONDS} s") from error
    if done.returncode:
        raise Unavailable(f"the keys of {issuer} could not be seeded: {done.stderr[-500:]}")
    for database in (cache / "scitokens").glob("*.sqllite"):
        keep_keys(database)


def keep_keys(database: Path) -> None:
    """Make seeded keys last: the library asks the issuer again after ten minutes, and there is nobody at that address."""
    until = int((datetime.datetime.now(datetime.UTC) + VALID).timestamp())
    connection = sqlite3.connect(database, timeout=SEED_SECONDS)
    with connection:
        for issuer, keys in connection.execute("SELECT issuer, keys FROM keycache").fetchall():
            lasting = json.dumps({**json.loads(keys), "next_update": until, "expires": until})
            connection.execute("UPDATE keycache SET keys = ? WHERE issuer = ?", (lasting, issuer))
    connection.close()


def _seed_in_child() -> None:
    import htcondor2  # loads what the library needs

    library = next((Path(htcondor2.__file__).parents[1] / "htcondor.libs").glob("libSciTokens*"))
    error = ctypes.c_char_p()
    seed = ctypes.CDLL(str(library)).keycache_set_jwks
    if seed(os.environ["AF_ISSUER"].encode(), os.environ["AF_JWKS"].encode(), ctypes.byref(error)):
        sys.exit((error.value or b"no reason given").decode())


if __name__ == "__main__":
    _seed_in_child()
