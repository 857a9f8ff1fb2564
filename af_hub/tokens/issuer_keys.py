"""The keys with which the hub signs tokens of its own: one file of mode 0600, and when each of them comes and goes.

A key is published for a day before anything is signed with it and for two days after the last thing was, so that whoever remembers the
key set for that long never meets a token that they cannot verify; no token lives longer than a day. Deciding is pure; :class:`KeyFile` acts.
"""

import json
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from af_hub.errors import PolicyError, Unavailable
from af_hub.files import write_private

log = logging.getLogger(__name__)

DAY = 86400.0
AHEAD_SECONDS = DAY
"""How long a key is published before it signs."""

AFTER_SECONDS = 2 * DAY
"""How long it is published after it signed last."""

SAY_AGAIN_SECONDS = 60.0
"""How long the log is spared the same error: somebody asks for the keys at each request."""

ALGORITHM = "ES256"


@dataclass(frozen=True)
class IssuerKey:
    """A key on the curve P-256, and from when on it signs (Unix seconds)."""

    kid: str
    pem: str = field(repr=False)
    signs_from: float

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """What signs."""
        found = load_pem_private_key(self.pem.encode(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        return found

    @property
    def public(self) -> dict[str, Any]:
        """As it is published (RFC 7517)."""
        shape: dict[str, Any] = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**shape, "kid": self.kid, "alg": ALGORITHM, "use": "sig"}


def new_key(signs_from: float) -> IssuerKey:
    """Another one."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return IssuerKey(f"af-hub-{secrets.token_hex(8)}", pem.decode(), signs_from)


def signing(keys: Sequence[IssuerKey], now: float) -> IssuerKey:
    """The one that signs now: the youngest whose time has come, or the oldest, should a clock have gone back."""
    return max((key for key in keys if key.signs_from <= now), key=_begins, default=min(keys, key=_begins))


def keep(keys: Sequence[IssuerKey], now: float) -> list[IssuerKey]:
    """Those that something may still be signed with, in order."""
    ordered = sorted(keys, key=_begins)
    spent = [key for key, after in pairwise(ordered) if after.signs_from + AFTER_SECONDS <= now]
    return ordered[len(spent) :]


def next_from(keys: Sequence[IssuerKey], now: float, life: float) -> float | None:
    """From when a further key should sign; None while there are enough. ``life`` is for how many seconds each signs."""
    if not keys:
        return now
    youngest = max(key.signs_from for key in keys)
    return max(youngest + life, now + AHEAD_SECONDS) if youngest + life <= now + AHEAD_SECONDS else None


def _begins(key: IssuerKey) -> float:
    return key.signs_from


class KeyFile:
    """The keys in the file at ``path``, which is made when missing; each signs for ``life`` seconds.

    Raises
    ------
    PolicyError
        When others can read the file, or it holds something else.
    """

    def __init__(self, path: Path, life: float, clock: Callable[[], float]) -> None:
        self._path, self._life, self._clock = path, life, clock
        self._keys = read_keys(path) if path.exists() else []
        self._said_at = -math.inf

    def current(self) -> list[IssuerKey]:
        """All that are published now; new ones are made, and old ones dropped, when it is time.

        Raises
        ------
        Unavailable
            When there is none and none can be written.
        """
        now = self._clock()
        keys = keep(self._keys, now)
        signs_from = next_from(keys, now, self._life)
        if signs_from is not None:
            keys.append(new_key(signs_from))
        if keys != self._keys:
            self._write(keys)
        return self._keys

    def _write(self, keys: list[IssuerKey]) -> None:
        """A key that is not on disk signs nothing."""
        rows = [{"kid": key.kid, "signs_from": key.signs_from, "pem": key.pem} for key in keys]
        try:
            write_private(self._path, json.dumps(rows, indent=1) + "\n")
        except OSError as error:
            self._say(error)
            if not self._keys:
                raise Unavailable("The hub cannot sign tokens now; tell the facility's administrators.") from error
            return
        self._keys = keys

    def _say(self, error: OSError) -> None:
        now = self._clock()
        if not 0 <= now - self._said_at < SAY_AGAIN_SECONDS:
            self._said_at = now
            log.error("the hub's signing keys stay as they were: %s cannot be written (%s)", self._path, error.strerror)


def read_keys(path: Path) -> list[IssuerKey]:
    """The keys in the file.

    Raises
    ------
    PolicyError
        When others can read it, or it holds something else.
    """
    try:
        rows, mode = json.loads(path.read_bytes()), path.stat().st_mode
        keys = [IssuerKey(str(row["kid"]), str(row["pem"]), float(row["signs_from"])) for row in rows]
        if not all(key.public for key in keys):
            raise ValueError
    except (OSError, ValueError, LookupError, TypeError, AssertionError) as error:
        raise PolicyError(
            f"the hub's signing keys in {path} cannot be read ({type(error).__name__}); put a copy back, or remove the file: then the hub "
            "makes new ones, and tokens that were signed with the old ones are refused until they are replaced"
        ) from None
    if mode & 0o077:
        raise PolicyError(f"{path} holds the hub's signing keys, but others can read it; set its mode to 0600")
    return keys
