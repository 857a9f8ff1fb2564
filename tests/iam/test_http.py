"""What answers of an IAM mean: log in again, or wait."""

import asyncio
import json

import pytest

from af_hub.errors import AFError, IAMAway, LoginRequired, Unavailable
from af_hub.iam.endpoint import read_token_answer
from af_hub.iam.http import fetch, read_answer, read_pause
from af_hub.testing.process import free_port


@pytest.mark.parametrize(
    "status, body, error",
    [
        pytest.param(400, b'{"error": "invalid_grant"}', LoginRequired, id="refresh token revoked"),
        pytest.param(503, b'{"error": "invalid_grant"}', IAMAway, id="an IAM that is broken ends no login"),
        pytest.param(401, b'{"error": "invalid_grant"}', LoginRequired, id="the same, as some versions say it"),
        pytest.param(401, b'{"error": "invalid_token"}', LoginRequired, id="access token revoked"),
        pytest.param(401, b"", LoginRequired, id="401 without a word"),
        pytest.param(401, b'{"error": "invalid_client"}', IAMAway, id="our secret is wrong: nobody's login ended"),
        pytest.param(400, b'{"error": "invalid_scope"}', Unavailable, id="our scopes are wrong"),
        pytest.param(429, b'{"error": "slow_down"}', IAMAway, id="too many requests"),
        pytest.param(500, b"<html>", IAMAway, id="broken"),
        pytest.param(503, b'{"error": "temporarily_unavailable"}', Unavailable, id="down"),
        pytest.param(502, b"", IAMAway, id="proxy without IAM"),
        pytest.param(200, b"<html>captive portal</html>", Unavailable, id="no JSON"),
        pytest.param(200, b"[]", IAMAway, id="no object"),
        pytest.param(302, b"", Unavailable, id="sent elsewhere"),
        pytest.param(400, b'["invalid_grant"]', Unavailable, id="odd JSON"),
    ],
)
def test_failures(status: int, body: bytes, error: type[AFError]) -> None:
    with pytest.raises(error):
        read_answer("iam.test", status, body)


def test_401_at_the_token_endpoint_is_about_the_hub_unless_it_says_otherwise() -> None:
    with pytest.raises(IAMAway):
        read_answer("iam.test", 401, b"<html>who are you?", bare=False)
    with pytest.raises(LoginRequired):
        read_answer("iam.test", 401, b'{"error": "invalid_token"}', bare=False)


def test_unsigned_rules_of_use_are_told() -> None:
    said = b'{"error": "invalid_grant", "error_description": "User ada needs to sign AUP for this organization"}'
    with pytest.raises(LoginRequired, match="AUP"):
        read_answer("iam.test", 400, said)


@pytest.mark.parametrize(
    "text, seconds", [("120", 120), ("", 0), ("-1", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0), ("9" * 400, 999999999)]
)
def test_how_long_an_iam_wants_to_be_left_alone(text: str, seconds: float) -> None:
    assert read_pause(text) == seconds
    with pytest.raises(IAMAway) as caught:
        read_answer("iam.test", 429, b"", pause=seconds)
    assert caught.value.pause == seconds


def test_foreign_text_stays_out_of_messages() -> None:
    with pytest.raises(Unavailable) as caught:
        read_answer("iam.test", 400, b'{"error": "odd", "error_description": "token eyJhbGciOi is bad"}')
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("Invalid refresh token: Xy-secret", id="repeats what was sent"),
        pytest.param("Xy-secret", id="nothing else"),
        pytest.param(["Xy-secret"], id="a list"),
        pytest.param({"Xy-secret": 1}, id="an object"),
        pytest.param(5, id="a number"),
    ],
)
@pytest.mark.parametrize("status, bare", [(400, False), (401, False), (403, True)])
def test_error_that_is_no_code_is_not_shown(error: object, status: int, bare: bool) -> None:
    with pytest.raises(Unavailable, match="an error without a name") as caught:
        read_answer("iam.test", status, json.dumps({"error": error}).encode(), bare)
    assert "secret" not in repr((caught.value.args, vars(caught.value)))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({}, id="empty"),
        pytest.param({"access_token": "a"}, id="no lifetime"),
        pytest.param({"access_token": "a", "expires_in": True}, id="odd lifetime"),
        pytest.param({"access_token": 3, "expires_in": 3}, id="odd token"),
    ],
)
def test_token_answers_that_cannot_be_used(answer: dict[str, object]) -> None:
    with pytest.raises(Unavailable):
        read_token_answer(answer, 0.0)


async def test_nobody_listens() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await fetch(f"http://127.0.0.1:{free_port()}/")


async def test_silence_has_an_end() -> None:
    over = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match="does not answer"):
            await fetch(f"http://127.0.0.1:{port}/", seconds=0.1)
        over.set()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"access_token": "a", "expires_in": NaN}', id="no number"),
        pytest.param(b'{"sub": "\\ud800"}', id="half a character"),
        pytest.param(b"[" * 100_000, id="endless depth"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="endless number"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b'{"a": 1', id="cut off"),
    ],
)
def test_odd_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(Unavailable, match="no JSON object"):
        read_answer("iam.test", 200, body)


@pytest.mark.parametrize("token", ["a b", "a\r\nX-Evil: 1", "ä", ""])
def test_what_cannot_stand_in_a_header_is_no_token(token: str) -> None:
    with pytest.raises(Unavailable):
        read_token_answer({"access_token": token, "expires_in": 3600}, 0.0)


@pytest.mark.parametrize("seconds, life", [(-5, 0), (1e300, 10 * 366 * 86400), (3600, 3600)])
def test_lifetimes_are_within_reason(seconds: float, life: float) -> None:
    assert read_token_answer({"access_token": "a", "expires_in": seconds}, 0.0).expires_at == life
