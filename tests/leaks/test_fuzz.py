"""Every route below ``/hub/api/af/`` of the running hub, asked with whatever anybody might send: never an error that is not meant, never a
token that is not the caller's."""

import base64
import json
import re
from functools import cache
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from asked_hub import ADMIN, OTHER, OWNER, Place
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from seen import meant, secret_keys, texts

pytestmark = pytest.mark.real

USERS = {"owner": OWNER, "session": OWNER, "other": OTHER, "admin": ADMIN, "controller": "", "service login": OWNER}
WRONG_KINDS = [
    "access token",
    "refresh token",
    "client's password",
    "proxy_password",
    "cookie secret",
    "iam_client_secret",
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
NAMES = [
    OWNER,
    OTHER,
    "outsider",
    "ghost",
    "",
    "null",
    "..",
    "../users",
    "a" * 3000,
    "\x00",
    "%00",
    "ä",
    "🂡",
    "' OR 1=1 --",
    "{{7*7}}",
]
KEYS = [
    "username",
    "name",
    "issuer",
    "secret",
    "pool",
    "purpose",
    "audience",
    "scope",
    "user",
    "token",
    "lifetime",
    "__class__",
]

words = st.sampled_from(NAMES) | st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=3)
bodies = st.one_of(
    st.just(b""),
    objects.map(lambda found: json.dumps(found).encode()),
    values.map(lambda found: json.dumps(found).encode()),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(NAMES), max_size=2).map(
        lambda found: json.dumps(found).encode()
    ),
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"[" * 30000,
            b'{"username": "\\ud800"}',
            b'{"username": "x", "username": "y"}',
            b"\xef\xbb\xbf{}",
            b"1e999",
            b"NaN",
        ]
    ),
    st.sampled_from(["{}", '{"username": "cms-analyst"}']).map(lambda text: text.encode("utf-16")),
)
queries = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), words, max_size=3)
FIELDS = """Accept Content-Type Origin Referer Cookie X-Forwarded-For X-Real-Ip X-Forwarded-Proto Forwarded If-None-Match Range
X-HTTP-Method-Override Sec-Fetch-Site X-JupyterHub-User X-Remote-User"""
SAID = [OWNER, "*/*", "application/json", "text/html", "https://evil.test", "127.0.0.1", "GET", "bytes=0-", "null"]
headers = st.dictionaries(
    st.sampled_from(FIELDS.split()),
    st.sampled_from(SAID) | st.binary(max_size=20).map(lambda found: re.sub(rb"[\x00-\x1f\x7f]", b"", found).strip()),
    max_size=3,
)
schemes = st.sampled_from(["token", "Bearer", "bearer", "TOKEN", "Basic", ""])
callers = st.sampled_from([*USERS, *WRONG_KINDS, "nobody", "nonsense"])


@cache
def other_secrets(place: Place) -> dict[str, str]:
    """Secrets that are no tokens of the hub."""
    token = place.client("owner").get("/hub/api/af/token").json()["access_token"]
    found = {"access token": token, "refresh token": sorted(place.iam.refresh_tokens())[0]}
    return found | {"nonsense": "x" * 64} | {name: place.secrets.named[name] for name in WRONG_KINDS[2:]}


def authorization(place: Place, scheme: str, caller: str) -> tuple[dict[str, str], str]:
    """The header, and who that is for the hub: empty when nobody."""
    if caller == "nobody":
        return {}, ""
    secret = place.tokens.get(caller) or other_secrets(place)[caller]
    if scheme == "Basic":
        secret = base64.b64encode(f"{OWNER}:{secret}".encode()).decode()
    known = caller in place.tokens and scheme.lower() in ("token", "bearer")
    return {"Authorization": f"{scheme} {secret}".strip()}, caller if known else ""


