"""Token exchange (RFC 8693) as INDIGO IAM permits it; pure.

A client shows somebody's access token and asks for another in that person's name. IAM wants a policy that permits it, from the client
whose token is shown to the client that asks; limits scopes to those of the client whose token is shown (to those of the token itself
where the client's upscoping is off) and of the client that asks; and refuses ``offline_access`` when both are the same. It knows
impersonation only, no delegation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from af_hub.testing.iam_oauth import DemoClient, Fault, check_scopes

TOKEN_TYPES = {
    "",
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:access_token",
}


@dataclass(frozen=True)
class ExchangePolicy:
    """What an admin of the IAM permits or denies; the most specific one counts, and a denial among equals.

    Parameters
    ----------
    origin, actor
        Client id of the client whose token is shown, and of the one that asks; any when empty.
    scopes
        That may be asked for; any when None.
    """

    origin: str = ""
    actor: str = ""
    permit: bool = True
    scopes: tuple[str, ...] | None = None

    def applies(self, origin: str, actor: str) -> bool:
        """Whether it is about these two clients."""
        return self.origin in ("", origin) and self.actor in ("", actor)

    @property
    def rank(self) -> tuple[int, bool]:
        """How specific it is; of equals, a denial ranks higher."""
        return bool(self.origin) + bool(self.actor), not self.permit


def decide_exchange(
    form: Mapping[str, str],
    subject_scopes: tuple[str, ...],
    origin: DemoClient,
    actor: DemoClient,
    policies: Iterable[ExchangePolicy],
) -> tuple[str, ...]:
    """The scopes of the new token; :class:`Fault` when there shall be none. The subject token itself is known to be good."""
    if "actor_token" in form or "want_composite" in form:
        raise Fault("invalid_request", "Delegation not supported")
    if form.get("subject_token_type", "") not in TOKEN_TYPES:
        raise Fault("invalid_request", "the subject token must be an access token")
    asked = tuple(form.get("scope", "").split())
    scopes = asked or subject_scopes
    if origin.client_id == actor.client_id and "offline_access" in scopes:
        raise Fault("access_denied", "Token exchange not allowed: same client and offline_access requested", 403)
    policy = max(
        (one for one in policies if one.applies(origin.client_id, actor.client_id)),
        key=lambda one: one.rank,
        default=None,
    )
    if policy is None:
        names = f"{origin.client_id} -> {actor.client_id}"
        raise Fault("access_denied", f"No applicable policies found for clients: {names}", 403)
    if not policy.permit:
        raise Fault("access_denied", "Token exchange not allowed", 403)
    wanted = [scope for scope in asked if scope != "offline_access"]
    check_scopes(wanted, origin.scopes if origin.upscoping else subject_scopes, "the origin client")
    check_scopes(wanted, actor.scopes, "this client")
    if policy.scopes is not None:
        check_scopes(wanted, policy.scopes, "the exchange policy")
    return scopes
