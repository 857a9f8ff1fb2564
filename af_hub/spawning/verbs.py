"""Whether the hub's Role in the cluster gives all that the spawner needs; asked by SelfSubjectAccessReview, which everybody may.

A missing verb fails where nobody looks: without ``delete`` on pods a stopped session runs on, and nothing is said (KubeSpawner 7.1.0).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubernetes_asyncio.client import (
    AuthorizationV1Api,
    V1ResourceAttributes,
    V1SelfSubjectAccessReview,
    V1SelfSubjectAccessReviewSpec,
)

ANSWER_SECONDS = 10


@dataclass(frozen=True)
class Verb:
    """Something that the Role must allow, and for what."""

    verb: str
    resource: str
    purpose: str


NEEDED = (
    Verb("delete", "pods", "else sessions that people stop run on"),
    Verb("create", "pods", "to start sessions"),
    Verb("list", "pods", "to see which run"),
    Verb("watch", "pods", "to see how they start and end"),
    Verb("create", "secrets", "for the session's tokens"),
)
EVENTS = (Verb("list", "events", "to say what a session waits for"), Verb("watch", "events", "the same"))
HOMES = (
    Verb("create", "persistentvolumeclaims", "for homes"),
    Verb("get", "persistentvolumeclaims", "to see that a home is there, when a quota refuses another one"),
)


def wanted(events: bool, homes: bool) -> tuple[Verb, ...]:
    """What this configuration of the spawner needs."""
    return (*NEEDED, *(EVENTS if events else ()), *(HOMES if homes else ()))


def describe_missing(missing: Sequence[Verb], namespace: str) -> str:
    """What the administrator reads; empty when nothing is missing."""
    if not missing:
        return ""
    verbs = "; ".join(f"`{one.verb}` on `{one.resource}`, {one.purpose}" for one in missing)
    return (
        f"The hub's service account lacks in the namespace {namespace!r}: {verbs}. Add it to the Role there that the hub's RoleBinding "
        'names, in the rule of that resource (apiGroups: [""]).'
    )


async def missing_verbs(namespace: str, verbs: Iterable[Verb], api: AuthorizationV1Api) -> list[Verb]:
    """Those that the API says no to.

    Raises
    ------
    ApiException, TimeoutError, aiohttp.ClientError
        When it does not say.
    """
    asked = list(verbs)
    async with asyncio.timeout(ANSWER_SECONDS):
        allowed = await asyncio.gather(*(_allowed(namespace, one, api) for one in asked))
    return [one for one, yes in zip(asked, allowed, strict=True) if not yes]


async def _allowed(namespace: str, verb: Verb, api: AuthorizationV1Api) -> bool:
    attributes = V1ResourceAttributes(namespace=namespace, verb=verb.verb, resource=verb.resource)
    spec = V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    answer = await api.create_self_subject_access_review(V1SelfSubjectAccessReview(spec=spec))
    return bool(answer.status.allowed)
