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
    AfterValidator,
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
from af_hub.registry.patterns import registry_of
from af_hub.registry.reference import REGISTRY

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
LABEL = r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$"
MOUNT = r"^(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$"
HOST_PATH = r"^((/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+|\$\{.*)?$"
CLAIM = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\$\{.*)?$"
STORAGE_CLASS = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"
REPOSITORY = r"^[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+$"
# No hyphen: HTCondor's settings are called after the group, and a negotiator that reads one in a setting's name ends.
CHARGED = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$"
REGISTRY_HOST = rf"^{REGISTRY}$"
ADDRESS = r"^(https?://[^\s/?#@]+/?|\$\{.*)?$"
VERSION = r"^[0-9]+(\.[0-9]+){0,2}$"
_K8S_WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
RESOURCE = rf"^([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_K8S_WORD}$"
NODE_VALUE = rf"^({_K8S_WORD})?$"
PATTERNS = {
    REGISTRY_HOST: "a registry as names of images begin with it: a host in small letters, and a port if need be; write it as in `registry.example.org`",
    ADDRESS: "the address of a registry without a path, or nothing; write it as in `https://registry.example.org`",
    VERSION: 'a version in quotes; write it as in `"4.0"`',
    RESOURCE: "a name as Kubernetes has it; write it as in `nvidia.com/gpu`",
    NODE_VALUE: "the value of a label as Kubernetes has it: letters, digits, `_`, `.`, `-`, 63 at most; put numbers in quotes",
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
    LABEL: "a name of small letters, digits and `-`, a letter first, 50 at most (pods have no other); rename it",
    MOUNT: "the path of a folder: letters, digits, `_`, `.`, `-`, with a slash in front and none behind, and no part that begins with a dot; "
    "write it as in `/shared/cms`",
    HOST_PATH: "the path of a folder of the nodes, or nothing; write it as in `/cvmfs`",
    CLAIM: "the name of a PersistentVolumeClaim, or nothing; write it as in `cvmfs`",
    STORAGE_CLASS: "the name of a StorageClass, or nothing; write it as in `local-path`",
    REPOSITORY: "the whole name of a CVMFS repository; write it as in `cms.cern.ch`",
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
VolumeName = Annotated[str, Field(pattern=LABEL)]
Repository = Annotated[str, Field(pattern=REPOSITORY)]
RegistryHost = Annotated[str, Field(pattern=REGISTRY_HOST)]
Resource = Annotated[str, Field(pattern=RESOURCE)]
NodeValue = Annotated[str, Field(pattern=NODE_VALUE)]
Amount = Annotated[int, Field(gt=0, strict=True)]
Way = Literal["refresh", "exchange", "hub"]


def _of_one_registry(found: str) -> str:
    registry_of(found)
    return found


ImagePattern = Annotated[str, AfterValidator(_of_one_registry)]

OWN_ISSUER = "hub/api/af/issuer"
"""Of tokens that the hub signs itself; below the hub's address."""

MOST_SECONDS = 86400
"""That a token may live which the hub signs (WLCG token profile 1.0 wants less)."""

OWN_FOLDERS = re.compile(r"/(bin|boot|cvmfs|dev|etc|home|lib[0-9]*|proc|root|run|sbin|sys|usr|var)(?=/|\Z)|/opt\Z")
"""Folders that are the session's own or its image's, where a volume would hide something; below `/opt` there is room."""

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
    own_images: list[ImagePattern] = Field(
        [],
        description="Which images people may type beside those, where sessions are pods: regular expressions, each for one registry, as in "
        "`registry\\.example\\.org/cms/.*`, which must match the whole name in full (`registry/path:tag`, `registry/path@sha256:…`).",
    )
    sizes: list[Name] = Field([], description="Names from `sizes`.")
    sites: list[Name] = Field([], description="Names from `sites`, where Dask clusters may run.")
    volumes: list[VolumeName] = Field([], description="Names from `volumes`; where sessions are pods.")
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


class Toleration(Part):
    """A taint of nodes that a pod does not mind, as Kubernetes writes it."""

    key: Resource | None = Field(None, description="The taint's key; every taint, with `operator: Exists`, without it.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="`Exists` where the value does not matter.")
    value: NodeValue = Field("", description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect; every effect without it."
    )

    @model_validator(mode="after")
    def _a_taint(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(
                f"found the value {self.value!r:.80} beside `operator: Exists`, for which none counts; take one out"
            )
        if self.operator == "Equal" and not self.key:
            raise ValueError("found no key, wanted one; add `key: ...`, or `operator: Exists` for every taint")
        return self


class Size(Part):
    """How much a session gets."""

    title: str = Field(description="What people read on the spawn page.")
    cpus: float = Field(gt=0, allow_inf_nan=False, description="Cores.")
    memory: Bytes = Field(description="As in `2 GiB`.")
    resources: dict[Resource, Amount] = Field(
        {}, description="What else a pod gets, by the name that its nodes give it, as in `nvidia.com/gpu: 1`."
    )
    node_selector: dict[Resource, NodeValue] = Field(
        {}, description="Labels that a pod's node must have; with taints on such nodes, `tolerations` too."
    )
    tolerations: list[Toleration] = Field([], description="Taints of nodes that a pod does not mind.")


class Volume(Part):
    """Storage in the session of those whose rules name it, where sessions are pods. It needs `claim` or `scratch`."""

    title: str = Field(description="What people read.")
    path: str = Field(pattern=MOUNT, description="Where it is in the session, as in `/shared/cms`.")
    claim: str = Field(
        "",
        pattern=CLAIM,
        description="A PersistentVolumeClaim in the namespace of the sessions: the same files for all who have it, and they stay.",
    )
    scratch: Bytes | None = Field(
        None, description="This much space, empty at the start of each session and gone at its end, as in `20 GiB`."
    )
    storage_class: str = Field(
        "",
        pattern=STORAGE_CLASS,
        description="Where `scratch` comes from: a volume of this StorageClass for each session; the node's own disk when empty.",
    )
    read_only: bool = Field(False, description="Nobody writes to it from a session; for `claim`.")

    @field_validator("path")
    @classmethod
    def _hides_nothing(cls, found: str) -> str:
        if own := OWN_FOLDERS.match(found):
            raise ValueError(
                f"found {found!r:.80}, wanted a folder of its own, since `{own[0]}` is the session's or its image's; write it as in `/shared/cms`"
            )
        return found

    @model_validator(mode="after")
    def _claim_or_scratch(self) -> Self:
        if bool(self.claim) == bool(self.scratch):
            raise ValueError(
                f"found {'both `claim` and `scratch`' if self.claim else 'neither `claim` nor `scratch`'}, wanted one of them; "
                + ("take one out" if self.claim else "add `claim: NAME` for files that stay, or `scratch: 20 GiB`")
            )
        for key in ("storage_class", "read_only"):
            if getattr(self, key) and bool(self.scratch) is not (key == "storage_class"):
                kind = "scratch" if self.scratch else "claim"
                raise ValueError(f"found `{key}` beside `{kind}`, for which it means nothing; take it out")
        return self


class CVMFS(Part):
    """CernVM-FS, at `/cvmfs` of every session that is a pod, read-only. Where sessions are plain processes, they have what the machine has."""

    claim: str = Field(
        "",
        pattern=CLAIM,
        description="A PersistentVolumeClaim in the namespace of the sessions: of the CSI driver, or of an administrator's volume that is a "
        "path of the nodes.",
    )
    host_path: str = Field(
        "",
        pattern=HOST_PATH,
        description="A folder of the nodes, as in `/cvmfs`, without a claim. Only a namespace whose Pod Security allows `hostPath` takes such "
        "sessions; `restricted` and `baseline` do not.",
    )
    repositories: list[Repository] = Field(
        [], description="Those that people are told about when they do not work, as in `cms.cern.ch`."
    )

    @model_validator(mode="after")
    def _claim_or_path(self) -> Self:
        if self.claim and self.host_path:
            raise ValueError("found both `claim` and `host_path`, wanted one of them; take one out")
        return self


class Registry(Part):
    """How the hub asks a registry about images. Without an entry: at its own name, with https, as anybody."""

    address: str | None = Field(
        None,
        pattern=ADDRESS,
        description="Where it answers, when that is not `https://` and its own name; as in `http://10.0.0.7:5000`. When it is there and "
        "empty, the registry is not asked: its images start unproven.",
    )
    ca_file: str = Field("", description="The authority behind its TLS certificate; the machine's own when empty.")
    credentials_file: str = Field(
        "",
        description="File with `user:password` in one line, mode 0600, for a private registry; nobody's name when empty. Nodes need "
        "credentials of their own to pull.",
    )


class Sessions(Part):
    """What holds for the images of all sessions that are pods."""

    unnumbered_user: Literal["set", "refuse"] = Field(
        "set",
        description="What to do with an image whose user is root, a name, or not said: `set` lets it run as uid 1000, `refuse` does not start it.",
    )
    minimum_jupyterhub: str = Field(
        "4.0",
        pattern=VERSION,
        description="The oldest JupyterHub that an image may have, by its label `org.af-hub.jupyterhub`; an image without that label starts.",
    )
    own_images_per_hour: int = Field(
        30,
        gt=0,
        description="About so many images that are not in the list one person may have registries asked in an hour, and all at once if need "
        "be; further ones are refused with the time to wait. What a registry has said a moment ago is not asked, and does not count.",
    )


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


def merge_tokens(common: Tokens, own: Tokens) -> Tokens:
    """``own`` where it says something, ``common`` for the rest."""
    changed: dict[str, Part] = {}
    for purpose in own.model_fields_set:
        base, other = getattr(common, purpose), getattr(own, purpose)
        if other is not None:
            said = {key: getattr(other, key) for key in other.model_fields_set}
            changed[purpose] = base.model_copy(update=said) if base else other
    return common.model_copy(update=changed)
