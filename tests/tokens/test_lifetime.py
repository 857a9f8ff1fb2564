"""When to refresh, without waiting for it."""

import pytest

from af_hub.tokens.lifetime import AccessToken, refresh_at


@pytest.mark.parametrize("username", ["ada", "bob", "cms-analyst", "x" * 60])
def test_refresh_leaves_more_than_half_of_life_for_an_outage(username: str) -> None:
    assert 300 <= refresh_at(AccessToken("t", 0, 1000), username) <= 450


def test_people_are_spread() -> None:
    token = AccessToken("t", 0, 1000)
    instants = sorted(refresh_at(token, f"user{number}") for number in range(1000))
    assert max(sum(start <= at < start + 10 for at in instants) for start in range(300, 450, 10)) < 100


def test_same_person_same_instant() -> None:
    token = AccessToken("t", 0, 1000)
    assert refresh_at(token, "ada") == refresh_at(token, "ada")


@pytest.mark.parametrize(
    "issued, expires", [pytest.param(10, 10, id="born dead"), pytest.param(10, 5, id="born after its end")]
)
def test_token_without_life_is_due_at_its_end(issued: float, expires: float) -> None:
    assert refresh_at(AccessToken("t", issued, expires), "ada") == expires


@pytest.mark.parametrize("now, left", [(0, 100), (60, 40), (100, 0), (1000, 0)])
def test_seconds_left(now: float, left: float) -> None:
    assert AccessToken("t", 0, 100).seconds_left(now) == left


def test_token_has_no_face() -> None:
    assert "secret" not in repr(AccessToken("secret", 0, 1))
