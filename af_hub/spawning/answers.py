"""What Kubernetes' API answers when it does not do what it was asked, as sentences; pure.

Source: Kubernetes' API, ``Status``; the sentences of its admission plugins ResourceQuota and PodSecurity (1.29 to 1.34).
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from af_hub.session.options import Reason
from af_hub.spawning.sentences import Ended, plain

TELL = "tell the facility's administrators"
AWAY = Ended(
    Reason.CLUSTER, "The cluster that runs sessions does not answer now. Try again in a minute; running sessions go on."
)

_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (.*?), used: (.*?), limited: (.*)\Z")
_MUST = re.compile(r"failed quota: (\S+): must specify (.*)\Z")
_WORDS = {
    "cpu": "cores",
    "memory": "memory",
    "pods": "sessions",
    "storage": "storage",
    "persistentvolumeclaims": "homes",
}


def read_answer(status: int, body: str, asked: str) -> Ended:
    """Why the API did not do what was ``asked`` of it (``create the pod``)."""
    message = _message(body)
    if status == HTTPStatus.FORBIDDEN and (found := _QUOTA.search(message)):
        return Ended(Reason.NO_ROOM, _full(*found.groups()))
    if status == HTTPStatus.FORBIDDEN and "failed quota" in message and (must := _MUST.search(message)):
        return Ended(
            Reason.FACILITY,
            f"The quota {must[1]} of the cluster wants {must[2]} of every container; {TELL} that one has none.",
        )
    if status == HTTPStatus.FORBIDDEN and "violates PodSecurity" in message:
        rule = message.partition("violates PodSecurity")[2].strip()
        return Ended(Reason.FACILITY, f"The cluster's Pod Security does not take this session; {TELL}: {plain(rule)}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Ended(Reason.FACILITY, f"The hub may not {asked} in the cluster; {TELL}. It says: {plain(message)}")
    if status == HTTPStatus.NOT_FOUND:
        return Ended(Reason.FACILITY, f"The hub cannot {asked}, since the cluster says: {plain(message)}; {TELL}.")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        return Ended(Reason.FACILITY, f"The cluster takes no such session; {TELL}: {plain(message)}")
    return AWAY


def _full(quota: str, requested: str, used: str, limited: str) -> str:
    """A quota in words; the first of what is exceeded is enough."""
    first = next(iter(_amounts(requested)), "")
    kind = first.rpartition(".")[2]
    have, most = _amounts(used).get(first, "all"), _amounts(limited).get(first, "as many")
    return (
        f"There is no room for your session now: all sessions together may have {most} {_WORDS.get(kind, kind)}, {have} are in use, "
        f"and yours wants {_amounts(requested).get(first, 'more')} (quota {quota}). Choose a smaller size, end a session that you do not need, "
        "or try again later."
    )


def _amounts(text: str) -> dict[str, str]:
    """``requests.cpu=1,pods=4``."""
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def _message(body: str) -> str:
    try:
        found: Any = json.loads(body)
    except ValueError:
        return body.strip()[:300]
    return str(found.get("message", "")) if isinstance(found, Mapping) else ""
