"""What somebody reads at the head of the hub's pages about their login; pure. Instants in Unix seconds, shown in UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

SOON, VERY_SOON = 86400.0, 7200.0
"""So long before its end a login is spoken of, and loudly."""


@dataclass(frozen=True)
class Notice:
    """A sentence or two; ``log_in`` says whether logging in again is what helps."""

    text: str
    level: Literal["info", "warning"] = "warning"
    log_in: bool = False


@dataclass(frozen=True)
class LoginState:
    """What the keeper knows of a login.

    Parameters
    ----------
    logged_in
        Whether the IAM still takes it.
    ends_at
        When the login ends, or ended; None when the IAM does not say.
    token_ends_at
        When the access token of running sessions ends; None when there is none.
    trouble
        Why it is not refreshed now, or why the login ended.
    lacks
        Scopes that sessions get by now and this login does not have.
    """

    logged_in: bool
    ends_at: float | None
    token_ends_at: float | None
    trouble: str = ""
    lacks: str = ""


def login_notice(state: LoginState, now: float) -> Notice | None:
    """What to tell; None when all is well."""
    if not state.logged_in:
        return Notice(f"{state.trouble or 'Your login has ended; log in again.'} {_what_runs(state, now)}", log_in=True)
    if state.trouble:
        return Notice(
            f"The IAM cannot be reached for your login at this moment. {_what_runs(state, now)} The hub goes on trying; "
            "there is nothing that you have to do."
        )
    if state.ends_at is not None and state.ends_at - now < SOON:
        return Notice(
            f"Your login ends at {clock(state.ends_at, now)}. What runs then goes on, but gets no fresh access token, so that within the "
            "hour it reads no protected data and starts no jobs. Log in again before that, and nothing is interrupted.",
            "warning" if state.ends_at - now < VERY_SOON else "info",
            log_in=True,
        )
    if state.lacks:
        return Notice(
            f"Sessions may do more here than when you logged in ({state.lacks}). Log in again to have it.",
            "info",
            log_in=True,
        )
    return None


def _what_runs(state: LoginState, now: float) -> str:
    if state.token_ends_at is None or state.token_ends_at <= now:
        return "Sessions and Dask clusters go on, but have no access token for protected data and new jobs."
    return f"Sessions and Dask clusters go on; their access token is good until {clock(state.token_ends_at, now)}."


def clock(instant: float, now: float) -> str:
    """``14:32 UTC``, with the day when it is not within the next twelve hours."""
    pattern = "%H:%M UTC" if abs(instant - now) < 43200 else "%H:%M UTC on %A, %d %B"
    return datetime.fromtimestamp(instant, UTC).strftime(pattern)
