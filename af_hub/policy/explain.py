"""What the policy gives a person and which rule gave it, in words: ``af-hub explain``."""

from collections.abc import Iterator

from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights
from af_hub.policy.model import Policy
from af_hub.policy.units import describe_bytes, describe_seconds

NOT_IN_FORCE = "So this file is not in force anywhere: hub, controller and access point keep what they read before, until it is mended."
"""What to say after the mistakes of a file."""


def explain(policy: Policy, claims: Claims, rights: Rights, source: str) -> str:
    """Several lines for people; ``source`` says where the claims come from."""
    return "\n".join(_lines(policy, claims, rights, source))


def _lines(policy: Policy, claims: Claims, rights: Rights, source: str) -> Iterator[str]:
    yield f"{claims.username} ({claims.name or 'no name'}), groups {', '.join(claims.groups) or 'none'}"
    yield f"  from {source}"
    if not rights.login:
        yield f"may not log in: {rights.refusal}"
        return
    yield _line("may log in", "", rights.because["login"])
    if rights.admin:
        yield _line("is an admin", "", rights.because["admin"])
    for kind, names in (("image", rights.images), ("size", rights.sizes), ("site", rights.sites)):
        if not names:
            yield f"{kind}s: none"
        for name in names:
            yield _line(kind, f"{name} ({_title(policy, kind, name)})", rights.because[f"{kind} {name}"])
    if rights.condor:
        yield _line("HTCondor account", rights.condor.account, rights.because["condor"])
        yield _line("accounting group", rights.condor.accounting_group, rights.because["condor"])
    else:
        yield "HTCondor account: none, so no Dask clusters at sites"
    if rights.limits:
        limits = rights.limits
        yield _line(
            "limits",
            f"{_count(limits.clusters, 'cluster')}, {_count(limits.cores, 'core')}, {describe_bytes(limits.memory)} memory, "
            f"{describe_seconds(limits.lifetime)} each cluster",
            rights.because["limits"],
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _line(what: str, value: str, rules: tuple[str, ...]) -> str:
    return f"{what}{': ' if value else ''}{value}  [rule: {', '.join(rules)}]"


def _title(policy: Policy, kind: str, name: str) -> str:
    if kind == "image":
        return policy.images[name].title
    return policy.sizes[name].title if kind == "size" else policy.sites[name].title
