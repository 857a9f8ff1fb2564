"""The Secret through an API that refuses what the real one would, and two writers at once."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from kubernetes_asyncio import client

from af_hub.cli import main
from af_hub.errors import Unavailable
from af_hub.keychain import kinds
from af_hub.keychain.secret import NUMBERS, complete

PATH = "/api/v1/namespaces/af-hub/secrets"


class Secrets:
    """The part of an API server that keeps Secrets: versions, conflicts, and verbs that are not given."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.meanwhile: dict[str, str] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(PATH + "/{name}", self.get)
        app.router.add_post(PATH, self.create)
        app.router.add_patch(PATH + "/{name}", self.patch)
        return app

    def _may(self, verb: str) -> None:
        self.asked.append(verb)
        if verb in self.refused:
            raise web.HTTPForbidden(text=json.dumps({"kind": "Status", "code": 403, "reason": "Forbidden"}))

    async def get(self, request: web.Request) -> web.Response:
        self._may("get")
        name = request.match_info["name"]
        answer = web.json_response(self.kept[name]) if name in self.kept else web.json_response({}, status=404)
        if self.meanwhile:
            self._write(name, self.meanwhile, {})
            self.meanwhile = {}
        return answer

    async def create(self, request: web.Request) -> web.Response:
        self._may("create")
        body = await request.json()
        name = body["metadata"]["name"]
        if name in self.kept:
            return web.json_response({}, status=409)
        return web.json_response(self._write(name, body["data"], body["metadata"]), status=201)

    async def patch(self, request: web.Request) -> web.Response:
        self._may("patch")
        body, name = await request.json(), request.match_info["name"]
        if body["metadata"]["resourceVersion"] != self.kept[name]["metadata"]["resourceVersion"]:
            return web.json_response({}, status=409)
        return web.json_response(self._write(name, body["data"], body["metadata"]))

    def _write(self, name: str, data: dict[str, str], metadata: dict[str, Any]) -> dict[str, Any]:
        before = self.kept.get(name, {"metadata": {"resourceVersion": "0"}, "data": {}})
        version = str(int(before["metadata"]["resourceVersion"]) + 1)
        about = before["metadata"] | metadata | {"name": name, "resourceVersion": version}
        self.kept[name] = {"metadata": about, "data": before["data"] | (data or {})}
        return self.kept[name]

    def files(self, name: str) -> dict[str, str]:
        return {file: base64.b64decode(text).decode() for file, text in self.kept[name]["data"].items()}


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
async def api(secrets: Secrets) -> AsyncIterator[client.CoreV1Api]:
    async with TestServer(secrets.app()) as server:
        configuration = client.Configuration(host=str(server.make_url("")).rstrip("/"))
        async with client.ApiClient(configuration) as connection:
            yield client.CoreV1Api(connection)


async def test_made_once_completed_and_made_anew_when_asked(secrets: Secrets, api: client.CoreV1Api) -> None:
    assert await complete(api, "af-hub", "keys", {}, 2) == list(kinds.KINDS)
    first = secrets.files("keys")
    assert await complete(api, "af-hub", "keys", {}, 2) == [] and secrets.asked == ["get", "create", "get"]

    del secrets.kept["keys"]["data"]["proxy_password"]
    assert await complete(api, "af-hub", "keys", {"crypt": 2}, 2) == ["crypt", "proxy"]
    second = secrets.files("keys")
    assert {name for name in first if first[name] != second[name]} == {"crypt_key", "proxy_password"}
    assert json.loads(secrets.kept["keys"]["metadata"]["annotations"][NUMBERS])["crypt"] == 2
    assert await complete(api, "af-hub", "keys", {"crypt": 2}, 2) == []
    assert await complete(api, "af-hub", "keys", {"crypt": 1}, 2) == [], "a rollback"


async def test_two_at_once_agree(secrets: Secrets, api: client.CoreV1Api) -> None:
    await asyncio.gather(*(complete(api, "af-hub", "keys", {}, 2) for _ in range(3)))
    before = secrets.files("keys")
    secrets.meanwhile = {"crypt_key": base64.b64encode(b"of another").decode()}
    del secrets.kept["keys"]["data"]["store.conf"]
    assert await complete(api, "af-hub", "keys", {}, 2) == ["store"]
    assert secrets.files("keys") == before | {"crypt_key": "of another"}


async def test_a_missing_right_is_told_without_what_was_to_be_written(secrets: Secrets, api: client.CoreV1Api) -> None:
    secrets.refused = {"create"}
    with pytest.raises(Unavailable, match="af-hub/keys cannot be completed: the API answers 403 Forbidden") as raised:
        await complete(api, "af-hub", "keys", {}, 2)
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


@pytest.mark.parametrize("number", ["crypt", "crypt=x", "salt=2", "=1"])
def test_a_number_that_is_none(number: str) -> None:
    said = CliRunner().invoke(main, ["keys", "cluster", "--secret", "keys", "--number", number])
    assert said.exit_code == 2 and "wanted KIND=N" in said.output
