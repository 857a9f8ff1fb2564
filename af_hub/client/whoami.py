"""What ``af whoami`` prints of the hub's answer; pure. Whatever an older hub leaves out is left out here."""

import time
from collections.abc import Iterator, Mapping
from typing import Any


def describe_person(found: Mapping[str, Any], hub: str, token_ends_at: float | None) -> str:
    """Several lines: who one is at ``hub``, what one may do, and until when.

    Parameters
    ----------
    token_ends_at
        When the hub's token ends that this was asked with (Unix seconds); None for a session's.
    """
    return "\n".join([*_lines(found, hub), *_ends(found, token_ends_at), *_news(found)])


def _lines(found: Mapping[str, Any], hub: str) -> Iterator[str]:
    issuer = found.get("issuer_name") or found.get("issuer")
    yield f"{found.get('username') or found.get('name')} at {hub}" + (f", by {issuer}" if issuer else "")
    if groups := found.get("groups"):
        yield f"groups: {_listed(groups)}"
    rights = found.get("rights")
    if not isinstance(rights, Mapping):
        return
    if rights.get("refusal"):
        yield str(rights["refusal"])
    for kind in "images", "sizes", "sites":
        if names := rights.get(kind):
            yield f"{kind}: {_listed(names)}"
    if isinstance(condor := rights.get("condor"), Mapping):
        yield f"HTCondor account: {condor.get('account')}, charged to {condor.get('accounting_group')}"
    if rights.get("admin"):
        yield "an administrator of the hub"


def _ends(found: Mapping[str, Any], token_ends_at: float | None) -> Iterator[str]:
    if isinstance(ends_at := found.get("login_ends_at"), int | float) and found.get("logged_in"):
        yield f"login ends: {_clock(ends_at)}"
    if token_ends_at is not None:
        yield f"token of the hub ends: {_clock(token_ends_at)}"


def _news(found: Mapping[str, Any]) -> Iterator[str]:
    if banner := found.get("banner"):
        yield str(banner)
    announced = found.get("announcements")
    for one in announced if isinstance(announced, list) else []:
        if isinstance(one, Mapping) and one.get("text"):
            yield str(one["text"])


def _listed(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) else str(names)


def _clock(instant: float) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(instant))
