"""A folder of certificate authorities as OpenSSL, and so every version of XRootD's client, looks into it.

Serves the hop "data". There the file of an authority has a name made of its subject: eight hexadecimal digits of a sum, and a number.
XRootD 5 knows no other way (``X509_CERT_DIR``); one file (``X509_CERT_FILE``) is understood from 6 on only.

Source: OpenSSL, ``crypto/x509/x_name.c`` (``x509_name_canon``) and ``X509_NAME_hash_ex``; ``openssl-rehash(1)``.
"""

import hashlib
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from af_hub.errors import PolicyError

UTF8_STRING, SEQUENCE, SET = 0x0C, 0x30, 0x31
# UTF8, Printable, T61 (read as Latin 1), IA5, Visible, Universal, BMP; others stay as they are.
CODECS = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


def authority_files(pem: bytes) -> dict[str, str]:
    """Each authority in a file of one or more, by the name under which OpenSSL finds it.

    Raises
    ------
    PolicyError
        When there is no certificate in it.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise PolicyError(f"found no certificates in PEM ({error}), wanted those of authorities") from error
    files: dict[str, str] = {}
    for one in certificates:
        hashed = subject_hash(one.subject)
        number = sum(name.startswith(hashed) for name in files)
        files[f"{hashed}.{number}"] = one.public_bytes(Encoding.PEM).decode()
    return files


def subject_hash(name: x509.Name) -> str:
    """What ``openssl x509 -subject_hash`` prints."""
    (_, parts), *_ = _read(name.public_bytes())
    whole = b"".join(_write(SET, b"".join(map(_canonical, _read(part)))) for _, part in _read(parts))
    return f"{int.from_bytes(hashlib.sha1(whole, usedforsecurity=False).digest()[:4], 'little'):08x}"


def _canonical(attribute: tuple[int, bytes]) -> bytes:
    """One attribute of a name: text in UTF-8 and small ASCII letters, one blank for several, none around it."""
    (tag, kind), (value_tag, value) = _read(attribute[1])
    if codec := CODECS.get(value_tag):
        words = [word for word in value.decode(codec).translate(BLANKS).split(" ") if word]
        value_tag, value = UTF8_STRING, " ".join(words).translate(SMALL).encode()
    return _write(SEQUENCE, _write(tag, kind) + _write(value_tag, value))


BLANKS = str.maketrans(dict.fromkeys("\t\n\v\f\r", " "))
SMALL = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _read(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents, one after the other (X.690, DER)."""
    while der:
        tag, length, start = der[0], der[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[2:start], "big")
        yield tag, der[start : start + length]
        der = der[start + length :]


def _write(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content
