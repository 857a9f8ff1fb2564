"""ClassAds of the pool in our words: jobs of Dask clusters, and what each site has.

Reads what :mod:`af_hub.condor.operation` answered; decides nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from af_hub.condor.jobstatus import JobState, job_state

MIB = 2**20
DASK_JOBS = "AFCluster isnt undefined"
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
        Why it is held; empty otherwise.
    since
        When it got into this state, seconds since the epoch.
    """

    id: str
    state: JobState
    cluster: str
    role: str
    worker: str
    account: str
    reason: str
    since: float


@dataclass(frozen=True)
class SiteSlots:
    """What a site has at this moment; memory in bytes."""

    cores: int = 0
    cores_free: int = 0
    memory: int = 0
    memory_free: int = 0


def these_jobs(ids: Iterable[str]) -> str:
    """The constraint that matches exactly the jobs with these ids, ``ClusterId.ProcId``; nothing when there are none."""
    pairs = (one.split(".") for one in ids)
    return " || ".join(f"(ClusterId == {int(c)} && ProcId == {int(p)})" for c, p in pairs) or "False"


def read_job(ad: Mapping[str, Any]) -> DaskJob:
    """The job of an ad with :data:`JOB_ATTRIBUTES`."""
    state = job_state(ad)
    return DaskJob(
        id=f"{ad['ClusterId']}.{ad['ProcId']}",
        state=state,
        cluster=ad["AFCluster"],
        role=ad.get("AFRole") or "",
        worker=ad.get("AFWorker") or "",
        account=ad["Owner"],
        reason=(ad.get("HoldReason") or "") if state is JobState.HELD else "",
        since=float(ad.get("EnteredCurrentStatus") or 0),
    )


def read_slots(ads: Iterable[Mapping[str, Any]]) -> dict[str, SiteSlots]:
    """What each site has, of ads with :data:`SLOT_ATTRIBUTES`; slots without ``SiteName`` are left out."""
    sites: dict[str, SiteSlots] = {}
    for ad in ads:
        if not ad.get("SiteName"):
            continue
        free = ad.get("PartitionableSlot") or ad.get("State") == "Unclaimed"
        so_far = sites.get(ad["SiteName"], SiteSlots())
        sites[ad["SiteName"]] = SiteSlots(
            cores=so_far.cores + ad["TotalSlotCpus"],
            cores_free=so_far.cores_free + (ad["Cpus"] if free else 0),
            memory=so_far.memory + ad["TotalSlotMemory"] * MIB,
            memory_free=so_far.memory_free + (ad["Memory"] if free else 0) * MIB,
        )
    return sites
