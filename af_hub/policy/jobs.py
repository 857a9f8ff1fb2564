"""Whose plain batch jobs get a token that reads data, at which pools; and whose an account may be.

Decides only. A token goes into a place that belongs to an account, and all jobs of the account get it; so there is none for accounts that
several people share.
"""

import re
from collections.abc import Iterator

from af_hub.policy.decide import Rights
from af_hub.policy.model import Policy
from af_hub.policy.rules import Condor


def token_pools(policy: Policy, rights: Rights, username: str) -> tuple[str, ...]:
    """The pools at which jobs of this person get a token; none when somebody else may have the same account."""
    if rights.condor is None or is_shared(policy, rights.condor.account, username):
        return ()
    names = dict.fromkeys(policy.sites[site].pool for site in rights.sites)
    return tuple(name for name in names if policy.pools[name].job_tokens)


def is_shared(policy: Policy, account: str, username: str) -> bool:
    """Whether a rule gives this account to several people."""
    return any(one.shared_account and one.account.replace("{username}", username) == account for one in _givers(policy))


def may_be(policy: Policy, account: str) -> list[str]:
    """User names that would have this account by some rule, whether or not they have it now, or are people at all."""
    found = (_username(one.account, account) for one in _givers(policy))
    return list(dict.fromkeys(name for name in found if name))


def _username(template: str, account: str) -> str:
    before, middle, after = template.partition("{username}")
    matched = middle and re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", account)
    return matched[1] if matched else ""


def _givers(policy: Policy) -> Iterator[Condor]:
    return (rule.condor for rule in (*policy.overrides, *policy.rules) if rule.condor)
