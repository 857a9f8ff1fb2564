"""What the keeper tells Prometheus; JupyterHub serves it at ``/hub/metrics`` with its own, to whoever has the scope ``read:metrics``.

No label ever holds a person's name.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from af_hub.errors import LoginRequired, Unavailable

REFRESHES = Counter(
    "af_token_refreshes",
    "Refreshes at the IAM, by what became of them",
    ["issuer", "purpose", "outcome"],
)
SIGNED = Counter("af_tokens_signed", "Tokens that the hub signed itself, by the IAM of the person", ["issuer"])
FORCED_LOGINS = Counter(
    "af_forced_logins",
    "Logins that ended so that the person must log in again",
    ["issuer", "reason"],
)
IAM_SECONDS = Histogram(
    "af_iam_request_seconds",
    "How long the IAM took to answer, or to fail",
    ["issuer", "request"],
    buckets=(0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 6, 15, 30),
)
IAM_UP = Gauge("af_iam_up", "1 while the IAM serves, 0 while it counts as down", ["issuer"])
IN_FLIGHT = Gauge("af_iam_requests_in_flight", "Requests of the keeper that the IAM has not answered yet")

STATES = ("fresh", "stale", "expired", "ended")


@dataclass(frozen=True)
class TokenStanding:
    """How one person's token stands.

    Parameters
    ----------
    user_class
        ``active`` for whom a session asked lately, ``idle`` for others.
    state
        One of ``STATES``: stale is still good, but should have been refreshed; ended is the login, whatever is left of the token.
    seconds_left
        Of the access token for sessions.
    """

    issuer: str
    user_class: str
    state: str
    seconds_left: float


def outcome_of(error: BaseException | None) -> str:
    """How a refresh ended, as a label."""
    if isinstance(error, LoginRequired):
        return "login_required"
    if isinstance(error, Unavailable):
        return "unavailable"
    return "error" if error else "ok"


@contextmanager
def request(issuer: str, name: str) -> Iterator[None]:
    """Time one request to an IAM."""
    with IN_FLIGHT.track_inprogress(), IAM_SECONDS.labels(issuer, name).time():
        yield


@contextmanager
def refresh(issuer: str, purpose: str, name: str = "refresh") -> Iterator[None]:
    """Count and time one refresh, or exchange, by what becomes of it."""
    try:
        with request(issuer, name):
            yield
    except BaseException as error:
        REFRESHES.labels(issuer, purpose, outcome_of(error)).inc()
        raise
    REFRESHES.labels(issuer, purpose, "ok").inc()


class TokenStandings(Collector):
    """How everybody's tokens stand, looked up when Prometheus asks."""

    def __init__(self, standings: Callable[[], Iterable[TokenStanding]]) -> None:
        self._standings = standings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        yield from families(self._standings())

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Their names, without looking."""
        yield from families(())


def families(standings: Iterable[TokenStanding]) -> Iterator[GaugeMetricFamily]:
    """People by issuer, class and state; and the least and middle life that tokens of living logins have left."""
    counts: dict[tuple[str, str, str], int] = {}
    left: dict[tuple[str, str], list[float]] = {}
    for one in standings:
        for state in STATES:
            counts.setdefault((one.issuer, one.user_class, state), 0)
        counts[one.issuer, one.user_class, one.state] += 1
        if one.state != "ended":
            left.setdefault((one.issuer, one.user_class), []).append(one.seconds_left)
    logins = GaugeMetricFamily(
        "af_logins", "People by the state of their access token", labels=["issuer", "user_class", "state"]
    )
    for labels, count in counts.items():
        logins.add_metric(labels, count)
    yield logins
    seconds = GaugeMetricFamily(
        "af_token_seconds_to_expiry",
        "How long access tokens for sessions are still good: the least, and the middle one",
        labels=["issuer", "user_class", "of"],
    )
    for group, found in left.items():
        seconds.add_metric([*group, "least"], min(found))
        seconds.add_metric([*group, "median"], median(found))
    yield seconds


def publish(standings: Callable[[], Iterable[TokenStanding]]) -> None:
    """Let Prometheus see ``standings`` from now on; what was published before is no longer seen."""
    global _published
    if _published is not None:
        REGISTRY.unregister(_published)
    _published = TokenStandings(standings)
    REGISTRY.register(_published)


_published: TokenStandings | None = None
