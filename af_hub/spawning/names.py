"""What a person's things in Kubernetes are called; of no two people, and no two servers of one, the same.

KubeSpawner's own names of whoever is not called by a label end in eight hexadecimal digits: two people's can be made to meet, and then each
start removes the pod of the other. Names that are labels stand here as they are; of all others an end of so many digits that
nobody finds two alike. Decides only. A name is a label (RFC 1123): 63 small letters, digits and hyphens.
"""

import hashlib
import re

PLAIN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,56}[a-z0-9])?")
PLAIN_PART = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
"""What two hyphens divide without doubt."""

MOST = 63


def claim_name(username: str) -> str:
    """The name of a person's claim."""
    if PLAIN_NAME.fullmatch(username):
        return f"home-{username}"
    return f"home--{_readable(username, 15)}-{_digits(username)[:40]}"


def pod_name(username: str, server: str) -> str:
    """The name of a session's pod; ``server`` is empty for the one that has no name."""
    parts = [username, server] if server else [username]
    plain = f"jupyter-{'--'.join(parts)}"
    if all(PLAIN_PART.fullmatch(part) for part in parts) and len(plain) <= MOST:
        return plain
    return f"jupyter--{_readable('-'.join(parts), 21)}-{_digits(*parts)[:32]}"


def _readable(text: str, most: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:most].strip("-") or "x"


def _digits(*parts: str) -> str:
    # No text has this byte in UTF-8, so that no part runs into the next.
    return hashlib.sha256(b"\xff".join(part.encode() for part in parts)).hexdigest()
