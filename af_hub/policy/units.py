"""Amounts as people write them: ``2 GiB``, ``12 h``."""

import re

_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_AMOUNT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]+)\s*\Z")


def _read(text: object, units: dict[str, int], example: str) -> int:
    match = _AMOUNT.match(text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(
            f"found {text!r:.80}, wanted a number and one of {', '.join(units)}; write it as in `{example}`"
        )
    return int(float(match[1]) * units[match[2]])


def read_bytes(text: object) -> int:
    """Bytes of ``2 GiB``; an integer is taken as bytes."""
    return text if isinstance(text, int) and not isinstance(text, bool) else _read(text, _BYTES, "2 GiB")


def read_seconds(text: object) -> int:
    """Seconds of ``12 h``; an integer is taken as seconds."""
    return text if isinstance(text, int) and not isinstance(text, bool) else _read(text, _SECONDS, "12 h")


def describe_bytes(amount: int) -> str:
    """``2147483648`` → ``2 GiB``; the largest unit that divides evenly, else one decimal of GiB."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % _BYTES[unit] == 0:
            return f"{amount // _BYTES[unit]} {unit}"
    return f"{amount / _BYTES['GiB']:.1f} GiB"


def describe_seconds(amount: int) -> str:
    """``43200`` → ``12 h``."""
    for unit in ("d", "h", "min"):
        if amount and amount % _SECONDS[unit] == 0:
            return f"{amount // _SECONDS[unit]} {unit}"
    return f"{amount} s"
