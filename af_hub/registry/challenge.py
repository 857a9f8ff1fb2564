"""What a registry wants before it answers: the challenge in its 401, and where a token may be asked for.

The protocol is that of the distribution project ("Token Authentication Specification") and RFC 6750, section 3. Decides only. A registry
may name any address as that of its token server, so a token is asked for there only when it is the registry's own host, or one of the same
domain with TLS: else whoever runs a registry could have the hub call what stands inside the facility's walls.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

# Each key is looked at from its beginning only: else a long word costs seconds.
_PAIR = re.compile(r'(?<![A-Za-z_])([A-Za-z_]+)=(?:"([^"\\]*)"|([^\s",]+))')
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Challenge:
    """What is wanted: ``basic``, or ``bearer`` with a token from ``realm``; ``""`` for anything else."""

    scheme: str
    realm: str = ""
    service: str = ""


def read_challenge(header: str) -> Challenge:
    """The first challenge in ``WWW-Authenticate``; of its scope nothing is taken, since we know what we want to read."""
    scheme, _, rest = header.strip().partition(" ")
    pairs = {match[1].lower(): match[2] or match[3] or "" for match in _PAIR.finditer(rest)}
    known = scheme.lower() if scheme.lower() in ("basic", "bearer") else ""
    return Challenge(known, pairs.get("realm", ""), pairs.get("service", ""))


def may_ask_token(registry: str, realm: str) -> bool:
    """Whether ``realm`` is an address at which a token for the registry at the address ``registry`` may be asked for."""
    ours, theirs = _split(registry), _split(realm)
    if ours is None or theirs is None or not theirs.hostname:
        return False
    if ours.scheme == "http" or theirs.scheme == "http":
        return origin_of(registry) == origin_of(realm)
    return ours.hostname == theirs.hostname or _one_domain(ours.hostname or "", theirs.hostname)


def may_redirect(registry: str, target: str) -> bool:
    """Whether what the registry at this address holds may be fetched from ``target``: with TLS from a host with a name, or from itself."""
    there = _split(target)
    if there is None or not there.hostname:
        return False
    if origin_of(registry) == origin_of(target):
        return True
    return there.scheme == "https" and not _is_address(there.hostname)


def origin_of(address: str) -> tuple[str, str, int]:
    """Scheme, host and port: where credentials for one may go (RFC 6454)."""
    found = _split(address)
    return (found.scheme, found.hostname or "", found.port or PORTS[found.scheme]) if found else ("", "", 0)


def _split(address: str) -> SplitResult | None:
    """Its parts, when it is one of the web without a user in it."""
    try:
        found = urlsplit(address)
        port = found.port
    except ValueError:
        return None
    return found if found.scheme in PORTS and "@" not in found.netloc and port != 0 else None


def _one_domain(one: str, other: str) -> bool:
    """Whether two names share their last two parts, as ``auth.docker.io`` and ``registry-1.docker.io`` do."""
    if _is_address(one) or _is_address(other):
        return False
    ends = [name.rstrip(".").split(".")[-2:] for name in (one, other)]
    return ends[0] == ends[1] and len(ends[0]) == 2


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Resolvers take `127.1`, `0x7f.1` and `2130706433` for addresses too; a name's last part has a letter first.
        return not host.rstrip(".").rpartition(".")[2][:1].isalpha()
    return True
