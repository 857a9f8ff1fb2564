"""Whose tokens count, and which tokens the hub gets for their people: ``issuers``, ``tokens`` and ``agreements`` of ``facility.yaml``."""

from typing import Literal

from pydantic import Field, field_validator

from af_hub.policy.forms import ISSUER, PAGE, PREFIX, DataPath, Name, Part, Scope, Seconds

Way = Literal["refresh", "exchange", "hub"]

MOST_SECONDS = 86400
"""That a token may live which the hub signs (WLCG token profile 1.0 wants less)."""


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


def merge_tokens(common: Tokens, own: Tokens) -> Tokens:
    """``own`` where it says something, ``common`` for the rest."""
    changed: dict[str, Part] = {}
    for purpose in own.model_fields_set:
        base, other = getattr(common, purpose), getattr(own, purpose)
        if other is not None:
            said = {key: getattr(other, key) for key in other.model_fields_set}
            changed[purpose] = base.model_copy(update=said) if base else other
    return common.model_copy(update=changed)