def check(place: Place, answer: httpx.Response, caller: str, content: bytes) -> None:
    said = f"{caller or 'nobody'}: {answer.request.method} {answer.url} {content[:200]!r}: {answer.status_code} {answer.text[:500]}"
    assert meant(answer), said
    if answer.status_code == 200 and answer.request.method in ("HEAD", "OPTIONS"):
        assert not answer.content, said
        return
    path, username = answer.url.path, USERS.get(caller, "")
    whole = answer.content + b"\n" + texts(str(answer.headers))
    if caller == "controller" and answer.status_code == 200 and path.startswith("/hub/api/af/token/"):
        asked = json.loads(content)["username"]  # for whom it is then is what it has asked for
        assert asked in (OWNER, OTHER), said
        username = asked
    subject = place.iam.users[username].subject if username else ""
    assert not place.secrets.within(whole, mine=[f"hub token: {caller}"], subject=subject), said
    if (
        answer.status_code == 200 and answer.request.method == "OPTIONS"
    ):  # JupyterHub answers it to everybody, with nothing
        assert not answer.content, said
    elif answer.status_code == 200 and not caller:
        assert path.startswith(("/hub/api/af/issuer/", "/hub/api/af/device")), said
    if answer.status_code == 200 and answer.content and not path.startswith("/hub/api/af/device"):
        keys = set(secret_keys(answer.json()))
        assert keys <= ({"access_token"} if path.startswith(("/hub/api/af/token", "/hub/api/af/pool")) else set()), said


@pytest.mark.parametrize(
    "body", [b'{"username": "\\ud800"}', b"[" * 30000, b'{"username": NaN}', b"\x01\x00\x00\x01\x00", b"\xff"]
)
def test_bodies_that_broke_something(place: Place, body: bytes) -> None:
    for caller, path in product(("controller", "owner"), ("token/condor", "token/storage", "pool", "device")):
        answer = place.client(caller).post(f"/hub/api/af/{path}", content=body)
        assert 400 <= answer.status_code < 500, (path, answer.text)


def one_request(place: Place, data: st.DataObject) -> None:
    patterns = sorted({pattern for pattern, _ in place.routes if pattern.startswith("/hub/api/af/")})
    pattern = data.draw(st.sampled_from(patterns))
    groups = re.findall(r"\([^()]*\)", pattern)
    filled = [data.draw(st.just("0123456789abcdef") if "0-9a-f" in group else words) for group in groups]
    path = re.sub(r"\([^()]*\)", "{}", pattern.removesuffix("$").replace("\\", "")).format(
        *(quote(one, safe="") for one in filled)
    )
    sent, caller = authorization(place, data.draw(schemes), data.draw(callers))
    more: dict[str, Any] = {**data.draw(headers), **sent}
    content = data.draw(bodies)
    method = data.draw(st.sampled_from(METHODS[:2]) | st.sampled_from(METHODS))
    stranger = place.stranger()
    answer = stranger.request(method, path, params=data.draw(queries), content=content, headers=more)
    check(place, answer, caller, content)


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
def test_whatever_is_sent(place: Place, data: st.DataObject) -> None:
    one_request(place, data)


@pytest.mark.long
@given(st.data())
@settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_for_long(place: Place, data: st.DataObject) -> None:
    one_request(place, data)


@pytest.mark.parametrize("caller", [*WRONG_KINDS, "service login", "nonsense", "nobody"])
def test_tokens_of_the_wrong_kind_open_nothing(place: Place, caller: str) -> None:
    """What a service holds for a person, and what is no token of the hub at all."""
    for scheme in ("token", "Bearer"):
        sent, _ = authorization(place, scheme, caller)
        for method, path in [
            ("GET", "token"),
            ("GET", "me"),
            ("POST", "pool"),
            ("POST", "token/condor"),
            ("POST", "token/storage"),
        ]:
            body = None if method == "GET" else {"username": OWNER} if "token" in path else {}
            answer = place.stranger().request(method, f"/hub/api/af/{path}", json=body, headers=sent)
            assert answer.status_code == 403, (path, answer.text)
