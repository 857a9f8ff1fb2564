"""The REST API: Dask clusters and sites, for programs with a hub token.

Promises: a cluster of somebody else answers like one that does not exist; what is asked for is checked against the person's rights
when it is asked for; ``GET`` changes nothing; errors are problem details. A ``POST`` answers at once: the loop does the work.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from af_hub.condor.ads import SiteSlots
from af_hub.controller.choices import Choice, check_choice, check_count, check_size
from af_hub.controller.hub import Person
from af_hub.controller.keys import ClusterKeys, new_cluster_id
from af_hub.controller.mistakes import CLUSTER_NAME
from af_hub.controller.model import Cluster
from af_hub.controller.parts import Parts
from af_hub.controller.problems import Problem
from af_hub.controller.states import State
from af_hub.errors import AFError, Refused, Unavailable
from af_hub.job.kit import LOG_PARTS
from af_hub.policy.refusals import no_clusters

log = logging.getLogger(__name__)

WORKERS_AT_MOST = 10_000
SLOTS_SECONDS = 3

NEWS_SECONDS = 10.0
"""For which a question with ``after`` waits; less than any program or proxy waits for an answer."""


class Body(BaseModel):
    """What is sent: no unknown keys, and a number is a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewCluster(Body):
    """A Dask cluster that somebody wants."""

    site: str = Field(max_length=64)
    image: str = Field(max_length=64)
    workers: int = Field(1, ge=0, le=WORKERS_AT_MOST)
    cores: int = Field(1, ge=1, le=1024, description="Of each worker.")
    memory: int = Field(2 * 2**30, ge=256 * 2**20, le=2**42, description="Bytes, of each worker.")
    name: str | None = Field(None, pattern=CLUSTER_NAME)


class Scale(Body):
    """How many workers there should be."""

    workers: int = Field(ge=0, le=WORKERS_AT_MOST)


class SessionKeys(Body):
    """The public halves of keys that a session made for one cluster."""

    ssh_public_key: str = Field(max_length=4096, description="One line, ssh-ed25519.")
    tls_csr: str = Field(max_length=8192, description="PKCS #10, PEM, a key on P-256.")


class EventView(BaseModel):
    """One change of a cluster."""

    at: float
    state: str
    sentence: str


class ClusterView(BaseModel):
    """A Dask cluster as its owner sees it; times are Unix times."""

    id: str
    name: str
    owner: str
    site: str
    image: str
    state: Literal["requested", "queued", "starting", "running", "closing", "closed", "failed", "lost"]
    reason: str
    workers_wanted: int
    workers_running: int
    cores: int
    memory: int
    created_at: float
    expires_at: float
    dashboard: str
    events: list[EventView]


class SiteView(BaseModel):
    """A site that is open to the person who asks; no numbers when the pool does not answer."""

    name: str
    title: str
    cache: str | None
    shared: bool = Field(description="Jobs of one person can read those of another there.")
    cores: int | None
    cores_free: int | None


class ForwarderView(BaseModel):
    """Where the forwarder is and its host key, as one line of OpenSSH's form."""

    host: str
    port: int
    host_key: str


class Credentials(BaseModel):
    """What a session needs to reach one cluster; nothing in it is secret."""

    forwarder: ForwarderView
    ssh_certificate: str
    tls_certificate: str
    tls_ca: str
    expires_at: int


async def person(request: Request) -> Person:
    """Whoever asks, by hub token."""
    parts: Parts = request.app.state.parts
    return await parts.login.by_header(request)


def parts_of(request: Request) -> Parts:
    """The controller."""
    parts: Parts = request.app.state.parts
    return parts


Caller = Annotated[Person, Depends(person)]
Controller = Annotated[Parts, Depends(parts_of)]

router = APIRouter(prefix="/api")


def owned(cluster_id: str, caller: Caller, parts: Controller) -> Cluster:
    """The caller's own cluster of that id."""
    return parts.own(cluster_id, caller.name)


Owned = Annotated[Cluster, Depends(owned)]
After = Annotated[float | None, Query(description="Time of the newest event that you have seen.")]


def view(cluster: Cluster, parts: Parts) -> ClusterView:
    """A row as its owner sees it."""
    return ClusterView(
        id=cluster.id,
        name=cluster.name,
        owner=cluster.owner,
        site=cluster.site,
        image=cluster.image,
        state=State(cluster.state).value,
        reason=cluster.reason,
        workers_wanted=cluster.workers_wanted,
        workers_running=cluster.workers_running,
        cores=cluster.cores,
        memory=cluster.memory,
        created_at=cluster.created_at,
        expires_at=cluster.expires_at,
        dashboard=parts.dashboard_url(cluster.id),
        events=[EventView(at=one.at, state=one.state, sentence=one.sentence) for one in cluster.events],
    )


@router.get("/sites")
async def list_sites(caller: Caller, parts: Controller) -> list[SiteView]:
    """Sites that are open to you, with what is free now."""
    rights, policy = await parts.rights(caller.name)
    slots = await _slots({policy.sites[name].pool for name in rights.sites}, parts)
    return [
        SiteView(
            name=name,
            title=policy.sites[name].title,
            cache=policy.caches[cache].url if (cache := policy.sites[name].cache) else None,
            shared=policy.sites[name].shared,
            cores=slots[name].cores if name in slots else None,
            cores_free=slots[name].cores_free if name in slots else None,
        )
        for name in rights.sites
    ]


async def _slots(pools: set[str], parts: Parts) -> dict[str, SiteSlots]:
    found: dict[str, SiteSlots] = {}
    for slots in await asyncio.gather(*(_slots_of(pool, parts) for pool in pools)):
        found.update(slots)
    return found


