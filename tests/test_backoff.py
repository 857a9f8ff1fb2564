import pytest

from af_hub.backoff import backoff


@pytest.mark.parametrize(
    "failures, seconds", [(0, 5), (1, 5), (2, 10), (3, 20), (7, 300), pytest.param(10**6, 300, id="no overflow")]
)
def test_a_pause_doubles_up_to_its_limit(failures: int, seconds: float) -> None:
    assert backoff(failures, least=5, most=300) == seconds
