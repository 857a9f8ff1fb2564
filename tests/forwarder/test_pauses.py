import pytest

from af_hub.forwarder.pauses import seconds_until_dial


@pytest.mark.parametrize(
    "failures, refused, shortest, longest",
    [
        pytest.param(0, False, 0, 0.1, id="soon after a loss"),
        pytest.param(3, False, 0, 0.8, id="then later"),
        pytest.param(1000, False, 0, 2.0, id="never very late"),
        pytest.param(0, True, 5, 20, id="rarely when told no"),
    ],
)
def test_pauses(failures, refused, shortest, longest):
    assert seconds_until_dial(failures, refused, lambda low, high: low) == shortest
    assert seconds_until_dial(failures, refused, lambda low, high: high) == longest
