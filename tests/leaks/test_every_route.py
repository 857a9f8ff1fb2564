"""Every route of the running hub is asked, by everybody who has a token: no answer holds a secret that is not the caller's."""

import json
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx
import pytest
from asked_hub import ADMIN, OTHER, OWNER, ROUTES, Place
from seen import meant, secret_keys, texts

pytestmark = pytest.mark.real

# Who asks, and who they are; the last one is whom they ask about.
CALLERS = {
    "admin": (ADMIN, OWNER),
    "controller": ("", OWNER),
    "session": (OWNER, OTHER),
    "other": (OTHER, OWNER),
    "service login": (OWNER, OTHER),
    "nobody": ("", OWNER),
}
FLAGS = {
    "include_stopped_servers": "true",
    "include_auth_state": "true",
    "auth_state": "true",
    "purpose": "storage",
    "limit": "200",
}
GROUP = re.compile(r"\((?:\?P<\w+>)?[^()]*(?:\([^()]*\)[^()]*)*\)\??")
AFTER = {"groups": ["%2Fcms", "af-admins"], "services": ["af-controller"], "servers": [""]}


def paths(pattern: str, name: str, token_id: str) -> Iterator[str]:
    """Addresses of this route, about the person of this name."""
    literals, choices, end = [], [], 0
    for match in GROUP.finditer(pattern):
        literals.append(pattern[end : match.start()])
        choices.append(choice(literals[-1].rstrip("/").rpartition("/")[2], match[0], name, token_id))
        end = match.end()
    for chosen in product(*choices):
        path = "".join(part for pair in zip(literals, chosen, strict=True) for part in pair) + pattern[end:]
        path = path.removesuffix("$").removesuffix(".*").removesuffix("?").replace("\\", "")
        yield path if path.startswith("/") else f"/{path}"


def choice(before: str, group: str, name: str, token_id: str) -> list[str]:
    """What may stand for a group of a route that comes after this part of its path."""
    if group.startswith("(?!"):
        return [""]
    words = group.strip("()?")
    if re.fullmatch(r"[\w\\.|]+", words) and words != ".":
        return words.replace("\\.", ".").split("|")  # (user|services)
    known = {"tokens": [token_id], "error": ["404"], "device": ["0123456789abcdef"], "user": [name + "/"]}
    return known.get(before) or AFTER.get(before, [name])


def token_id_of(place: Place, name: str) -> str:
    """An id of a token of somebody; it is no secret."""
    own = place.client("owner" if name == OWNER else "other")
    return str(own.get(f"/hub/api/users/{name}/tokens").json()["api_tokens"][0]["id"])


def all_paths(place: Place, name: str) -> list[str]:
    token_id = token_id_of(place, name)
    return [path for pattern, _ in place.routes for path in paths(pattern, name, token_id)]


def leaks(place: Place, caller: str, answer: httpx.Response) -> list[str]:
    """What of others, or of the hub, stands in this answer."""
    username, _ = CALLERS[caller]
    subject = place.iam.users[username].subject if username else ""
    whole = answer.content + b"\n" + texts(str(answer.headers))
    found = place.secrets.within(whole, mine=[f"hub token: {caller}"], subject=subject)
    try:
        keys = set(secret_keys(answer.json()))
    except ValueError:
        return found
    given = {"access_token"} if subject and answer.url.path in ("/hub/api/af/token", "/hub/api/af/pool") else set()
    return found + sorted(keys - given)


def ask(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """The answer; of one without an end, such as a progress, what came with the first second."""
    with client.stream(method, path, follow_redirects=False, timeout=30, **more) as answer:
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            lines = answer.iter_lines()
            answer._content = "\n".join(line for line, _ in zip(lines, range(4), strict=False)).encode()
        else:
            answer.read()
        return answer


def test_the_routes_are_those_of_the_running_hub(place: Place) -> None:
    names = {name for _, name in place.routes}
    assert {"TokenHandler", "CondorTokenHandler", "UserAPIHandler", "ServiceAPIHandler", "AdminHandler"} <= names
    for pattern, name in place.routes:
        some = list(paths(pattern, OWNER, "1"))
        assert some and all(re.match(pattern, path) for path in some), f"no address of {name} at {pattern}: {some}"


def test_the_search_finds_what_it_looks_for(place: Place) -> None:
    """A search that could find nothing would prove nothing."""
    token = place.client("owner").get("/hub/api/af/token").json()["access_token"]
    answer = httpx.Response(200, json={"kept": [{"refresh_token": "x"}], "jwt": token})
    answer.request = httpx.Request("GET", "http://hub/")
    assert leaks(place, "other", answer) == [f"a token of {place.iam.users[OWNER].subject}", "refresh_token"]
    cut = place.hub.controller_token[:20].encode()
    assert place.secrets.within(b"... " + cut) == ["controller_token"]
    sealed = place.secrets.keys[0].encrypt(next(iter(place.iam.refresh_tokens())).encode())
    assert "refresh token" in place.secrets.within(b'{"x": "' + sealed + b'"}')[0]


@pytest.mark.parametrize("caller", CALLERS)
def test_no_answer_holds_a_secret_of_others(place: Place, caller: str) -> None:
    client, (_, name) = place.client(caller), CALLERS[caller]
    statuses = set()
    for path in all_paths(place, name):
        answer = ask(client, "GET", path, params=FLAGS)
        assert not (found := leaks(place, caller, answer)), f"{caller} reads {found} at {path}"
        assert meant(answer), (path, answer.text)
        statuses.add(answer.status_code)
    assert 404 in statuses and (200 in statuses or caller == "nobody")


BODIES: list[Any] = [
    {},
    {"username": OWNER},
    {"note": "mine now", "scopes": ["custom:af-token:read"], "expires_in": 60},
    {"usernames": [OWNER], "admin": True, "users": [OWNER], "auth_state": {}},
    {"scopes": ["access:servers"], "user": OTHER},
]


@pytest.mark.long
@pytest.mark.parametrize("caller", [name for name in CALLERS if name != "session"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_answer_to_a_change_holds_a_secret_of_others(place: Place, caller: str, method: str) -> None:
    client, (_, name) = place.client(caller), CALLERS[caller]
    name = OTHER if caller == "admin" else name  # who has no session that others need
    for path in all_paths(place, name):
        for body in BODIES if method == "POST" else BODIES[:1]:
            content = json.dumps(body).replace(OWNER, name)
            answer = ask(client, method, path, content=content, headers={"Content-Type": "application/json"})
            found = leaks(place, caller, answer)
            if caller == "controller" and "/af/token/" in path and answer.status_code == 200:
                found = []  # what it is for; test_login says what that token is
            if "/af/device" in path:
                found = [one for one in found if one != "secret"]  # of a login that the caller begins
            assert not found, f"{caller} reads {found} by {method} {path} {content}"
            assert meant(answer), (path, content, answer.text)
    assert place.client("owner").get("/hub/api/user").status_code == 200, "nobody deleted anybody"
    assert place.client("nobody").get("/" + ROUTES).status_code == 200, "nobody stopped the hub"
