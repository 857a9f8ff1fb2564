"""What each of our exceptions is for the caller of the endpoint; the rest of it is tested through a real hub, with the login."""

import pytest
from tornado import web

from af_hub.errors import AFError, ClaimsError, LoginRequired, Refused, Unavailable
from af_hub.tokens.endpoint import describe_token, errors_as_http
from af_hub.tokens.lifetime import AccessToken


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
