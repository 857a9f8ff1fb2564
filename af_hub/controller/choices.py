"""Whether a person may have the Dask cluster that they ask for: a function of their rights and of the wish."""

from dataclasses import dataclass

from af_hub.errors import Refused
from af_hub.policy.decide import Rights
from af_hub.policy.model import Policy
from af_hub.policy.refusals import beyond_limit, no_account, no_clusters, not_given


@dataclass(frozen=True)
class Choice:
    """What somebody asks for; memory in bytes, for each worker."""

    site: str
    image: str
    workers: int
    cores: int
    memory: int


def check_choice(rights: Rights, choice: Choice, policy: Policy) -> None:
    """Do nothing when ``rights`` allow ``choice``.

    Raises
    ------
    Refused
        With a sentence that says what there would be.
    """
    if not rights.login:
        raise Refused(rights.refusal)
    if rights.condor is None:
        raise Refused(no_account(policy))
    for kind, name, allowed in (("site", choice.site, rights.sites), ("image", choice.image, rights.images)):
        if name not in allowed:
            what = f"The {kind} {name} is not open to your groups"
            raise Refused(f"{what}: {not_given(policy, kind, name, allowed)}")
    check_size(rights, choice.workers, choice.cores, choice.memory, policy)


def check_count(rights: Rights, living: int, policy: Policy) -> None:
    """Do nothing when there may be one more Dask cluster beside the ``living`` ones.

    Raises
    ------
    Refused
        With the limit.
    """
    if rights.limits is not None and living >= rights.limits.clusters:
        have = f"{living} Dask cluster{'s' if living != 1 else ''}"
        raise Refused(
            f"You have {have}, and your limit is {rights.limits.clusters}; close one first." + beyond_limit(policy)
        )


def check_size(rights: Rights, workers: int, cores: int, memory: int, policy: Policy) -> None:
    """Do nothing when one Dask cluster of that size is within the limits.

    Raises
    ------
    Refused
        With the limit, what was asked for, and what would fit.
    """
    if not rights.login:
        raise Refused(rights.refusal)
    limits = rights.limits
    if limits is None:
        raise Refused(no_clusters(policy))
    # The first worker runs beside the scheduler, so a cluster takes the room of one worker even when none is wanted.
    taken = max(1, workers)
    if taken * cores > limits.cores:
        raise Refused(
            f"{taken} × {cores} cores are {taken * cores}, but your limit is {limits.cores}; {_fits(limits.cores // cores)}."
            + beyond_limit(policy)
        )
    if taken * memory > limits.memory:
        raise Refused(
            f"{taken} × {_gib(memory)} are {_gib(taken * memory)} of memory, but your limit is {_gib(limits.memory)}; "
            f"{_fits(limits.memory // memory)}." + beyond_limit(policy)
        )


def _fits(workers: int) -> str:
    return (
        f"{workers} such worker{'s' if workers != 1 else ''} would fit" if workers else "not even one such worker fits"
    )


def _gib(size: int) -> str:
    amount = size / 2**30
    return f"{amount:.3g} GiB" if amount < 1000 else f"{amount:.0f} GiB"
