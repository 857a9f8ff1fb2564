"""Whether the hub's Role in the cluster gives all that the spawner needs; asked by SelfSubjectAccessReview, which everybody may.

A missing verb fails where nobody looks: without ``delete`` on pods a stopped session runs on, and nothing is said (KubeSpawner 7.1.0).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from kubernetes_asyncio.client import (
    AuthorizationV1Api,
    V1ResourceAttributes,
    V1SelfSubjectAccessReview,
    V1SelfSubjectAccessReviewSpec,
)
from kubespawner.clients import shared_client

ANSWER_SECONDS = 10


@dataclass(frozen=True)
class Permission:
    """Something that the Role must allow, and for what."""

    verb: str
    resource: str
    purpose: str


NEEDED = (
    Permission("delete", "pods", "else sessions that people stop run on"),
    Permission("create", "pods", "to start sessions"),
    Permission("list", "pods", "to see which run"),
    Permission("watch", "pods", "to see how they start and end"),
    Permission("create", "secrets", "for the session's tokens"),
)
EVENTS = (Permission("list", "events", "to say what a session waits for"), Permission("watch", "events", "the same"))
HOMES = (
    Permission("create", "persistentvolumeclaims", "for homes"),
    Permission("get", "persistentvolumeclaims", "to see that a home is there, when a quota refuses another one"),
)


def wanted(events: bool, homes: bool) -> tuple[Permission, ...]:
    """What this configuration of the spawner needs."""
    return (*NEEDED, *(EVENTS if events else ()), *(HOMES if homes else ()))


def describe_missing(missing: Sequence[Permission], namespace: str) -> str:
    """What the administrator reads; empty when nothing is missing."""
    if not missing:
        return ""
    listed = "; ".join(f"`{one.verb}` on `{one.resource}`, {one.purpose}" for one in missing)
    return (
        f"The hub's service account lacks in the namespace {namespace!r}: {listed}. Add it to the Role there that the hub's RoleBinding "
        'names, in the rule of that resource (apiGroups: [""]).'
    )


async def role_lacks(namespace: str, *, events: bool, homes: bool) -> str:
    """What the hub's Role in this namespace lacks, for administrators; empty when nothing.

    Raises
    ------
    ApiException, TimeoutError, aiohttp.ClientError
        When the API does not say.
    """
    asked, api = wanted(events, homes), shared_client("AuthorizationV1Api")
    async with asyncio.timeout(ANSWER_SECONDS):
        allowed = await asyncio.gather(*(_allowed(namespace, one, api) for one in asked))
    return describe_missing([one for one, yes in zip(asked, allowed, strict=True) if not yes], namespace)


async def _allowed(namespace: str, wish: Permission, api: AuthorizationV1Api) -> bool:
    attributes = V1ResourceAttributes(namespace=namespace, verb=wish.verb, resource=wish.resource)
    spec = V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    answer = await api.create_self_subject_access_review(V1SelfSubjectAccessReview(spec=spec))
    return bool(answer.status.allowed)
