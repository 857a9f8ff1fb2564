"""Whether a person may have the Dask cluster that they ask for: a function of their rights and of the wish."""

from dataclasses import dataclass

from af_hub.errors import Refused
from af_hub.policy.decide import Rights


@dataclass(frozen=True)
class Choice:
    """What somebody asks for; memory in bytes, for each worker."""

    site: str
    image: str
    workers: int
    cores: int
    memory: int


def check_choice(rights: Rights, choice: Choice) -> None:
    """Do nothing when ``rights`` allow ``choice``.

    Raises
    ------
    Refused
        With a sentence that says what there would be.
    """
    if not rights.login:
        raise Refused(rights.refusal)
    if rights.condor is None:
        raise Refused("Your groups give you no HTCondor account, so no Dask cluster can run for you.")
    if choice.site not in rights.sites:
        raise Refused(f"The site {choice.site} is not open to your groups; open are: {_listed(rights.sites)}.")
    if choice.image not in rights.images:
        raise Refused(f"The image {choice.image} is not open to your groups; open are: {_listed(rights.images)}.")
    check_size(rights, choice.workers, choice.cores, choice.memory)


def check_count(rights: Rights, living: int) -> None:
    """Do nothing when there may be one more Dask cluster beside the ``living`` ones.

    Raises
    ------
    Refused
        With the limit.
    """
    if rights.limits is not None and living >= rights.limits.clusters:
        have = f"{living} Dask cluster{'s' if living != 1 else ''}"
        raise Refused(f"You have {have}, and your limit is {rights.limits.clusters}; close one first.")


def check_size(rights: Rights, workers: int, cores: int, memory: int) -> None:
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
        raise Refused("Your groups give you no Dask clusters.")
    # The first worker runs beside the scheduler, so a cluster takes the room of one worker even when none is wanted.
    taken = max(1, workers)
    if taken * cores > limits.cores:
        raise Refused(
            f"{taken} × {cores} cores are {taken * cores}, but your limit is {limits.cores}; {_fits(limits.cores // cores)}."
        )
    if taken * memory > limits.memory:
        raise Refused(
            f"{taken} × {_gib(memory)} are {_gib(taken * memory)} of memory, but your limit is {_gib(limits.memory)}; "
            f"{_fits(limits.memory // memory)}."
        )


def _fits(workers: int) -> str:
    return (
        f"{workers} such worker{'s' if workers != 1 else ''} would fit" if workers else "not even one such worker fits"
    )


def _gib(size: int) -> str:
    amount = size / 2**30
    return f"{amount:.3g} GiB" if amount < 1000 else f"{amount:.0f} GiB"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
