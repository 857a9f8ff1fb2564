"""Which names can be HTCondor accounts of people.

The access point's mapping program (:mod:`af_hub.condor.mapper`) imports nothing of ours and has the same patterns; a test compares them.
"""

import re

ACCOUNT = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")

# What daemons, operators and HTCondor itself are called in the pool (hub_config/condor).
RESERVED = re.compile(
    r"(root|condor|condor_pool|operator|reader|family|child|parent|anonymous|unauthenticated|unmapped|nobody|"
    r"access-point.*|af-check-.*|central-manager.*|site-.*|submit-side.*|execute-side.*|negotiator-side.*)\Z"
)


def may_be_account(name: str) -> bool:
    """Whether ``name`` can be an account of a person."""
    return bool(ACCOUNT.match(name)) and not RESERVED.match(name)
