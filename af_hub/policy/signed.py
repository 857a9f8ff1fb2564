"""Which protected folders the tokens open that the hub signs itself: one issuer's for a data server, whoever's people they are of.

Decides only. A server cannot see of which experiment the bearer is, so a folder stands open to the hub only where no token that the hub
signs for people of another issuer would reach into it.
"""

from collections.abc import Iterator

from af_hub.iam.scopes import holds, readable_paths
from af_hub.policy.issuers import Issuer
from af_hub.policy.model import Policy


def signed_paths(policy: Policy) -> list[str]:
    """The folders that the hub's own tokens open, each once."""
    kept_shut = {(issuer.name, path) for issuer, path, _ in strangers(policy)}
    found = (path for one in _signed_for(policy) for path in one.data_paths if (one.name, path) not in kept_shut)
    return list(dict.fromkeys(found)) if policy.own_issuer else []


def strangers(policy: Policy) -> Iterator[tuple[Issuer, str, Issuer]]:
    """Issuer and folder, and another issuer whose people the hub signs tokens for that reach into it, though it is not theirs."""
    signed = _signed_for(policy)
    for one in signed:
        for path in one.data_paths:
            for other in signed:
                if not any(holds(own, path) for own in other.data_paths) and _reaches(policy, other, path):
                    yield one, path, other


def _signed_for(policy: Policy) -> list[Issuer]:
    storages = [(one, policy.tokens_of(one.issuer).storage) for one in policy.issuers]
    return [one for one, storage in storages if storage and storage.by == "hub"]


def _reaches(policy: Policy, issuer: Issuer, path: str) -> bool:
    storage = policy.tokens_of(issuer.issuer).storage
    folders = readable_paths(storage.scopes) if storage else []
    return any(holds(folder, path) or holds(path, folder) for folder in folders)
