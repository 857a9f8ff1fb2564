"""How many logins by code may wait, for how long, and how often the IAM is asked."""

from contextlib import ExitStack

import pytest

from af_hub.iam.device import DeviceStart
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.tokens.device import MOST_IN_ALL, MOST_OF_ONE, SLOWER_SECONDS, Waits, neighbourhood, said_no

START = DeviceStart("d" * 43, "BCDF-GHJK", "https://iam.test/device", "", seconds=600, interval=5)
CLIENT = IAMClient(Discovery("https://iam.test/", "https://iam.test/.well-known"), "hub", "s3cret")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waits(clock: Clock) -> Waits:
    return Waits(clock)


def has_room(waits: Waits, source: str) -> bool:
    with waits.room(source) as free:
        return free


def test_room_is_bounded_for_each_and_in_all(waits: Waits, clock: Clock) -> None:
    for _ in range(MOST_OF_ONE):
        assert has_room(waits, "a")
        waits.begin(START, CLIENT, "a", "")
    assert not has_room(waits, "a") and has_room(waits, "b")
    for number in range(MOST_IN_ALL - MOST_OF_ONE):
        waits.begin(START, CLIENT, str(number), "")
    assert not has_room(waits, "b")
    clock.now += 600
    assert has_room(waits, "a") and has_room(waits, "b")


def test_many_at_one_moment_are_bounded_too(waits: Waits) -> None:
    """The IAM is being asked for the first ones when the others come."""
    with ExitStack() as under_way:
        free = [under_way.enter_context(waits.room("a")) for _ in range(MOST_OF_ONE + 5)]
        assert free == [True] * MOST_OF_ONE + [False] * 5
        with pytest.raises(RuntimeError), waits.room("b"):
            raise RuntimeError("the IAM did not answer")
        assert has_room(waits, "b")
    assert has_room(waits, "a"), "nothing came of them"


def test_the_secret_opens_it_and_only_in_time(waits: Waits, clock: Clock) -> None:
    key, wait = waits.begin(START, CLIENT, "a", "laptop")
    assert waits.find(key, wait.secret) is wait and wait.secret not in repr(wait)
    for wrong in "", wait.secret[:-1], wait.secret + "x", "\ud800":
        assert waits.find(key, wrong) is None
    assert waits.find("0" * 16, wait.secret) is None
    clock.now += 600
    assert waits.find(key, wait.secret) is None


def test_it_is_over_once(waits: Waits) -> None:
    key, wait = waits.begin(START, CLIENT, "a", "")
    waits.end(key)
    waits.end(key)
    assert waits.find(key, wait.secret) is None


def test_the_iam_is_asked_as_often_as_it_wants(waits: Waits, clock: Clock) -> None:
    _, wait = waits.begin(START, CLIENT, "a", "")
    assert not waits.may_ask(wait)
    clock.now += 5
    assert waits.may_ask(wait) and not waits.may_ask(wait), "of many who come, one asks"
    waits.slow_down(wait)
    clock.now += 5
    assert not waits.may_ask(wait)
    clock.now += SLOWER_SECONDS
    assert waits.may_ask(wait)


@pytest.mark.parametrize("code", ["access_denied", "expired_token", "", "nonsense"])
def test_every_end_has_a_sentence(code: str) -> None:
    assert said_no(code).endswith(".")


@pytest.mark.parametrize(
    "address, counted",
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/hub.sock", "/run/hub.sock"),
    ],
)
def test_one_machine_with_many_addresses_is_one(address: str, counted: str) -> None:
    assert neighbourhood(address) == counted
