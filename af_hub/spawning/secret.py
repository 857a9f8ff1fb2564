"""The two hub tokens of a session, and the Secret that brings them into its pod.

Promises: the person's processes see a hub token with which no access token can be read; the agent's, with which one can, stands in a file that
they do not see. The Secret is made right after its pod, belongs to it, and goes when it does.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from jupyterhub import orm
from jupyterhub.utils import exponential_backoff
from kubernetes_asyncio.client import ApiException

from af_hub.spawning.agent import AGENT_SCOPES
from af_hub.spawning.steady import comes_back

NOTE = "Session agent at "


def new_agent_token(user: Any, place: str) -> tuple[str, int]:
    """A hub token of this JupyterHub user for the agent of the session at ``place``, and its number in the hub's database.

    There is one for each place: what a hub left behind that was killed while it made one is removed.

    Raises
    ------
    ValueError
        When the hub's configuration does not let people have its scopes.
    """
    note = f"{NOTE}{place}"
    for earlier in [one for one in user.orm_user.api_tokens if one.note == note]:
        user.db.delete(earlier)
    token: str = user.new_api_token(note=note, scopes=AGENT_SCOPES)
    return token, orm.APIToken.find(user.db, token).id


def end_agent_token(user: Any, number: int) -> None:
    """Remove it from the hub; it may be gone already, and another have its number."""
    found = user.db.get(orm.APIToken, number)
    if found is not None and found.user_id == user.id and found.note.startswith(NOTE):
        user.db.delete(found)
    user.db.commit()


async def make_secret(
    api: Any, namespace: str, manifest: Mapping[str, Any], answer_seconds: float, seconds: float
) -> None:
    """Make it, asking again while the API is away.

    Raises
    ------
    ApiException, TimeoutError
        When it is refused, or cannot be made within ``seconds``.
    """
    asking = partial(_ask, api, namespace, manifest, answer_seconds)
    await exponential_backoff(asking, "no Secret", timeout=seconds)


async def _ask(api: Any, namespace: str, manifest: Mapping[str, Any], seconds: float) -> bool:
    try:
        await asyncio.wait_for(api.create_namespaced_secret(namespace, manifest), seconds)
    except Exception as error:
        # Its name is random: one that is there was made by a request whose answer did not come in time.
        if isinstance(error, ApiException) and error.status == HTTPStatus.CONFLICT:
            return True
        if not comes_back(error):
            raise
        return False
    return True
