"""The shape of ``facility.yaml``.

Everything is denied that no rule gives. An unknown key is an error, so that a mistyped one never denies or allows in silence.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from af_hub.policy.index import Index, make_index
from af_hub.policy.units import (
    BYTES_SCHEMA,
    INSTANT_SCHEMA,
    QUOTA_SCHEMA,
    SECONDS_SCHEMA,
    read_bytes,
    read_instant,
    read_quota,
    read_seconds,
)

NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$"
GROUP = r"^/[^\s/]+(/[^\s/]+)*$"
PREFIX = r"^(/[^\s/]+(/[^\s/]+)*)?$"
ISSUER = r"^(https://[^\s/]+|\$\{.*)"
CACHE = r"^(roots?://[^\s/]+|\$\{.*)"
SCOPE = r"^[\x21\x23-\x5b\x5d-\x7e]+$"
USER = r"^[a-z][a-z0-9_.-]{0,62}$"
PAGE = r"^(https?://[^\s/]+|\$\{.*)"
HELP = r"^(https?://[^\s/]+.*/|\$\{.*)?$"
FOLDER = r"^(/[A-Za-z0-9_~+@:-][A-Za-z0-9_.~+@:-]*)+$"
# No hyphen: HTCondor's settings are called after the group, and a negotiator that reads one in a setting's name ends.
CHARGED = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$"
PATTERNS = {
    NAME: "a name: a letter, then letters, digits, `_`, `.`, `-`, 63 at most; rename it",
    GROUP: "the path of a group; write it with a slash in front and none behind, as in `/cms/itcms`",
    PREFIX: "the path of a group, or nothing; write it with a slash in front and none behind, as in `/cms`",
    ISSUER: "the address of an IAM, with https; write it as its tokens do, as in `https://iam.example.org/`",
    CACHE: "the address of a cache; write it as in `root://cache.example.org:1094`",
    SCOPE: "one scope (RFC 6749, section 3.3); write each as an entry of its own",
    USER: "a user name of the hub: small letters, digits, `_`, `.`, `-`, a letter first; write it as in `ada`",
    HELP: "the address of a web page with a slash behind, or nothing; write it as in `https://hub.example.org/`",
    CHARGED: "small words of letters, digits and `_` with dots between (HTCondor's settings have no hyphens); write it as in `cms.itcms`",
    FOLDER: "the path of a folder, with a slash in front and none behind, and no part that begins with a dot; write it as in `/protected`",
    PAGE: "the address of a web page; write it as in `https://iam.example.org/aup`",
}
"""What a text must look like, and how a person is told."""

Bytes = Annotated[int, BeforeValidator(read_bytes), Field(gt=0), WithJsonSchema(BYTES_SCHEMA)]
Seconds = Annotated[int, BeforeValidator(read_seconds), Field(gt=0), WithJsonSchema(SECONDS_SCHEMA)]
Instant = Annotated[datetime, BeforeValidator(read_instant), WithJsonSchema(INSTANT_SCHEMA)]
Quota = Annotated[int | float, BeforeValidator(read_quota), WithJsonSchema(QUOTA_SCHEMA)]
Name = Annotated[str, Field(pattern=NAME)]
Group = Annotated[str, Field(pattern=GROUP)]
Scope = Annotated[str, Field(pattern=SCOPE)]
User = Annotated[str, Field(pattern=USER)]
AccountingGroupName = Annotated[str, Field(pattern=CHARGED)]
DataPath = Annotated[str, Field(pattern=FOLDER)]
Way = Literal["refresh", "exchange", "hub"]

OWN_ISSUER = "hub/api/af/issuer"
"""Of tokens that the hub signs itself; below the hub's address."""

MOST_SECONDS = 86400
"""That a token may live which the hub signs (WLCG token profile 1.0 wants less)."""

ACCOUNT_TEMPLATE = re.compile(r"(?:[a-z][a-z0-9_-]*)?(?:\{username\})?[a-z0-9_-]*\Z")
ACCOUNTING_GROUP = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*\Z")


class Part(BaseModel):
    """What all parts of the file have in common: no unknown keys, no changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class SessionToken(Part):
    """The access tokens of sessions, got by refresh."""

    scopes: list[Scope] = Field(
        ["openid", "profile", "email", "wlcg.groups", "storage.read:/"],
        description="`openid` must be among them: the hub asks the IAM with these tokens who somebody is now. "
        "Whatever such a token may do, every program in the session may do.",
    )

    @field_validator("scopes")
    @classmethod
    def _with_openid(cls, found: list[str]) -> list[str]:
        if "openid" not in found:
            raise ValueError(
                "found scopes without `openid`, wanted it among them, since the hub asks the IAM with these tokens "
                "who somebody is; add it"
            )
        return found


class CondorToken(Part):
    """The short tokens with which the controller acts at the pool for somebody; their audience is the pool's."""

    by: Way = Field(
        "refresh",
        description="How the hub gets one: a refresh with fewer scopes, a token exchange (RFC 8693), or signed by the hub itself.",
    )
    scopes: list[Scope] = Field(
        ["compute.read", "compute.modify", "compute.create", "compute.cancel", "wlcg.groups"],
        min_length=1,
        description="What they allow; a pool may want `condor:/READ` and `condor:/WRITE` instead.",
    )
    lifetime: Seconds = Field(
        600, le=MOST_SECONDS, description="How long one is good, where the hub has a say: `by: hub`; a day at most."
    )


