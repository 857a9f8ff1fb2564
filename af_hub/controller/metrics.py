"""What the controller tells Prometheus; :mod:`af_hub.controller.metrics_api` serves it.

No label ever holds a person's name, or a cluster's.
"""

from collections.abc import Iterator, Sequence
from statistics import median

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()
"""The controller's own: JupyterHub's library, which is loaded here too, puts the hub's into the common one."""

TOKENS_ASKED = Counter(
    "af_cluster_token_questions",
    "Questions to the hub for a token of somebody with living clusters, by what became of them",
    ["outcome"],
    registry=REGISTRY,
)
TOKENS_PUSHED = Counter(
    "af_cluster_token_pushes", "Tokens given to job agents, by what became of them", ["outcome"], registry=REGISTRY
)


class TokensLeft(Collector):
    """How long the tokens of connected clusters are still good."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds = seconds

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauge; without values while no cluster has a token."""
        gauge = GaugeMetricFamily(
            "af_cluster_token_seconds_to_expiry",
            "How long the tokens of connected clusters are still good: the least, and the middle one",
            labels=["of"],
        )
        if self._seconds:
            gauge.add_metric(["least"], min(self._seconds))
            gauge.add_metric(["median"], median(self._seconds))
        yield gauge


def text(token_seconds: Sequence[float]) -> bytes:
    """All of it in Prometheus' text form."""
    left = CollectorRegistry()
    left.register(TokensLeft(token_seconds))
    return generate_latest(REGISTRY) + generate_latest(left)
