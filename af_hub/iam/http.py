"""One request to an IAM, with a time limit, and what its failures mean.

``invalid_grant`` means that the person must log in again; a time-out, a refused connection, 429 and 5xx mean that the IAM is not
there now and whatever is valid stays so; so does an answer that is too long, too deep, or no JSON at all, and a refusal of the hub itself.
Neither message ever holds a token: a foreign error text goes no further than its ``error`` code (RFC 6749, section 5.2).
"""

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import aiohttp

from af_hub.errors import AFError, IAMAway, IAMRefused, LoginRequired

P = ParamSpec("P")
T = TypeVar("T")

SECONDS = 6.0
CONNECT_SECONDS = 6.0
MOST_BYTES = 2**20

ENDED = {"invalid_grant", "invalid_token"}
"""How a refresh token, or an access token, is refused. INDIGO IAM says the second one of both."""

UNSIGNED = "The IAM wants you to sign its rules of use (AUP) first; log in at the IAM to do so, then log in here again."
"""What is said of a login that the IAM ended for this reason; the policy knows better where to sign."""

CODE = re.compile(r"[a-z_]{1,40}\Z")
"""What may be shown of an ``error``; all that are registered are of this form (RFC 6749, section 11.4)."""

HUB_REFUSED = {"invalid_client", "unauthorized_client"}
"""The same for everybody, so nobody's login has ended."""


def forgetful(ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """``ask``, whose failures on purpose come without the frames that they went through, and without what led to them.

    Their sentence says everything. Those frames hold tokens and passwords, and tools that collect errors write down what frames hold.
    """

    @wraps(ask)
    async def asked(*given: P.args, **named: P.kwargs) -> T:
        try:
            return await ask(*given, **named)
        except AFError as error:
            failure = error.with_traceback(None)
        failure.__cause__ = failure.__context__ = None
        del given, named
        raise failure

    return asked


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
        When the IAM answers ``invalid_grant`` or ``invalid_token``, or to a GET with 401.
    IAMAway
        When it would fail anybody else too.
    IAMRefused
        In any other case.
    """
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(seconds, sock_connect=CONNECT_SECONDS), auto_decompress=False
            ) as session,
            session.request(
                "GET" if form is None else "POST",
                url,
                data=form,
                # What is packed could be a thousand times as long as it seems.
                headers={"Accept-Encoding": "identity", **(headers or {})},
                allow_redirects=False,
            ) as response,
        ):
            body, pause = await _body(response), read_pause(response.headers.get("Retry-After", ""))
            return read_answer(urlsplit(url).netloc, response.status, body, bare=form is None, pause=pause)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise IAMAway(f"The IAM ({urlsplit(url).netloc}) does not answer ({_why(error, seconds)}).") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, unless it is longer than anything that an IAM has to say to us."""
    body = b""
    while chunk := await response.content.read(2**16):
        body += chunk
        if len(body) > MOST_BYTES:
            raise IAMAway(f"The IAM ({response.url.authority}) gives an answer of more than {MOST_BYTES} bytes.")
    return body


def _why(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"not within {seconds:g} seconds"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "nobody listens there"
    return f"the connection broke: {type(error).__name__}"


def read_pause(text: str) -> float:
    """Seconds of a ``Retry-After`` (RFC 9110, section 10.2.3); its form as a date counts as nothing said."""
    return float(text[:9]) if text.isascii() and text.isdigit() else 0.0


def read_answer(host: str, status: int, body: bytes, bare: bool = True, pause: float = 0.0) -> dict[str, Any]:
    """The JSON object of an answer, or the exception that its status and ``error`` mean. See :func:`fetch`.

    Parameters
    ----------
    bare
        Whether a 401 says something of the person even without ``error``: not at the token endpoint, where it is about the hub.
    """
    found = read_json(body)
    said = found.get("error") if isinstance(found, dict) else None
    error = said if isinstance(said, str) else ""
    if status == 200 and isinstance(found, dict):
        return found
    if status == 200 and not bare and not body:
        return {}  # so a revocation is answered (RFC 7009, section 2.2)
    if status == 200:
        raise IAMAway(f"The IAM ({host}) gives an answer that is no JSON object.")
    if status < 500 and (error in ENDED or (bare and status == 401 and error not in HUB_REFUSED)):
        raise LoginRequired(_ended(found))
    if status == 429 or status >= 500:
        raise IAMAway(f"The IAM ({host}) cannot serve now (HTTP {status}).", pause)
    code = error if CODE.match(error) else ""
    shown = code or ("no JSON" if said is None else "an error without a name")  # which may repeat what we sent
    sentence = f"The IAM ({host}) refused the hub's request (HTTP {status}, {shown})."
    if status == 401 or code in HUB_REFUSED:
        raise IAMAway(sentence)
    raise IAMRefused(sentence, code)


def _ended(found: Any) -> str:
    """What the person is told. INDIGO IAM refuses refresh while somebody has not signed its rules of use, and says so in words only."""
    if isinstance(found, dict) and "aup" in str(found.get("error_description", "")).lower().split():
        return UNSIGNED
    return "Your login has ended at the IAM; log in again."


def read_json(body: bytes) -> Any:
    """What the JSON says; None when it is none, or holds what no text may hold."""
    try:
        found = json.loads(body)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # half a surrogate pair, NaN
    except (ValueError, RecursionError):
        return None
    return found
