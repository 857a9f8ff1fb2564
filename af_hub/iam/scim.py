"""Everybody an IAM knows, with their groups, by SCIM (RFC 7644): for what must know people before they come.

INDIGO IAM gives pages of at most a hundred; a client needs the scope ``scim:read``, which its administrators approve. It promises all or
nothing: a list that broke off, or changed while it was read, is an error, since half a list would shut people out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from af_hub.errors import ClaimsError, IAMAway, IAMRefused, LoginRequired, Unavailable
from af_hub.iam.claims import Claims, read_claims
from af_hub.iam.http import fetch

PAGE = 50
"""People a page: a megabyte must hold them, with all their groups and certificates."""
MOST_PEOPLE = 100_000
PAUSES = (1.0, 4.0)
"""Seconds before an IAM that is away is asked again."""
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True)
class People:
    """Everybody at an IAM.

    Parameters
    ----------
    claims
        Who may be somebody here.
    passed_over
        Sentences about the others.
    """

    claims: tuple[Claims, ...]
    passed_over: tuple[str, ...] = ()


async def read_people(
    url: str,
    token: str,
    issuer: str,
    seconds: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> People:
    """All people at ``url`` (``https://iam.example.org/scim``), within ``seconds``.

    Raises
    ------
    Unavailable
        When the list is not to be had whole.
    """
    where = urlsplit(url)
    if where.scheme != "https" and where.hostname not in LOOPBACK:
        raise Unavailable(f"{url} would send the token in the clear; an address with https:// is wanted")
    try:
        async with asyncio.timeout(seconds):
            found = await _read_all(url.rstrip("/") + "/Users", token, sleep)
    except TimeoutError:
        raise Unavailable(f"the list of people at {where.netloc} took more than {seconds:g} s") from None
    return sort_people(found, issuer)


async def _read_all(url: str, token: str, sleep: Callable[[float], Awaitable[None]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    start, total = 1, 1
    while start <= total:
        page = await _read_page(f"{url}?{urlencode({'startIndex': start, 'count': PAGE})}", token, sleep)
        more, said = page.get("Resources"), page.get("totalResults")
        if not isinstance(said, int) or not isinstance(more, list) or not 0 <= said <= MOST_PEOPLE:
            raise Unavailable(f"{url} gives no list of people (RFC 7644, section 3.4.2)")
        if start > 1 and said != total:
            raise Unavailable(
                f"the list of people changed while it was read: {said} instead of {total}; run this again"
            )
        total, start = said, start + len(more)
        if not more and start <= total:
            raise Unavailable(f"the list of people ends after {start - 1} of {total}")
        for one in more:
            if not isinstance(one, dict) or not isinstance(one.get("id"), str):
                raise Unavailable(f"{url} lists something that is no person: it has no id")
            found[one["id"]] = one
    if len(found) != total:
        raise Unavailable(f"the list of people changed while it was read: {len(found)} of {total}; run this again")
    return list(found.values())


async def _read_page(url: str, token: str, sleep: Callable[[float], Awaitable[None]]) -> dict[str, Any]:
    """One page; whoever is away is asked again."""
    for pause in (*PAUSES, None):
        try:
            return await fetch(url, headers={"Authorization": f"Bearer {token}", "Accept": "application/scim+json"})
        except LoginRequired:
            raise Unavailable("the IAM does not take the token for SCIM, or no longer; get a new one") from None
        except IAMRefused as error:
            words = f"the IAM refuses its list of people ({error.code or 'no reason given'}); the token needs the scope scim:read"
            raise Unavailable(words) from None
        except IAMAway as error:
            if pause is None:
                raise
            await sleep(max(pause, error.pause))
    raise AssertionError("the last pause is None")


def sort_people(found: list[dict[str, Any]], issuer: str) -> People:
    """Who of them can be somebody here."""
    claims, passed_over = [], []
    for one in found:
        try:
            claims.append(read_person(one, issuer))
        except ClaimsError as error:
            passed_over.append(f"{one.get('userName')!r:.80}: {error}")
    return People(tuple(claims), tuple(passed_over))


def read_person(found: dict[str, Any], issuer: str) -> Claims:
    """What tokens would say of somebody: ``id`` is their ``sub``, ``userName`` their ``preferred_username``.

    Raises
    ------
    ClaimsError
        When nobody could log in as them.
    """
    if found.get("active") is not True:
        raise ClaimsError("is not active at the IAM")
    groups = found.get("groups") or []
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise ClaimsError("the IAM's list of groups is none")
    names = [group.get("display") for group in groups]
    return read_claims({"sub": found.get("id"), "preferred_username": found.get("userName"), "groups": names}, issuer)