async def _slots_of(pool: str, parts: Parts) -> Mapping[str, SiteSlots]:
    """None of a pool that does not answer soon; the list of sites waits for nobody."""
    try:
        async with asyncio.timeout(SLOTS_SECONDS):
            return await parts.pool.slots(pool)
    except (AFError, TimeoutError) as error:
        log.warning("slots of pool %s: %s", pool, str(error) or "no answer in time")
        return {}


@router.get("/clusters")
async def list_clusters(caller: Caller, parts: Controller) -> list[ClusterView]:
    """Your Dask clusters, the newest first."""
    return [view(cluster, parts) for cluster in parts.store.of_owner(caller.name)]


@router.post("/clusters", status_code=201)
async def create_cluster(asked: NewCluster, caller: Caller, parts: Controller) -> ClusterView:
    """Ask for a Dask cluster."""
    rights, policy = await parts.rights(caller.name)
    check_choice(rights, Choice(asked.site, asked.image, asked.workers, asked.cores, asked.memory), policy)
    if rights.condor is None or rights.limits is None:
        raise Refused(no_clusters(policy))
    check_count(rights, sum(not State(one.state).over for one in parts.store.of_owner(caller.name)), policy)
    now = parts.clock()
    cluster_id = new_cluster_id()
    cluster = Cluster(
        id=cluster_id,
        owner=caller.name,
        name=asked.name or f"{asked.site}-{cluster_id[:4]}",
        site=asked.site,
        pool=policy.sites[asked.site].pool,
        image=asked.image,
        account=rights.condor.account,
        accounting_group=rights.condor.accounting_group,
        workers_wanted=asked.workers,
        cores=asked.cores,
        memory=asked.memory,
        created_at=now,
        expires_at=now + rights.limits.lifetime,
    )
    parts.store.add(cluster)
    log.info("cluster %s: asked for by %s at %s", cluster_id, caller.name, asked.site)
    parts.reconciler.hasten(cluster_id)
    return view(parts.own(cluster_id, caller.name), parts)


@router.get("/clusters/{cluster_id}")
async def get_cluster(cluster: Owned, caller: Caller, parts: Controller, after: After = None) -> ClusterView:
    """One of your Dask clusters; with ``after`` not before it has a newer event, if there can be one, but in ten seconds at the latest."""
    if after is not None:
        # Read again, with nothing between this and the wait: what happened since the row was looked up is told to nobody.
        cluster = parts.own(cluster.id, caller.name)
        if cluster.events[-1].at <= after and not State(cluster.state).over:
            await parts.store.news.wait(cluster.id, NEWS_SECONDS)
            cluster = parts.own(cluster.id, caller.name)
    return view(cluster, parts)


@router.patch("/clusters/{cluster_id}")
async def scale_cluster(cluster: Owned, asked: Scale, caller: Caller, parts: Controller) -> ClusterView:
    """Change the number of workers."""
    _check_alive(cluster)
    if asked.workers > cluster.workers_wanted:
        rights, policy = await parts.rights(caller.name)
        check_size(rights, asked.workers, cluster.cores, cluster.memory, policy)
    parts.store.scale(cluster.id, asked.workers, parts.clock())
    parts.reconciler.wake(cluster.id)
    return view(parts.own(cluster.id, caller.name), parts)


@router.delete("/clusters/{cluster_id}", status_code=202)
async def close_cluster(cluster: Owned, caller: Caller, parts: Controller) -> ClusterView:
    """Close it; may be repeated."""
    close(cluster, parts)
    return view(parts.own(cluster.id, caller.name), parts)


def close(cluster: Cluster, parts: Parts) -> None:
    """What closing does, from API and page."""
    parts.store.ask_to_close(cluster.id, parts.clock(), "you closed it")
    log.info("cluster %s: closed by %s", cluster.id, cluster.owner)
    parts.reconciler.wake(cluster.id)


@router.get("/clusters/{cluster_id}/logs", response_class=PlainTextResponse)
async def cluster_logs(cluster: Owned, parts: Controller) -> str:
    """The ends of the logs of job agent, scheduler and first worker."""
    if State(cluster.state).over:
        raise Problem(
            409, f"The Dask cluster is {cluster.state}, and its logs went with its job. {cluster.reason}".strip()
        )
    try:
        texts = [f"==> {part} <==\n{await parts.agents.log(cluster.id, part)}\n" for part in LOG_PARTS]
    except Unavailable as error:
        why = cluster.reason or str(error)
        raise Problem(503, f"No logs now: the Dask cluster is {cluster.state} ({why}).") from None
    return "\n".join(texts)


@router.post("/clusters/{cluster_id}/credentials")
async def certify_session(cluster: Owned, keys: SessionKeys, parts: Controller) -> Credentials:
    """Certificates for your own keys, with which you reach this Dask cluster and no other."""
    _check_alive(cluster)
    own = ClusterKeys(parts.state, cluster.id)
    own.make(parts.user_ca, cluster.expires_at)
    found = own.certify_session(parts.user_ca, keys.ssh_public_key, keys.tls_csr, cluster.expires_at)
    forwarder = parts.forwarder
    log.info("cluster %s: certificates for a session of %s", cluster.id, cluster.owner)
    return Credentials(
        forwarder=ForwarderView(host=forwarder.host, port=forwarder.port, host_key=forwarder.host_key),
        ssh_certificate=found.ssh_certificate,
        tls_certificate=found.tls_certificate,
        tls_ca=found.tls_ca,
        expires_at=found.expires_at,
    )


def _check_alive(cluster: Cluster) -> None:
    state = State(cluster.state)
    if state.over or state is State.CLOSING:
        raise Problem(409, f"The Dask cluster is {state}: {cluster.reason or 'it ended'}.")
