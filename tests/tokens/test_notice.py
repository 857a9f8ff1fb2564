"""What people are told of their login, and when."""

import pytest

from af_hub.tokens.notice import LoginState, clock, login_notice

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC


@pytest.mark.parametrize(
    "state, parts, level",
    [
        pytest.param(LoginState(True, None, NOW + 3000), None, "", id="all is well, and the IAM says no end"),
        pytest.param(
            LoginState(True, None, NOW + 3000, lacks="storage.read:/new"),
            ["storage.read:/new", "Log in again"],
            "info",
            id="the policy gives more by now",
        ),
        pytest.param(LoginState(True, NOW + 86401, NOW + 3000), None, "", id="more than a day left"),
        pytest.param(
            LoginState(True, NOW + 7300, NOW + 3000), ["ends at 10:01 UTC", "Log in again"], "info", id="two hours"
        ),
        pytest.param(LoginState(True, NOW + 600, NOW + 3000), ["ends at 08:10 UTC"], "warning", id="ten minutes"),
        pytest.param(
            LoginState(True, None, NOW + 1800, "503"),
            ["cannot be reached", "08:30 UTC", "nothing that you"],
            "warning",
            id="IAM away",
        ),
        pytest.param(
            LoginState(True, None, NOW - 1, "503"), ["have no access token"], "warning", id="IAM away for long"
        ),
        pytest.param(
            LoginState(False, NOW, NOW + 60, "Sign the AUP."), ["Sign the AUP.", "08:01 UTC"], "warning", id="ended"
        ),
        pytest.param(
            LoginState(False, NOW, None), ["log in again", "have no access token"], "warning", id="ended, nothing left"
        ),
    ],
)
def test_what_is_told(state: LoginState, parts: list[str] | None, level: str) -> None:
    notice = login_notice(state, NOW)
    if parts is None:
        assert notice is None
        return
    assert notice is not None and notice.level == level and not [part for part in parts if part not in notice.text]
    assert notice.log_in == ("nothing that you" not in notice.text)


def test_another_day_is_named() -> None:
    assert clock(NOW + 50000, NOW) == "21:53 UTC on Friday, 15 January"
