"""ClassAds of the pool in our words: jobs of Dask clusters, and what each site has.

Reads what :mod:`af_hub.condor.operation` answered; decides nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from af_hub.condor.jobstatus import JobState, job_state

MIB = 2**20
# Everybody can write any attribute into their own jobs: what cannot be ours, or is far too long, is not even fetched.
DASK_JOBS = (
    "isString(AFCluster) && size(AFCluster) == 32 && isString(AFRole) && size(AFRole) < 16"
    ' && size(AFWorker ?: "") < 64 && size(HoldReason ?: "") < 10000'
)
DASK_CLUSTER = re.compile(r"[0-9a-f]{32}", re.ASCII)
REASON_LENGTH = 500
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


def read_jobs(ads: Iterable[Mapping[str, Any]]) -> Iterator[DaskJob]:
    """The jobs of these ads; one whose ad makes no sense is left out, so that nobody's nonsense hides the jobs of others."""
    for ad in ads:
        try:
            yield read_job(ad)
        except (LookupError, TypeError, ValueError):
            continue


def read_job(ad: Mapping[str, Any]) -> DaskJob:
    """The job of an ad with :data:`JOB_ATTRIBUTES`.

    Raises
    ------
    LookupError, TypeError, ValueError
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
        reason=str(ad.get("HoldReason") or "")[:REASON_LENGTH] if state is JobState.HELD else "",
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
