"""ClassAds of the pool in our words: jobs of Dask clusters, and what each site has.

Reads what :mod:`af_hub.condor.operation` answered; decides nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from af_hub.condor.jobstatus import JobState, job_state
from af_hub.condor.why import Ending, held_because, one_line, read_ending
from af_hub.policy.units import MEBIBYTE

DASK_CLUSTER = re.compile(r"[0-9a-f]{32}", re.ASCII)
SAYS_LENGTH = 2000
ENDING_ATTRIBUTES = ("JobStatus", "ExitCode", "ExitBySignal", "ExitSignal", "RemoveReason")
JOB_ATTRIBUTES = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "HoldReasonCode",
    "HoldReason",
    "EnteredCurrentStatus",
    "Owner",
    "AFCluster",
    "AFRole",
    "AFWorker",
    "AFSays",
    "NumJobStarts",
    *ENDING_ATTRIBUTES[1:],
)
LONGEST = 10_000
# Everybody can write any attribute into their own jobs: what cannot be ours, or is far too long as it was written (an expression may be
# long whose value is not), is not even fetched.
DASK_JOBS = " && ".join(
    [
        "isString(AFCluster) && size(AFCluster) == 32 && isString(AFRole) && size(AFRole) < 16",
        'size(AFWorker ?: "") < 64',
        *(f"size(unparse({name})) < {LONGEST}" for name in JOB_ATTRIBUTES),
    ]
)
# A partitionable slot's ad holds what is left of it; the dynamic ones that were cut off are counted by that.
SLOTS = 'SlotType isnt "Dynamic"'
SLOT_ATTRIBUTES = (
    "SiteName",
    "State",
    "PartitionableSlot",
    "Cpus",
    "TotalSlotCpus",
    "Memory",
    "TotalSlotMemory",
)


@dataclass(frozen=True)
class DaskJob:
    """One job of a Dask cluster.

    Parameters
    ----------
    id
        ``ClusterId.ProcId``.
    account
        The HTCondor account that it belongs to.
    reason
        Why it is held, as a clause; empty otherwise.
    since
        When it got into this state, seconds since the epoch.
    says
        What the job itself wrote into its ad (:mod:`af_hub.job.start`).
    starts
        How often it has been started.
    ending
        How it ended; None while it has not.
    """

    id: str
    state: JobState
    cluster: str
    role: str
    worker: str
    account: str
    reason: str
    since: float
    says: str = ""
    starts: int = 0
    ending: Ending | None = None


@dataclass(frozen=True)
class NodeSlot:
    """A slot of one worker node, with the ones that were cut off from it; memory in bytes."""

    cores: int
    cores_free: int
    memory: int
    memory_free: int


@dataclass(frozen=True)
class SiteSlots:
    """What a site has at this moment; memory in bytes."""

    slots: tuple[NodeSlot, ...] = ()

    @property
    def cores(self) -> int:
        """Cores of all slots."""
        return sum(slot.cores for slot in self.slots)

    @property
    def cores_free(self) -> int:
        """Cores that no job has."""
        return sum(slot.cores_free for slot in self.slots)


def these_jobs(ids: Iterable[str]) -> str:
    """The constraint that matches exactly the jobs with these ids, ``ClusterId.ProcId``; nothing when there are none."""
    pairs = (one.split(".") for one in ids)
    return " || ".join(f"(ClusterId == {int(c)} && ProcId == {int(p)})" for c, p in pairs) or "False"


def read_jobs(ads: Iterable[Mapping[str, Any]]) -> Iterator[DaskJob]:
    """The jobs of these ads; one whose ad makes no sense is left out, so that nobody's nonsense hides the jobs of others."""
    for ad in ads:
        try:
            yield read_job(ad)
        except (LookupError, TypeError, ValueError, ArithmeticError):
            continue


def read_job(ad: Mapping[str, Any]) -> DaskJob:
    """The job of an ad with :data:`JOB_ATTRIBUTES`.

    Raises
    ------
    LookupError, TypeError, ValueError, ArithmeticError
        When an attribute is missing or is no value of ours; whoever submits a job can write into its ad what they like.
    """
    if not DASK_CLUSTER.fullmatch(ad["AFCluster"]):
        raise ValueError("AFCluster is no Dask cluster's id")
    state = job_state(ad)
    return DaskJob(
        id=f"{ad['ClusterId']}.{ad['ProcId']}",
        state=state,
        cluster=ad["AFCluster"],
        role=str(ad.get("AFRole") or ""),
        worker=str(ad.get("AFWorker") or ""),
        account=str(ad["Owner"]),
        reason=_held_because(ad) if state is JobState.HELD else "",
        since=float(ad.get("EnteredCurrentStatus") or 0),
        says=one_line(str(ad.get("AFSays") or ""))[:SAYS_LENGTH],
        starts=int(ad.get("NumJobStarts") or 0),
        ending=read_ending(ad) if state is JobState.ENDED else None,
    )


def _held_because(ad: Mapping[str, Any]) -> str:
    return held_because(int(ad.get("HoldReasonCode") or 0), str(ad.get("HoldReason") or ""))


def read_slots(ads: Iterable[Mapping[str, Any]]) -> dict[str, SiteSlots]:
    """What each site has, of ads with :data:`SLOT_ATTRIBUTES`; slots without ``SiteName``, or whose ad makes no sense, are left out."""
    sites: dict[str, tuple[NodeSlot, ...]] = {}
    for ad in ads:
        try:
            site, slot = ad["SiteName"], _read_slot(ad)
        except (LookupError, TypeError):
            continue
        if isinstance(site, str) and site:
            sites[site] = (*sites.get(site, ()), slot)
    return {site: SiteSlots(slots) for site, slots in sites.items()}


def _read_slot(ad: Mapping[str, Any]) -> NodeSlot:
    free = ad.get("PartitionableSlot") or ad.get("State") == "Unclaimed"
    return NodeSlot(
        cores=_count(ad, "TotalSlotCpus"),
        cores_free=_count(ad, "Cpus") if free else 0,
        memory=_count(ad, "TotalSlotMemory") * MEBIBYTE,
        memory_free=_count(ad, "Memory") * MEBIBYTE if free else 0,
    )


def _count(ad: Mapping[str, Any], name: str) -> int:
    value = ad[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is no number")
    return value