class StorageToken(Part):
    """What worker nodes and plain batch jobs read data with."""

    by: Way = Field("refresh", description="How the hub gets one, as for `condor`.")
    scopes: list[Scope] = Field(["storage.read:/"], min_length=1, description="What they allow.")
    audience: str = Field("", description="Who shall take them; anybody when empty.")
    lifetime: Seconds = Field(3600, le=MOST_SECONDS, description="As for `condor`.")


class Tokens(Part):
    """For each purpose: how the hub gets a token, and what it may do."""

    session: SessionToken = Field(
        default_factory=lambda: SessionToken.model_validate({}), description="What sessions get."
    )
    condor: CondorToken = Field(
        default_factory=lambda: CondorToken.model_validate({}), description="What the controller uses at the pool."
    )
    storage: StorageToken | None = Field(
        None, description="What worker nodes and batch jobs get; without it, the session's token."
    )


class Issuer(Part):
    """An INDIGO IAM, or another OpenID provider that speaks the WLCG or the IAM profile."""

    name: Name = Field("iam", description="Short, for addresses and metrics; with several issuers each has its own.")
    title: str = Field("", description="What people read on the login page; the name when empty.")
    issuer: str = Field(description="Exactly the `iss` of its tokens, with its slash.", pattern=ISSUER)
    discovery: str = Field(
        "",
        description="Where its configuration is read; `.well-known/openid-configuration` below the issuer when empty.",
    )
    client_id: str = Field("", description="The hub's client there; `c.IAMAuthenticator.client_id` when empty.")
    client_secret_file: str = Field(
        "",
        description="File with that client's secret, mode 0600; `c.IAMAuthenticator.client_secret_file` when empty.",
    )
    groups_prefix: str = Field(
        "",
        pattern=PREFIX,
        description="Put before each of its groups, as in `/cms`, so that groups of two issuers never mean the same by chance.",
    )
    data_paths: list[DataPath] = Field(
        [],
        description="Folders on the facility's own XRootD servers that its tokens open, as far as their `storage.read` goes; as in `/protected`.",
    )
    tokens: Tokens | None = Field(
        None, description="What is other than in the facility's `tokens` for people of this issuer, key by key."
    )

    @property
    def discovery_url(self) -> str:
        """Where its configuration is read (OpenID Connect Discovery 1.0, section 4)."""
        return self.discovery or self.issuer.rstrip("/") + "/.well-known/openid-configuration"

    @property
    def label(self) -> str:
        """What people read."""
        return self.title or self.name


class Agreement(Part):
    """What people of an issuer must have signed there (its AUP)."""

    url: str = Field(pattern=PAGE, description="Where it is signed; refusals name it.")
    title: str = Field("the acceptable use policy", description="What refusals call it.")


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


class Override(Rule):
    """A rule for some time, put before all others: in force while `from` <= now < `until`."""

    groups: list[Group] = Field([], description="As in a rule. It needs `groups` or `people`, or both.")
    people: list[User] = Field([], description="User names of the hub; somebody named here needs none of the groups.")
    begins: Instant | None = Field(
        None,
        alias="from",
        description="When it comes into force, as in `2026-12-01T08:00:00+01:00`; at once without it.",
    )
    until: Instant = Field(description="When it ends, with its zone, as in `2026-12-05T18:00:00+01:00`.")
    reason: str = Field(min_length=1, description="Why; stands in the log when it comes into force and when it ends.")

    @model_validator(mode="after")
    def _for_somebody_and_some_time(self) -> Self:
        if not self.groups and not self.people:
            raise ValueError(
                "found neither groups nor people, wanted one of them; add `groups: [...]` or `people: [...]`"
            )
        if self.begins and self.begins >= self.until:
            raise ValueError(
                f"found a `from` ({self.begins.isoformat()}) that is not before `until` ({self.until.isoformat()}); "
                "write the earlier of them first"
            )
        return self

    def in_force(self, now: float) -> bool:
        """Whether it counts at this instant (Unix seconds)."""
        return (self.begins is None or self.begins.timestamp() <= now) and now < self.until.timestamp()


class Announcement(Part):
    """What everybody reads at the head of the hub's pages for some time."""

    text: str = Field(min_length=1, description="One or two sentences.")
    until: Instant = Field(description="When it goes, with its zone, as in `2026-12-05T18:00:00+01:00`.")
    level: Literal["info", "warning"] = Field("info", description="How loud.")


class AccountingGroup(Part):
    """What HTCondor's negotiator gives to those who are charged to this group."""

    quota: Quota | None = Field(
        None,
        description="A number of cores (HTCondor's weighted slots), as in `40`, or a share, as in `0.4`, of what those with a number leave of the "
        "pool, or of what the group above it has; without it, what the others leave.",
    )
    surplus: bool = Field(False, description="May take more than its quota while nobody else wants it.")
    priority_factor: float | None = Field(
        None,
        ge=1,
        allow_inf_nan=False,
        description="The larger, the later its jobs start; HTCondor's own (1000) without it. Counts for people from their first job on.",
    )


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
    pools: dict[Name, Pool] = Field({}, description="HTCondor pools.")
    sites: dict[Name, Site] = Field({}, description="Where Dask clusters can run.")
    caches: dict[Name, Cache] = Field({}, description="XRootD caches.")

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


def merge_tokens(common: Tokens, own: Tokens) -> Tokens:
    """``own`` where it says something, ``common`` for the rest."""
    changed: dict[str, Part] = {}
    for purpose in own.model_fields_set:
        base, other = getattr(common, purpose), getattr(own, purpose)
        if other is not None:
            said = {key: getattr(other, key) for key in other.model_fields_set}
            changed[purpose] = base.model_copy(update=said) if base else other
    return common.model_copy(update=changed)
