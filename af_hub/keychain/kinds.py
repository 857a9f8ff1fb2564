"""What the Secret of a facility holds, and what has to be added: decided from what is there.

Promises: what is there is kept, whatever else is missing; a kind is made anew only when a higher number is asked for it than it was
made with, so that asking again, or for less (a rollback), changes nothing; what must outlive a change (keys that open what they
sealed, the authority of Dask clusters that run) stays beside the new one. Leaves the Secret itself to :mod:`af_hub.keychain.secret`.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

Files = Mapping[str, str]


@dataclass(frozen=True)
class Kind:
    """One secret and what follows from it.

    Parameters
    ----------
    file
        Where the secret itself is; the kind is there when this is.
    make
        The file's content, from the one before, empty when there was none, and from how many are kept.
    derive
        Further files, from the secret's content and from all files that there are.
    """

    file: str
    make: Callable[[str, int], str]
    derive: Callable[[str, Files], dict[str, str]] = lambda _secret, _found: {}


def random_text(_before: str, _kept: int) -> str:
    """256 random bits."""
    return secrets.token_hex(32)


def crypt_keys(before: str, kept: int) -> str:
    """A new key, which seals, before those that go on opening."""
    return "".join(f"{key}\n" for key in [secrets.token_hex(32), *before.split()][:kept])


def ssh_key(_before: str, _kept: int) -> str:
    """An ed25519 key in OpenSSH's form."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public_half(private_key: str) -> str:
    """The line that others are given."""
    key = load_ssh_private_key(private_key.encode(), password=None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def trusted(user_ca: str, found: Files) -> dict[str, str]:
    """The new authority and the one before: certificates of Dask clusters that run are signed by that."""
    lines = [public_half(user_ca), *found.get("user_ca.pub", "").splitlines()]
    return {"user_ca.pub": "".join(f"{line}\n" for line in list(dict.fromkeys(lines))[:2])}


def host_key(private_key: str, _found: Files) -> dict[str, str]:
    """What clients of the forwarder pin."""
    return {"forwarder_host_key.pub": public_half(private_key)}


def store_settings(password: str, _found: Files) -> dict[str, str]:
    """The password once more, as Redis reads it."""
    return {"store.conf": f"requirepass {password}\n"}


KINDS = {
    "crypt": Kind("crypt_key", crypt_keys),
    "controller": Kind("controller_token", random_text),
    "proxy": Kind("proxy_password", random_text),
    "store": Kind("store_password", random_text, store_settings),
    "user-ca": Kind("user_ca", ssh_key, trusted),
    "host-key": Kind("forwarder_host_key", ssh_key, host_key),
}


def renewed(
    found: Files, numbers: Mapping[str, int], wanted: Mapping[str, int], kept: int
) -> dict[str, dict[str, str]]:
    """What has to be written, by kind.

    Parameters
    ----------
    found
        The Secret's files.
    numbers
        With which number each kind was made; 1 for those that are not named.
    wanted
        With which it should be; 1 for those that are not named.
    kept
        How many keys of the hub's database there are at most.
    """
    written = {}
    for name, kind in KINDS.items():
        if kind.file not in found or wanted.get(name, 1) > numbers.get(name, 1):
            secret = kind.make(found.get(kind.file, ""), kept)
            written[name] = {kind.file: secret} | kind.derive(secret, found)
        elif name == "crypt" and len(found[kind.file].split()) > kept:
            written[name] = {kind.file: "".join(f"{key}\n" for key in found[kind.file].split()[:kept])}
        elif missing := {
            file: text for file, text in kind.derive(found[kind.file], found).items() if file not in found
        }:
            written[name] = missing
    return written


def numbered(numbers: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    """The numbers that hold afterwards; none ever falls."""
    return {name: max(numbers.get(name, 1), wanted.get(name, 1)) for name in KINDS}
