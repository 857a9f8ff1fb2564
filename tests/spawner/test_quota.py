"""What quotas leave for sessions."""

import pytest

from af_hub.policy.sessions import Size
from af_hub.spawning.quota import read_quantity, read_quotas


def quota(hard: dict[str, str], used: dict[str, str], **spec: object) -> dict[str, object]:
    return {"spec": spec, "status": {"hard": hard, "used": used}}


def size(cpus: float, memory: str, **resources: int) -> Size:
    return Size.model_validate({"title": "S", "cpus": cpus, "memory": memory, "resources": resources})


@pytest.mark.parametrize(
    "text, value",
    [("500m", 0.5), ("2", 2), ("2Gi", 2 * 2**30), ("1e3", 1000), ("1.5k", 1500), ("", 0), ("2 GiB", 0), ("x", 0)],
)
def test_quantities(text: str, value: float) -> None:
    assert read_quantity(text) == value


def test_the_tightest_quota_counts() -> None:
    free = read_quotas(
        [
            quota(
                {"requests.cpu": "8", "requests.memory": "32Gi"}, {"requests.cpu": "4520m", "requests.memory": "4Gi"}
            ),
            quota({"cpu": "4", "pods": "10", "requests.nvidia.com/gpu": "2"}, {"cpu": "1", "pods": "3"}),
            quota({"pods": "1"}, {"pods": "1"}, scopes=["BestEffort"]),
            quota({"count/secrets": "1", "persistentvolumeclaims": "5"}, {}),
        ]
    )
    assert free.describe() == (
        "Free for sessions now: 3 of 4 cores, 28 GiB of 32 GiB memory, 7 of 10 sessions, 2 of 2 nvidia.com/gpu."
    )
    assert free.lacks(size(1, "2 GiB")) == ""
    assert free.lacks(size(4, "64 GiB")) == "Not enough cores and memory free now: it cannot start before others end."
    assert "nvidia.com/gpu" in free.lacks(size(1, "2 GiB", **{"nvidia.com/gpu": 3}))


def test_without_quotas_nothing_is_said() -> None:
    assert read_quotas([]).describe() == "" and read_quotas([]).lacks(size(99, "99 TiB")) == ""
