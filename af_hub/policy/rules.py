"""Who gets what: ``rules``, ``overrides`` and ``accounting_groups`` of ``facility.yaml``; the names in them are those of the other modules' parts."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from af_hub.policy.forms import Bytes, Group, ImagePattern, Instant, Name, Part, Quota, Seconds, User, VolumeName

ACCOUNT_TEMPLATE = re.compile(r"(?:[a-z][a-z0-9_-]*)?(?:\{username\})?[a-z0-9_-]*\Z")
ACCOUNTING_GROUP = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*\Z")


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
