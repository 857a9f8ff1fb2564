"""Who somebody is, as the IAM says it: read once at the border, in our words ever after.

Groups come in two profiles. INDIGO IAM's own has ``groups`` without a leading slash, the WLCG profile (version 1.0 and later)
``wlcg.groups`` with one; we keep the leading slash. IAM leaves the claim out when the scope was not granted and when the set is
empty, so a missing claim means "no groups", never an error.
"""

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from af_hub.errors import ClaimsError

USERNAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")

ANY_AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
"""What a token for everybody has as ``aud`` (WLCG token profile 1.0)."""


@dataclass(frozen=True)
class Claims:
    """One person at one issuer.

    Parameters
    ----------
    issuer, subject
        The pair that never changes; a user of the hub is pinned to it.
    username
        ``preferred_username``; the name at the hub.
    groups
        Paths with a leading slash, sorted, each once.
    """

    issuer: str
    subject: str
    username: str
    groups: tuple[str, ...] = ()
    name: str = ""
    email: str = ""


def own_subject(issuer: str, subject: str) -> str:
    """The ``sub`` of somebody in tokens that the hub signs itself: one for each pair of issuer and subject, for ever.

    A subject is unique at its issuer only, and a user name may have belonged to somebody else.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{issuer} {subject}"))


def normalise_groups(found: object) -> tuple[str, ...]:
    """Group paths of either profile, with one leading slash, sorted.

    Raises
    ------
    ClaimsError
        When ``found`` is no list of strings.
    """
    if found is None:
        return ()
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise ClaimsError(f"the IAM's groups are {found!r:.80}; a list of group names was wanted")
    groups = set()
    for group in found:
        if not isinstance(group, str) or not group.strip("/ ") or not group.isprintable():
            raise ClaimsError(f"the IAM's groups hold {group!r:.80}; each must be a group name")
        groups.add("/" + group.strip().strip("/"))
    return tuple(sorted(groups))


def read_claims(found: Mapping[str, object], issuer: str) -> Claims:
    """Claims out of a userinfo answer or a verified id token of ``issuer``.

    Raises
    ------
    ClaimsError
        When ``sub`` or ``preferred_username`` is missing, or cannot name a user of the hub.
    """
    subject, username = found.get("sub"), found.get("preferred_username")
    if not isinstance(subject, str) or not subject:
        raise ClaimsError("the IAM did not say who you are (no claim `sub`)")
    if not isinstance(username, str) or not username:
        raise ClaimsError(
            "the IAM gave no user name (no claim `preferred_username`); the hub's client there needs the scope `profile`"
        )
    if not USERNAME.match(username):
        raise ClaimsError(
            f"the user name {username!r:.80} cannot be used here: small letters, digits, `_`, `.`, `-`, a letter first, were wanted"
        )
    groups = found.get("wlcg.groups", found.get("groups"))
    return Claims(
        issuer, subject, username, normalise_groups(groups), str(found.get("name") or ""), str(found.get("email") or "")
    )
