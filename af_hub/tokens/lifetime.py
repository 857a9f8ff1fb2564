"""When to refresh a token, and how long to wait after a failure; pure functions of instants in Unix seconds."""

import zlib
from dataclasses import dataclass, field

RENEW_AT = 0.55
"""Share of its life that a token has left when it is refreshed, at the latest: one of an hour outlives an outage of half an hour."""

SPREAD = 0.15
"""Share of its life over which people are spread, so that a thousand logins of one morning do not refresh at one moment."""


@dataclass(frozen=True)
class AccessToken:
    """A token that may leave the hub, to whoever it belongs."""

    value: str = field(repr=False)
    issued_at: float
    expires_at: float

    def seconds_left(self, now: float) -> float:
        """How long it is still good; never negative."""
        return max(0.0, self.expires_at - now)


def refresh_at(token: AccessToken, username: str) -> float:
    """The instant from which ``token`` should be replaced: some part of its life before its end, other for other people."""
    share = RENEW_AT + SPREAD * _place(username)
    return token.expires_at - share * max(0.0, token.expires_at - token.issued_at)


def _place(username: str) -> float:
    """A number in [0, 1) that stays the same for one name."""
    return zlib.crc32(username.encode()) / 2**32
