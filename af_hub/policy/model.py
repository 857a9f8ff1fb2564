"""The shape of ``facility.yaml``.

Everything is denied that no rule gives. An unknown key is an error, so that a mistyped one never denies or allows in silence.
"""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from af_hub.policy.units import read_bytes, read_seconds

NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$"
GROUP = r"^/[^\s/]+(/[^\s/]+)*$"
ISSUER = r"^https://[^\s/]+"
CACHE = r"^(roots?://[^\s/]+|\$\{.*)"
PATTERNS = {
    NAME: "a name: a letter, then letters, digits, `_`, `.`, `-`, 63 at most; rename it",
    GROUP: "the path of a group; write it with a slash in front and none behind, as in `/cms/itcms`",
    ISSUER: "the address of an IAM; write it as its tokens do, as in `https://iam.example.org/`",
    CACHE: "the address of a cache; write it as in `root://cache.example.org:1094`",
}
"""What a text must look like, and how a person is told."""

Bytes = Annotated[int, BeforeValidator(read_bytes), Field(gt=0)]
Seconds = Annotated[int, BeforeValidator(read_seconds), Field(gt=0)]
Name = Annotated[str, Field(pattern=NAME)]
Group = Annotated[str, Field(pattern=GROUP)]

ACCOUNT_TEMPLATE = re.compile(r"(?:[a-z][a-z0-9_-]*)?(?:\{username\})?[a-z0-9_-]*\Z")
ACCOUNTING_GROUP = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*\Z")


class Part(BaseModel):
    """What all parts of the file have in common: no unknown keys, no changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Facility(Part):
    """What people are told about the place."""

    name: str = Field(description="What the place is called.")
    contact: str = Field(description="Whom to ask; a mail address or a web page.")


class Issuer(Part):
    """An INDIGO IAM, or another OpenID provider that speaks the WLCG or the IAM profile."""

    issuer: str = Field(description="Exactly the `iss` of its tokens, with its slash.", pattern=ISSUER)
    discovery: str = Field(
        "",
        description="Where its configuration is read; `.well-known/openid-configuration` below the issuer when empty.",
    )

    @property
    def discovery_url(self) -> str:
        """Where its configuration is read (OpenID Connect Discovery 1.0, section 4)."""
        return self.discovery or self.issuer.rstrip("/") + "/.well-known/openid-configuration"


class Condor(Part):
    """Who somebody is for HTCondor."""

    account: str = Field(description="The HTCondor account; `{username}` becomes the user's name.")
    accounting_group: str = Field(description="The group that is charged, as HTCondor writes it: `cms.itcms`.")
    shared_account: bool = Field(
        False, description="Several people may have this account, and so change and remove each other's jobs."
    )

    @field_validator("account")
    @classmethod
    def _account_template(cls, found: str) -> str:
        if not ACCOUNT_TEMPLATE.match(found) or not found:
            raise ValueError(
                f"found {found!r:.80}, wanted small letters, digits, `_`, `-` and at most one `{{username}}`; write it as in `cms-{{username}}`"
            )
        return found

    @field_validator("accounting_group")
    @classmethod
    def _accounting_group(cls, found: str) -> str:
        if not ACCOUNTING_GROUP.match(found):
            raise ValueError(
                f"found {found!r:.80}, wanted small words with dots between; write it as HTCondor does, as in `cms.itcms`"
            )
        return found

    @model_validator(mode="after")
    def _one_person_one_account(self) -> Self:
        if "{username}" not in self.account and not self.shared_account:
            raise ValueError(
                f"found the account {self.account!r:.80}, the same for everybody, wanted one for each; write `{{username}}` into it, "
                "or `shared_account: true` beside it if they may change each other's jobs"
            )
        return self


class Limits(Part):
    """For Dask clusters; what several of one person take together is limited by their number only, in this version."""

    clusters: int = Field(gt=0, description="How many Dask clusters somebody may have at a time.")
    cores: int = Field(gt=0, description="Cores of all workers of one Dask cluster.")
    memory: Bytes = Field(description="Memory of all workers of one Dask cluster, as in `32 GiB`.")
    lifetime: Seconds = Field(description="The longest that one Dask cluster may live.")


class Rule(Part):
    """What members of any of the groups get. Lists of all rules that match add up; `condor` and `limits` come from the first that has them."""

    name: str = Field(description="What explanations call this rule.")
    groups: list[Group] = Field(
        min_length=1, description="Membership of one is enough. A group is matched whole: `/cms` is not `/cms/itcms`."
    )
    login: bool = Field(False, description="May log in. Without a rule that says so, the others give nothing.")
    admin: bool = Field(False, description="Is an administrator of the hub, by role.")
    images: list[Name] = Field([], description="Names from `images`.")
    sizes: list[Name] = Field([], description="Names from `sizes`.")
    sites: list[Name] = Field([], description="Names from `sites`, where Dask clusters may run.")
    condor: Condor | None = Field(None, description="The HTCondor account; without one there are no Dask clusters.")
    limits: Limits | None = Field(None, description="How much; without limits there are no Dask clusters.")


class Image(Part):
    """What a session, a scheduler and workers run in."""

    title: str = Field(description="What people read on the spawn page.")
    description: str = Field("", description="A line more about it.")
    container: str = Field("", description="The container image, where sessions are pods or sites run containers.")
    environment: Path | None = Field(
        None, description="The folder of a Python environment, where sessions and jobs are plain processes."
    )


class Size(Part):
    """How much a session gets."""

    title: str = Field(description="What people read on the spawn page.")
    cpus: float = Field(gt=0, allow_inf_nan=False, description="Cores.")
    memory: Bytes = Field(description="As in `2 GiB`.")


class Pool(Part):
    """An HTCondor pool: where jobs go."""

    collector: str = Field(description="Host and port of the central manager, as in `cm.example.org:9618`.")
    schedd: str = Field(description="The access point's name in the collector.")
    audience: str = Field(description="What the access point wants as `aud` in a token.")
    ca_file: str = Field(description="The authority behind the access point's TLS certificate.")


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


class Policy(Part):
    """The whole file."""

    version: int = Field(1, ge=1, le=1, description="Of this form of the file.")
    facility: Facility = Field(description="What people are told about the place.")
    issuers: list[Issuer] = Field(min_length=1, description="Whose tokens count.")
    rules: list[Rule] = Field(description="Who gets what, in order.")
    images: dict[Name, Image] = Field(description="What sessions and jobs run in.")
    sizes: dict[Name, Size] = Field(description="How much a session gets.")
    pools: dict[Name, Pool] = Field({}, description="HTCondor pools.")
    sites: dict[Name, Site] = Field({}, description="Where Dask clusters can run.")
    caches: dict[Name, Cache] = Field({}, description="XRootD caches.")
