"""What the agent of a session is told, and what the session's hub tokens may do; the same whether it is a process or a pod.

Decides only.
"""

from typing import Any

from af_hub.policy.decide import Rights
from af_hub.policy.jobs import token_pools
from af_hub.policy.model import Policy
from af_hub.session.cvmfs import read_repositories
from af_hub.session.fragments import SessionFragment
from af_hub.session.xrootd import CACHE
from af_hub.tokens.endpoint import TOKEN_READ
from af_hub.tokens.me import ME_READ
from af_hub.tokens.own_pool import TOKEN_POOL

ACCESS_CONTROLLER = "access:services!service=af-controller"

SERVER_SCOPES = ["users:activity!user", "access:servers!server", ACCESS_CONTROLLER, ME_READ]
AGENT_SCOPES = [TOKEN_READ, TOKEN_POOL, ACCESS_CONTROLLER]
"""What the two hub tokens of a session may do: its server's, and its agent's."""

SHARED_SCOPES = sorted({*SERVER_SCOPES, *AGENT_SCOPES} - {ME_READ})
"""Where both have one hub token, since nothing stands between them; who may read the token may read who it is."""


def pool_of(rights: Rights, policy: Policy) -> str:
    """The pool that HTCondor's tools in the session work with; empty where there is none, or more than one."""
    pools = {policy.sites[site].pool for site in rights.sites}
    return pools.pop() if rights.condor and len(pools) == 1 else ""


def asks_for_jobs(username: str, rights: Rights, policy: Policy) -> bool:
    """Whether jobs of this session get tokens of their own, for which its agent asks."""
    return pool_of(rights, policy) in token_pools(policy, rights, username)


def agent_config(
    fragment: SessionFragment, folder: str, controller_url: str, username: str, rights: Rights, policy: Policy
) -> dict[str, Any]:
    """What :mod:`af_hub.session.agent` reads, wherever it runs; its hub token, and what only one kind of session has, come to it."""
    return {
        "folder": folder,
        "controller_url": controller_url,
        "cache": fragment.environment.get(CACHE, ""),
        "repositories": read_repositories(fragment.environment),
        "pool": pool_of(rights, policy),
        "job_tokens": asks_for_jobs(username, rights, policy),
    }
