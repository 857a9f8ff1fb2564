"""Where jobs and Dask clusters run, and what they read through: ``pools``, ``sites`` and ``caches`` of ``facility.yaml``."""

from pydantic import Field

from af_hub.policy.forms import CACHE, Name, Part


class Pool(Part):
    """An HTCondor pool: where jobs go."""

    collector: str = Field(description="Host and port of the central manager, as in `cm.example.org:9618`.")
    schedd: str = Field(description="The access point's name in the collector.")
    audience: str = Field(description="What the access point wants as `aud` in a token.")
    ca_file: str = Field(description="The authority behind the access point's TLS certificate.")
    job_tokens: bool = Field(
        False,
        description="The access point keeps tokens for jobs (`condor_credd`, as hub_config/condor has it): plain batch jobs then get "
        "their owner's token for storage, and fresh ones while they run.",
    )


class Site(Part):
    """Where Dask clusters can run; `SiteName` of its worker nodes is its key here."""

    title: str = Field(description="What people read.")
    pool: Name = Field(description="A name from `pools`.")
    cache: Name | None = Field(None, description="The cache near it, a name from `caches`.")
    shared: bool = Field(
        True,
        description="Jobs of one person can read those of another there, and people are told so; "
        "write `false` when `af-hub check site` says that they cannot.",
    )


class Cache(Part):
    """An XRootD cache."""

    url: str = Field(pattern=CACHE, description="As in `root://cache.example.org:1094`.")
    ca_file: str = Field(
        "",
        description="The authority behind its TLS certificate and those of its origins; sessions then trust this one and no other. "
        "What XRootD's clients find by themselves when empty.",
    )
