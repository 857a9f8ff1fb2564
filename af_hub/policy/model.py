"""The shape of ``facility.yaml``, as a whole; its parts stand in issuers, rules, sessions and sites.

Everything is denied that no rule gives. An unknown key is an error, so that a mistyped one never denies or allows in silence.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field

from af_hub.policy.forms import HELP, AccountingGroupName, Instant, Name, Part, RegistryHost, VolumeName
from af_hub.policy.index import Index, make_index
from af_hub.policy.issuers import Agreement, Issuer, Tokens, merge_tokens
from af_hub.policy.rules import AccountingGroup, Override, Rule
from af_hub.policy.sessions import CVMFS, Image, Registry, Sessions, Size, Volume
from af_hub.policy.sites import Cache, Pool, Site

OWN_ISSUER = "hub/api/af/issuer"
"""Of tokens that the hub signs itself; below the hub's address."""


class Facility(Part):
    """What people are told about the place."""

    name: str = Field(description="What the place is called.")
    contact: str = Field(description="Whom to ask; a mail address or a web page.")
    hub: str = Field(
        "",
        pattern=HELP,
        description="Where the hub is, with a slash at the end, as people type it. Needed where tokens are signed `by: hub`: their issuer is "
        "`hub/api/af/issuer` below it.",
    )
    help: str = Field(
        "",
        pattern=HELP,
        description="Where the pages about refusals are, with a slash at the end; each refusal links to its own below it. The hub serves them "
        "at `hub/af/refused/`. No links when empty.",
    )


class Announcement(Part):
    """What everybody reads at the head of the hub's pages for some time."""

    text: str = Field(min_length=1, description="One or two sentences.")
    until: Instant = Field(description="When it goes, with its zone, as in `2026-12-05T18:00:00+01:00`.")
    level: Literal["info", "warning"] = Field("info", description="How loud.")


class Policy(Part):
    """The whole file."""

    version: int = Field(1, ge=1, le=1, description="Of this form of the file.")
    facility: Facility = Field(description="What people are told about the place.")
    issuers: list[Issuer] = Field(min_length=1, description="Whose tokens count.")
    tokens: Tokens = Field(
        default_factory=lambda: Tokens.model_validate({}),
        description="Which tokens the hub gets for whom; an issuer may say otherwise.",
    )
    agreements: dict[Name, Agreement] = Field({}, description="What must be signed, by the issuer's name.")
    rules: list[Rule] = Field(description="Who gets what, in order.")
    overrides: list[Override] = Field([], description="Rules for some time, put before the others.")
    announcements: list[Announcement] = Field([], description="What everybody reads for some time.")
    accounting_groups: dict[AccountingGroupName, AccountingGroup] = Field(
        {}, description="Quota and priority of those whom `condor.accounting_group` names."
    )
    images: dict[Name, Image] = Field(description="What sessions and jobs run in.")
    sizes: dict[Name, Size] = Field(description="How much a session gets.")
    registries: dict[RegistryHost, Registry] = Field(
        {}, description="How registries of images are asked, by the host in the names of their images."
    )
    sessions: Sessions = Field(
        default_factory=lambda: Sessions.model_validate({}), description="What holds for the images of all pods."
    )
    pools: dict[Name, Pool] = Field({}, description="HTCondor pools.")
    sites: dict[Name, Site] = Field({}, description="Where Dask clusters can run.")
    caches: dict[Name, Cache] = Field({}, description="XRootD caches.")
    volumes: dict[VolumeName, Volume] = Field({}, description="Storage of sessions beside their homes.")
    cvmfs: CVMFS = Field(default_factory=lambda: CVMFS.model_validate({}), description="Software from CVMFS.")

    @cached_property
    def index(self) -> Index:
        """Which rules speak of whom; made when first asked for."""
        return make_index(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, which would copy the index of other rules too."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("index", None)
        return copied

    @property
    def own_issuer(self) -> str:
        """The ``iss`` of tokens that the hub signs itself; empty when it does not say where the hub is."""
        return f"{self.facility.hub}{OWN_ISSUER}" if self.facility.hub else ""

    def issuer(self, issuer: str) -> Issuer | None:
        """The issuer with this ``iss``; None for one that the facility does not know."""
        return next((one for one in self.issuers if one.issuer == issuer), None)

    def tokens_of(self, issuer: str) -> Tokens:
        """The purposes of somebody of this issuer: the facility's, with what the issuer says in their place, key by key."""
        found = self.issuer(issuer)
        return merge_tokens(self.tokens, found.tokens) if found and found.tokens else self.tokens

    def announced(self, now: float) -> list[Announcement]:
        """What everybody shall read at this instant (Unix seconds)."""
        return [one for one in self.announcements if now < one.until.timestamp()]
