"""Everybody at an IAM, all or nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from af_hub.errors import Unavailable
from af_hub.iam.scim import PAGE, read_people, sort_people
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient
from af_hub.testing.iam_state import write_state
from af_hub.testing.iam_tokens import DemoUser, SigningKeys

ISSUER = "https://iam.af-hub.test/"
KEYS = SigningKeys()


@pytest.fixture
async def iam(tmp_path: Path) -> AsyncIterator[DemoIAM]:
    write_state(tmp_path / "state.json", KEYS, {})
    people = [DemoUser(f"p{n}", f"sub-{n}", groups=("/icsc",)) for n in range(2 * PAGE + 1)]
    async with DemoIAM(people, [DemoClient("r", "s", scopes=("scim:read",))], state=tmp_path / "state.json") as iam:
        yield iam


async def no_pause(seconds: float) -> None:
    pass


async def test_all_pages(iam: DemoIAM) -> None:
    iam.users["p7"] = DemoUser("p7", "sub-7", groups=("/icsc",), active=False)
    found = await read_people(iam.url + "scim", iam.mint("p0", "scim:read"), ISSUER, 10)
    assert len(found.claims) == 2 * PAGE and iam.asked.count("scim") == 3
    assert found.passed_over == ("'p7': is not active at the IAM",)
    one = found.claims[0]
    assert (one.issuer, one.subject, one.username, one.groups) == (ISSUER, "sub-0", "p0", ("/icsc",))


@pytest.mark.parametrize("scope, says", [("openid", "scim:read"), (None, "does not take the token")])
async def test_a_token_that_does_not_do(iam: DemoIAM, scope: str | None, says: str) -> None:
    token = iam.mint("p0", scope) if scope else "nonsense"
    with pytest.raises(Unavailable, match=says) as caught:
        await read_people(iam.url + "scim", token, ISSUER, 10)
    assert token not in str(caught.value)


class Pages:
    """Answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def answer(self, request: web.Request) -> web.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(answer) if not isinstance(answer, int) else web.Response(status=answer)


def page(total: int, *ids: object) -> dict[str, Any]:
    return {"totalResults": total, "Resources": [{"id": i, "userName": i, "active": True} for i in ids]}


async def ask(*answers: Any, seconds: float = 10) -> int:
    app = web.Application()
    app.router.add_get("/scim/Users", Pages(*answers).answer)
    async with TestServer(app) as server:
        found = await read_people(str(server.make_url("/scim")), "token", ISSUER, seconds, no_pause)
        return len(found.claims)


@pytest.mark.parametrize(
    "answers, says",
    [
        pytest.param([page(3, "a", "b"), page(3)], "ends after 2 of 3", id="breaks off"),
        pytest.param([page(3, "a", "b"), page(2, "b")], "changed while", id="somebody left"),
        pytest.param([page(3, "a", "b"), page(3, "b")], "2 of 3", id="one twice"),
        pytest.param([page(3, "a", "b"), 500], "cannot serve", id="an error in the middle"),
        pytest.param([{}], "no list of people", id="an empty object"),
        pytest.param([page(-1)], "no list of people", id="less than none"),
        pytest.param([page(10**9, "a")], "no list of people", id="more than there are"),
        pytest.param([{"totalResults": 1, "Resources": ["a"]}], "no person", id="a word"),
        pytest.param([page(1, 5)], "no person", id="a number"),
    ],
)
async def test_half_a_list_is_none(answers: list[Any], says: str) -> None:
    with pytest.raises(Unavailable, match=says):
        await ask(*answers)


async def test_whoever_is_away_is_asked_again() -> None:
    assert await ask(503, page(2, "a"), 429, 429, page(2, "b")) == 2
    assert await ask(page(0)) == 0


async def test_a_list_that_takes_too_long() -> None:
    with pytest.raises(Unavailable, match=r"took more than 0\.2 s"):
        async with TestServer(web.Application(middlewares=[silence])) as server:
            await read_people(str(server.make_url("/scim")), "token", ISSUER, 0.2, no_pause)


@web.middleware
async def silence(request: web.Request, handler: object) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


async def test_a_token_goes_nowhere_in_the_clear() -> None:
    with pytest.raises(Unavailable, match="https://"):
        await read_people("http://iam.example.org/scim", "token", ISSUER, 1)


async def test_no_redirect_is_followed() -> None:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound("https://elsewhere.test/")

    app = web.Application()
    app.router.add_get("/scim/Users", away)
    async with TestServer(app) as server:
        with pytest.raises(Unavailable):
            await read_people(str(server.make_url("/scim")), "token", ISSUER, 5, no_pause)


def test_people_who_cannot_log_in_are_passed_over() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "userName": "ada", "active": True, "groups": [{"display": "cms/itcms"}, {"display": "cms"}]},
        {"id": "2", "userName": "Big", "active": True},
        {"id": "3", "active": True},
        {"id": "4", "userName": "bob"},
        {"id": "5", "userName": "eve", "active": True, "groups": ["cms"]},
        {"id": "6", "userName": "max", "active": True, "groups": [{"value": "x"}]},
    ]
    found = sort_people(rows, ISSUER)
    assert [(one.username, one.groups) for one in found.claims] == [("ada", ("/cms", "/cms/itcms"))]
    assert len(found.passed_over) == 5
