"""Who there is at the demo IAM, by SCIM (RFC 7644) as INDIGO IAM has it: pages of at most 100, groups without a leading slash.

For programs whose client has the scope ``scim:read``, which they use by client credentials. Read only.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from af_hub.testing.iam_inspection import bearer
from af_hub.testing.iam_oauth import SCIM_READ, Fault
from af_hub.testing.iam_tokens import DemoUser

if TYPE_CHECKING:
    from af_hub.testing.iam import DemoIAM

PAGE = 100
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
INDIGO_USER = "urn:indigo-dc:scim:schemas:IndigoUser"
MOST = 2**31 - 1


def read_page(asked: Mapping[str, str]) -> tuple[int, int]:
    """First place, counted from 1, and how many; what is out of range is brought into it, as IAM does."""
    return max(1, _number(asked, "startIndex", 1)), min(PAGE, max(0, _number(asked, "count", PAGE)))


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name, str(default))
    try:
        found = int(text) if text.isascii() else None
    except ValueError:
        found = None
    if found is None or abs(found) > MOST:
        raise Fault("invalidValue", f"{name} must be a number, found {text!r:.40}")
    return found


def describe_page(resources: Sequence[dict[str, Any]], start: int, count: int) -> dict[str, Any]:
    """One page of a list (RFC 7644, section 3.4.2.4)."""
    part = resources[start - 1 : start - 1 + count]
    return {
        "schemas": [LIST],
        "totalResults": len(resources),
        "itemsPerPage": len(part),
        "startIndex": start,
        "Resources": list(part),
    }


def group_id(group: str) -> str:
    """A group's id, always the same for one name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, group))


def describe_user(user: DemoUser, url: str) -> dict[str, Any]:
    """One person; ``id`` is the ``sub`` of all tokens."""
    given, _, family = user.name.rpartition(" ")
    return {
        "schemas": [USER, INDIGO_USER],
        "id": user.subject,
        "meta": {"resourceType": "User", "location": f"{url}scim/Users/{user.subject}"},
        "userName": user.username,
        "displayName": user.username,
        "name": {"givenName": given, "familyName": family, "formatted": user.name},
        "active": user.active,
        "emails": [{"type": "work", "value": user.email, "primary": True}] if user.email else [],
        "groups": [
            {"display": name.lstrip("/"), "value": group_id(name), "$ref": f"{url}scim/Groups/{group_id(name)}"}
            for name in sorted(user.groups)
        ],
    }


def describe_groups(users: Sequence[DemoUser], url: str) -> list[dict[str, Any]]:
    """All groups that anybody is in; without members, which IAM lists elsewhere."""
    return [
        {
            "schemas": [GROUP],
            "id": group_id(name),
            "meta": {"resourceType": "Group", "location": f"{url}scim/Groups/{group_id(name)}"},
            "displayName": name.lstrip("/"),
        }
        for name in sorted({group for user in users for group in user.groups})
    ]


class Scim:
    """``/scim/Users`` and ``/scim/Groups``."""

    def __init__(self, iam: "DemoIAM") -> None:
        self.iam = iam

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/scim/Users", self._users),
            web.get("/scim/Users/{id}", self._user),
            web.get("/scim/Groups", self._groups),
        ]

    async def _users(self, request: web.Request) -> web.Response:
        self._check(request)
        people = [describe_user(user, self.iam.url) for user in list(self.iam.users.values())]
        return scim(describe_page(people, *read_page(request.query)))

    async def _user(self, request: web.Request) -> web.Response:
        self._check(request)
        user = self.iam.user_of(request.match_info["id"])
        if user is None:
            raise Fault("not_found", "there is no user of that id", 404)
        return scim(describe_user(user, self.iam.url))

    async def _groups(self, request: web.Request) -> web.Response:
        self._check(request)
        groups = describe_groups(list(self.iam.users.values()), self.iam.url)
        return scim(describe_page(groups, *read_page(request.query)))

    def _check(self, request: web.Request) -> None:
        self.iam.asked.append("scim")
        if SCIM_READ not in str(bearer(self.iam, request).get("scope", "")).split():
            raise Fault("insufficient_scope", f"Insufficient scope for this resource: {SCIM_READ} is needed", 403)


def scim(found: dict[str, Any]) -> web.Response:
    """An answer of SCIM's own type (RFC 7644, section 8.1)."""
    return web.json_response(found, content_type="application/scim+json")
