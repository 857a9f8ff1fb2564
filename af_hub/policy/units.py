"""Amounts and instants as people write them: ``2 GiB``, ``12 h``, ``2026-12-05T18:00:00+01:00``."""

import re
from datetime import datetime
from typing import Any

MEBIBYTE = 2**20

_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": MEBIBYTE,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_AMOUNT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]+)\s*\Z")


def _schema(units: dict[str, int], example: str) -> dict[str, Any]:
    text = {"type": "string", "pattern": rf"^\s*[0-9]{{1,15}}(\.[0-9]{{1,9}})?\s*({'|'.join(units)})\s*$"}
    return {"anyOf": [text, {"type": "integer", "exclusiveMinimum": 0}], "examples": [example]}


BYTES_SCHEMA, SECONDS_SCHEMA = _schema(_BYTES, "2 GiB"), _schema(_SECONDS, "12 h")
INSTANT_SCHEMA = {"type": "string", "format": "date-time", "examples": ["2026-12-05T18:00:00+01:00"]}
QUOTA_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    ],
    "examples": [0.4, 40],
}
"""What an editor knows of them (JSON schema)."""


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


def read_instant(text: object) -> datetime:
    """An instant with its zone, from YAML's own or from text (ISO 8601)."""
    found = text
    if isinstance(text, str):
        try:
            found = datetime.fromisoformat(text.strip())
        except ValueError:
            found = None
    if not isinstance(found, datetime):
        raise ValueError(f"found {_shown(text)}, wanted an instant; write it as in `2026-12-05T18:00:00+01:00`")
    if found.utcoffset() is None:
        raise ValueError(
            f"found {_shown(text)}, wanted an instant with its zone; write it as in `{found.isoformat()}+01:00`, or with `Z` for UTC"
        )
    return found


def read_quota(found: object) -> int | float | None:
    """A share of the pool (a number with a point, 1.0 at most) or a number of slots (without one)."""
    whole = isinstance(found, int) and not isinstance(found, bool) and found > 0
    share = isinstance(found, float) and 0 < found <= 1
    if found is not None and not whole and not share:
        raise ValueError(
            f"found {_shown(found)}, wanted a share of the pool or a number of slots; write it as in `0.4` or `40`"
        )
    return found  # type: ignore[return-value]


def describe_instant(found: datetime) -> str:
    """``2026-12-05 18:00+01:00``."""
    return found.isoformat(sep=" ", timespec="minutes")


def _shown(found: object) -> str:
    return found.isoformat() if isinstance(found, datetime) else f"{found!r:.80}"


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
