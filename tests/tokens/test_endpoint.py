"""What each of our exceptions is for the caller of the endpoint; the rest of it is tested through a real hub, with the login."""

import re
from pathlib import Path

import pytest
from tornado import web

from af_hub.errors import AFError, ClaimsError, LoginRequired, Refused, Unavailable
from af_hub.tokens.device import DEVICE_HANDLERS
from af_hub.tokens.endpoint import HANDLERS, TooMany, describe_token, errors_as_http
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.me import ME_HANDLERS
from af_hub.tokens.own_issuer import ISSUER_HANDLERS, OwnToken
from af_hub.tokens.own_pool import POOL_HANDLERS


@pytest.mark.parametrize(
    "error, status",
    [
        pytest.param(LoginRequired("Log in again."), 401, id="login ended"),
        pytest.param(Refused("No account."), 403, id="not for this person"),
        pytest.param(Unavailable("IAM is down."), 503, id="IAM does not answer and nothing is valid"),
        pytest.param(ClaimsError("no `sub`"), 503, id="IAM answers nonsense"),
    ],
)
def test_exceptions_as_statuses(error: AFError, status: int) -> None:
    with pytest.raises(web.HTTPError) as caught, errors_as_http():
        raise error
    assert caught.value.status_code == status and caught.value.log_message == str(error)


def test_answer() -> None:
    token = AccessToken("the-token", 1.0, 3601.0)
    assert describe_token(token, "https://iam.af-hub.test/") == {
        "access_token": "the-token",
        "expires_at": 3601.0,
        "issuer": "https://iam.af-hub.test/",
    }


def test_every_route_is_told() -> None:
    """docs/reference/hub-api.md has a row for each, and for no other."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "hub-api.md").read_text()
    told = {"/api/af/" + row for row in re.findall(r"(?m)^\| `(?:GET|POST) ([^` ?]+)", page)}
    served = {
        re.sub(r"\(\[.*?\)$", lambda found: "{username}" if "^/" in found[0] else "{id}", route).replace("\\", "")
        for handlers in (HANDLERS, DEVICE_HANDLERS, ME_HANDLERS, POOL_HANDLERS, ISSUER_HANDLERS)
        for route, _ in handlers
    }
    assert told == served


def test_who_asks_too_often_is_told_how_long_to_wait() -> None:
    error = TooMany(2.2)
    assert (error.status_code, error.headers) == (429, {"Retry-After": "3"}) and "in 3 seconds" in str(
        error.log_message
    )
    assert "in 1 second." in str(TooMany(0.01).log_message)


def test_a_token_that_the_hub_signed_says_so() -> None:
    token = OwnToken("the-token", 1.0, 2.0, "https://hub.test/hub/api/af/issuer")
    assert describe_token(token, "https://iam.af-hub.test/")["issuer"] == "https://hub.test/hub/api/af/issuer"
