"""One request to an IAM, with a time limit, and what its failures mean.

``invalid_grant`` means that the person must log in again; a time-out, a refused connection, 429 and 5xx mean that the IAM is not
there now and whatever is valid stays so. Neither message ever holds a token: a foreign error text goes no further than its ``error``
code (RFC 6749, section 5.2).
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from af_hub.errors import LoginRequired, Unavailable

SECONDS = 10.0


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
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
            session.request(
                "GET" if form is None else "POST", url, data=form, headers=headers, allow_redirects=False
            ) as response,
        ):
            return read_answer(urlsplit(url).netloc, response.status, await response.read())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"The IAM ({urlsplit(url).netloc}) does not answer ({type(error).__name__}).") from None


def read_answer(host: str, status: int, body: bytes) -> dict[str, Any]:
    """The JSON object of an answer, or the exception that its status and ``error`` mean. See :func:`fetch`."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    error = found.get("error") if isinstance(found, dict) else None
    if status == 200 and isinstance(found, dict):
        return found
    if error == "invalid_grant" or (status == 401 and error != "invalid_client"):
        raise LoginRequired("Your login has ended at the IAM; log in again.")
    if status == 429 or status >= 500:
        raise Unavailable(f"The IAM ({host}) cannot serve now (HTTP {status}).")
    raise Unavailable(f"The IAM ({host}) refused the hub's request (HTTP {status}, {error or 'no JSON'!s:.60}).")
