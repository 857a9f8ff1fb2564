"""Sentences for the owner of a Dask cluster: what it waits for, why it does not come up, why it is over, and what to do.

Pure; :mod:`af_hub.controller.plan` chooses among them. HTCondor's own words were translated before (:mod:`af_hub.condor.why`).
The page "When a Dask cluster does not come up" of the documentation lists them.
"""

import re
from datetime import UTC, datetime

from af_hub.condor.ads import SiteSlots
from af_hub.condor.why import Ending
from af_hub.controller.steps import Circumstances, Job, Report, Wish

GIB = 2**30
FIRST_SECONDS = 8
"""For which a job that runs need not have come to the forwarder, and nothing is said about it."""

OTHERS_FIRST_SECONDS = 60
"""For which HTCondor may take to hand out a slot that is free."""

GONE = "its tasks and results are gone. Start a new one"
_MISSING = re.compile(r"No module named '?([\w.]+)")


def waiting(wish: Wish, job: Job, memory: int, slots: SiteSlots | None, now: float) -> str:
    """What a job of so much memory (bytes) waits for."""
    again = f"the worker node at {wish.site} gave the job back; " if job.starts else ""
    return again + _waiting(wish.site, wish.cores, memory, slots, now - job.since)


def _waiting(site: str, cores: int, memory: int, slots: SiteSlots | None, seconds: float) -> str:
    if slots is None:
        return f"waiting for a free slot at {site}"
    if not slots.slots:
        return f"{site} has no worker node in the pool at the moment; waiting for one, but another site may be quicker"
    if not any(slot.cores >= cores and slot.memory >= memory for slot in slots.slots):
        largest = max(slots.slots, key=lambda slot: (slot.memory, slot.cores))
        return (
            f"no worker node at {site} is large enough: {size(cores, memory)} were asked for with all that belongs to it, the "
            f"largest has {size(largest.cores, largest.memory)}. Close it and ask for less, or try another site"
        )
    if not any(slot.cores_free >= cores and slot.memory_free >= memory for slot in slots.slots):
        return f"waiting for a free slot at {site}: no worker node there has {size(cores, memory)} free at the moment"
    if seconds >= OTHERS_FIRST_SECONDS:
        return f"waiting for a free slot at {site}: there is one, but HTCondor serves others first (quota or priority)"
    return f"waiting for a free slot at {site}"


def starting(wish: Wish, job: Job, report: Report | None, around: Circumstances, now: float) -> str:
    """How far a job is that runs, while its scheduler does not serve yet."""
    if report is not None and report.trouble:
        return f"the job runs at {wish.site} and is connected, but its job agent does not answer: {report.trouble}"
    if job.says:
        return f"the job runs at {wish.site}, but says: {job.says}"
    if report is None and around.cut_off:
        return f"the job runs at {wish.site}; the controller cannot see how far it is: {around.cut_off}"
    if report is None and now - job.since >= FIRST_SECONDS:
        return (
            f"the job runs at {wish.site}, but has not come to {around.forwarder} yet: its image is slow to load, or the site's "
            "nodes do not reach that address"
        )
    return f"the job runs at {wish.site}; its scheduler starts"


def silent(report: Report | None, job: Job, around: Circumstances) -> str:
    """Why a cluster that runs does not answer."""
    if report is not None and report.trouble:
        return f"the cluster is connected, but its job agent does not answer at the moment: {report.trouble}"
    if around.cut_off:
        return f"the controller cannot see the cluster at the moment: {around.cut_off}"
    return "the cluster does not answer through the forwarder at the moment" + (f": {job.says}" if job.says else "")


def held(wish: Wish, job: Job) -> str:
    """Why a held scheduler job does not go on."""
    if missing := _MISSING.search(job.says):
        return (
            f"the image {wish.image} lacks the Python module {missing[1]}, which a Dask cluster needs. Choose another image, or have "
            "it added to this one"
        )
    if job.says:
        return f"the scheduler job failed: {job.reason}. It says: {job.says}"
    return f"HTCondor holds the scheduler job: {job.reason or 'no reason given'}"


def ended(ending: Ending | None) -> str:
    """What became of a scheduler job that is gone."""
    return f"the scheduler job is gone: {ending.sentence}" if ending else "the scheduler job ended or was removed"


def other_account(wish: Wish, account: str) -> str:
    """The pool and the policy disagree about who somebody is."""
    return (
        f"the access point runs your jobs as {account}, but facility.yaml gives you the account {wish.account}; tell the "
        "facility's administrators that the access point's mapping is not the policy's"
    )


def no_more_tokens(because: str, until: float | None) -> str:
    """What becomes of the access to data when there are no more tokens; ``until`` is when the last one ends."""
    if until is None:
        return f"jobs of this cluster have no token, and read only what is open to everybody: {because}"
    end = datetime.fromtimestamp(until, UTC)
    return f"jobs of this cluster read protected data until {end:%-d %b %H:%M} UTC and not longer: {because}"


def size(cores: int, memory: int) -> str:
    """In words."""
    return f"{cores} core{'s' if cores != 1 else ''} and {memory / GIB:.3g} GiB of memory"
