"""What a token is for, and in which way the hub gets it: the policy's ``tokens``, as the keeper takes it; pure.

Three ways. By *refresh*: the login's refresh token, with fewer scopes or for one audience. By *exchange* (RFC 8693): the session's access token is
shown to the IAM, which gives another. By the *hub*: it signs one itself (:mod:`af_hub.tokens.own_issuer`), and the IAM is not asked.
"""

from dataclasses import dataclass

from af_hub.policy.issuers import CondorToken, SessionToken, StorageToken, Tokens, Way


@dataclass(frozen=True)
class Purpose:
    """What a token is for: its scopes, and the one who shall take it (anyone when empty).

    Parameters
    ----------
    lifetime
        Seconds that it is good, where the hub has a say; 0 where it has none.
    """

    scope: str
    audience: str = ""
    by: Way = "refresh"
    lifetime: float = 0.0


def session_purpose(token: SessionToken) -> Purpose:
    """What sessions get."""
    return Purpose(" ".join(token.scopes))


def condor_purpose(token: CondorToken, audience: str) -> Purpose:
    """A short token for a pool that wants this audience."""
    return Purpose(" ".join(token.scopes), audience, token.by, _lifetime(token))


def storage_purpose(token: StorageToken) -> Purpose:
    """What worker nodes and batch jobs read data with."""
    return Purpose(" ".join(token.scopes), token.audience, token.by, _lifetime(token))


def _lifetime(token: CondorToken | StorageToken) -> float:
    # It tells one purpose from another, so it stands only where it changes the token.
    return token.lifetime if token.by == "hub" else 0.0


def login_scopes(tokens: Tokens) -> list[str]:
    """What a login must ask for, so that its refreshes can have all that they need."""
    by_refresh = [one for one in (tokens.condor, tokens.storage) if one and one.by == "refresh"]
    narrower = [scope for one in by_refresh for scope in one.scopes]
    return list(dict.fromkeys([*tokens.session.scopes, *narrower, "offline_access"]))
