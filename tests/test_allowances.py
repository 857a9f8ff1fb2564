"""How often somebody may ask: by table, and as a property of any sequence of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_hub import allowances
from af_hub.allowances import Allowance, Limiter

PEOPLE = Allowance(rate=2.0, burst=3)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limiter(clock: Clock) -> Limiter:
    return Limiter({"user": PEOPLE, "service": Allowance(50.0, 2000)}, clock)


def test_burst_then_rate() -> None:
    clock = Clock()
    found = limiter(clock)
    assert [found.ask("user", "ada") for _ in range(4)] == [0, 0, 0, 0.5]
    assert found.ask("user", "bob") == 0 == found.ask("service", "ada")
    clock.now += 0.4
    assert found.ask("user", "ada") == pytest.approx(0.1)
    clock.now += 0.1
    assert found.ask("user", "ada") == 0
    clock.now += 3600
    assert [found.ask("user", "ada") for _ in range(4)] == [0, 0, 0, 0.5]


def test_who_is_told_to_wait_and_waits_is_served() -> None:
    clock = Clock()
    found = limiter(clock)
    for _ in range(50):
        clock.now += found.ask("user", "ada") + 1e-9
    assert found.ask("user", "ada") <= 0.5


@given(st.lists(st.floats(0, 2), min_size=1, max_size=80))
def test_never_more_than_burst_and_rate(pauses: list[float]) -> None:
    clock = Clock()
    found, served = limiter(clock), 0
    for pause in pauses:
        clock.now += pause
        served += found.ask("user", "ada") == 0
        assert served <= PEOPLE.burst + PEOPLE.rate * (clock.now - Clock.now) + 1e-6


def test_memory_is_bounded_and_nobody_who_asks_too_much_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowances, "MOST_CALLERS", 10)
    clock = Clock()
    found = limiter(clock)
    for _ in range(3):
        found.ask("user", "eve")
    for number in range(20):
        found.ask("user", f"user{number}")
    assert found.ask("user", "eve") > 0
    clock.now += 60
    found.ask("user", "last")
    assert len(found._buckets) == 1
