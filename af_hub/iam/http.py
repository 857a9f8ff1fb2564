"""One request to an IAM, with a time limit, and what its failures mean.

``invalid_grant`` means that the person must log in again; a time-out, a refused connection, 429 and 5xx mean that the IAM is not
there now and whatever is valid stays so; so does an answer that is too long, too deep, or no JSON at all. Neither message ever holds a
token: a foreign error text goes no further than its ``error`` code (RFC 6749, section 5.2).
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from af_hub.errors import LoginRequired, Unavailable

SECONDS = 6.0
MOST_BYTES = 2**20


async def fetch(
    url: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """The JSON object at ``url``, by GET, or by POST of ``form``; the whole exchange takes at most ``seconds``.

    Raises
    ------
    LoginRequired
        When the IAM answers 401 or ``invalid_grant``.
    Unavailable
        In any other case.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), auto_decompress=False) as session,
            session.request(
                "GET" if form is None else "POST",
                url,
                data=form,
                # What is packed could be a thousand times as long as it seems.
                headers={"Accept-Encoding": "identity", **(headers or {})},
                allow_redirects=False,
            ) as response,
        ):
            return read_answer(urlsplit(url).netloc, response.status, await _body(response))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"The IAM ({urlsplit(url).netloc}) does not answer ({_why(error, seconds)}).") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, unless it is longer than anything that an IAM has to say to us."""
    body = b""
    while chunk := await response.content.read(2**16):
        body += chunk
        if len(body) > MOST_BYTES:
            raise Unavailable(f"The IAM ({response.url.authority}) gives an answer of more than {MOST_BYTES} bytes.")
    return body


def _why(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"not within {seconds:g} seconds"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "nobody listens there"
    return f"the connection broke: {type(error).__name__}"


def read_answer(host: str, status: int, body: bytes) -> dict[str, Any]:
    """The JSON object of an answer, or the exception that its status and ``error`` mean. See :func:`fetch`."""
    found = read_json(body)
    error = found.get("error") if isinstance(found, dict) else None
    if status == 200 and isinstance(found, dict):
        return found
    if status == 200:
        raise Unavailable(f"The IAM ({host}) gives an answer that is no JSON object.")
    if error == "invalid_grant" or (status == 401 and error != "invalid_client"):
        raise LoginRequired("Your login has ended at the IAM; log in again.")
    if status == 429 or status >= 500:
        raise Unavailable(f"The IAM ({host}) cannot serve now (HTTP {status}).")
    raise Unavailable(f"The IAM ({host}) refused the hub's request (HTTP {status}, {error or 'no JSON'!s:.60}).")


def read_json(body: bytes) -> Any:
    """What the JSON says; None when it is none, or holds what no text may hold."""
    try:
        found = json.loads(body)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # half a surrogate pair, NaN
    except (ValueError, RecursionError):
        return None
    return found
