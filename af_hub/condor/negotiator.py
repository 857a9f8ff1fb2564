"""What the pool is shared by: ``accounting_groups`` of the policy as HTCondor's configuration, for negotiator and schedd.

Serves the hop access point → worker node, where the central manager decides whose job comes next. Decides only:
:mod:`af_hub.condor.watch` writes the file, and ``af-hub negotiator`` prints it. Whom a job is charged to is settled before, at the
access point.
"""

from collections.abc import Iterator

from af_hub.policy.model import Policy
from af_hub.policy.rules import AccountingGroup

HEAD = "# Made from `accounting_groups` of facility.yaml; an edit here is lost.\n"


def describe_groups(policy: Policy) -> str:
    """Groups, quotas and priorities for the negotiator (HTCondor manual, "Hierarchical Group Quotas").

    Without ``accounting_groups`` there are no quotas: each person is a peer of all others.
    """
    names = sorted(policy.accounting_groups)
    lines = [line for name in names for line in _describe_group(name, policy.accounting_groups[name])]
    return HEAD + "".join(f"{line}\n" for line in [f"GROUP_NAMES = {', '.join(names)}".rstrip(), *lines])


def describe_claims(policy: Policy) -> str:
    """What the schedd must not do where there are quotas (HTCondor manual, ``CLAIM_PARTITIONABLE_LEFTOVERS``)."""
    if not any(group.quota for group in policy.accounting_groups.values()):
        return HEAD
    # The negotiator matches one job with a whole node, and the schedd would fill the node with others of the same person, of whom
    # nobody asks for the quota: measured with 23.9, a group with 4 of 8 cores had all 8.
    return f"{HEAD}CLAIM_PARTITIONABLE_LEFTOVERS = False\n"


def _describe_group(name: str, group: AccountingGroup) -> Iterator[str]:
    if isinstance(group.quota, int):
        yield f"GROUP_QUOTA_{name} = {group.quota}"
    else:
        yield f"GROUP_QUOTA_DYNAMIC_{name} = {group.quota or 0.0!r}"
    # Without a quota there is nothing that a group has for itself, so it takes what the others leave.
    yield f"GROUP_ACCEPT_SURPLUS_{name} = {group.surplus or group.quota is None}"
    if group.priority_factor is not None:
        yield f"GROUP_PRIO_FACTOR_{name} = {group.priority_factor!r}"
