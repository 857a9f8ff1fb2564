import asyncio
import contextlib
import re
import socket
from urllib.parse import urljoin

import httpx
import pytest
import uvicorn
import websockets
from world import ORIGIN, PREFIX

from af_hub.controller.dashboard import MESSAGE_BYTES
from af_hub.controller.states import State


@pytest.fixture
async def running(world):
    cluster = await world.create(name="my cluster")
    await world.until(cluster, "running")
    return cluster


@contextlib.asynccontextmanager
async def browser(world, user="cms-analyst", **headers):
    """A browser at our own address; the hub's is another one, to which it goes by hand."""
    world.hub.browser_user = user
    async with world.api(**headers) as api:
        yield api


async def log_in(world, api, path=""):
    """Go to a page, to the hub, and back again."""
    answer = await api.get(path)
    assert answer.status_code == 302 and answer.headers["location"].startswith(world.hub.url)
    async with httpx.AsyncClient(trust_env=False) as other:
        back = (await other.get(answer.headers["location"])).headers["location"]
    answer = await api.get(f"{ORIGIN}{back}")
    return answer


def csrf_token(text):
    return re.search(r'name="csrf_token" value="([0-9a-f]{64})"', text)[1]


async def test_log_in_see_ones_clusters_and_close_one(world, running):
    async with browser(world) as api:
        answer = await log_in(world, api)
        assert (answer.status_code, answer.headers["location"]) == (302, PREFIX)
        assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=lax" in answer.headers["set-cookie"]
        world.parts.store.become(running, State.RUNNING, State.RUNNING, "<b>bold</b>", 1)
        page = await api.get("")
        assert page.status_code == 200
        assert "&lt;b&gt;bold" in page.text and "<b>" not in page.text and "my cluster" in page.text
        assert running in page.text and "1 of 1" in page.text and "Testing ground" in page.text
        assert "Shared: at T2_A the jobs of different people can read each other" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert not any(token in page.text + str(dict(api.cookies)) for token in world.hub.tokens)
        answer = await api.post(f"clusters/{running}/close", data={"csrf_token": csrf_token(page.text)})
        assert (answer.status_code, answer.headers["location"]) == (303, PREFIX)
    assert world.get(running).state == "closing"


async def test_a_cluster_that_is_over_says_when_it_ended(world, running):
    world.parts.store.become(running, State.RUNNING, State.CLOSED, "", 1_800_000_000)
    async with browser(world) as api:
        await log_in(world, api)
        page = (await api.get("")).text
    assert '<dt>Ended</dt><dd><time datetime="2027-01-15T08:00:00Z">' in page and "Until" not in page


async def test_the_clusters_of_others_are_not_on_the_page_and_cannot_be_closed(world, running):
    async with browser(world, "cms-colleague") as api:
        await log_in(world, api)
        page = await api.get("")
        assert running not in page.text and "You have none" in page.text
        world.owner = world.hub.token_of("cms-colleague")
        await world.create()
        token = csrf_token((await api.get("")).text)
        answer = await api.post(f"clusters/{running}/close", data={"csrf_token": token})
        assert answer.status_code == 404
    assert world.get(running).state == "running"


@pytest.mark.parametrize(
    "form, headers",
    [
        pytest.param({}, {}, id="no token"),
        pytest.param({"csrf_token": "0" * 64}, {}, id="another token"),
        pytest.param({"csrf_token": "ü"}, {}, id="a token that is none"),
        pytest.param(None, {"origin": "http://evil.test"}, id="another origin"),
        pytest.param(None, {"origin": "null"}, id="a page without origin"),
        pytest.param(None, {"sec-fetch-site": "cross-site"}, id="the browser says so"),
        pytest.param(None, {"sec-fetch-site": "same-site"}, id="a sister domain"),
    ],
)
async def test_another_page_cannot_close_it(world, running, form, headers):
    async with browser(world) as api:
        await log_in(world, api)
        form = {"csrf_token": csrf_token((await api.get("")).text)} if form is None else form
        answer = await api.post(f"clusters/{running}/close", data=form, headers=headers)
        assert answer.status_code == 403
    assert world.get(running).state == "running"


async def test_a_form_of_another_session_is_refused(world, running):
    async with browser(world) as one, browser(world) as two:
        await log_in(world, one)
        await log_in(world, two)
        token = csrf_token((await one.get("")).text)
        assert (await two.post(f"clusters/{running}/close", data={"csrf_token": token})).status_code == 403


async def test_a_script_of_another_page_cannot_read_ours(world, running):
    async with browser(world) as api:
        await log_in(world, api)
        assert (await api.get("", headers={"sec-fetch-mode": "cors"})).status_code == 403
        assert (await api.get("", headers={"sec-fetch-mode": "navigate"})).status_code == 200


async def test_a_login_that_this_browser_did_not_begin(world):
    async with browser(world) as victim, browser(world, "cms-colleague") as attacker:
        answer = await attacker.get("")
        async with httpx.AsyncClient(trust_env=False) as other:
            back = (await other.get(answer.headers["location"])).headers["location"]
        assert (await victim.get(f"{ORIGIN}{back}")).status_code == 403
        for query in ("", "?state=x&code=y", "?code=y", "?error=access_denied"):
            assert (await victim.get(f"oauth_callback{query}")).status_code == 403
        assert (await attacker.get(f"{ORIGIN}{back}")).status_code == 302
        assert (await attacker.get(f"{ORIGIN}{back}")).status_code == 403, "a state works once"


async def test_the_list_is_for_our_page_only(world, running):
    async with browser(world) as api:
        await log_in(world, api)
        token = csrf_token((await api.get("")).text)
        ours = await api.get("list", headers={"x-csrf-token": token, "sec-fetch-mode": "cors"})
        assert ours.status_code == 200 and running in ours.text and "<html" not in ours.text
        for headers in ({}, {"x-csrf-token": "0" * 64}, {"x-csrf-token": token, "sec-fetch-site": "same-site"}):
            answer = await api.get("list", headers=headers)
            assert answer.status_code == 403 and running not in answer.text
    async with browser(world) as nobody:
        answer = await nobody.get("list", headers={"x-csrf-token": token})
        assert answer.status_code == 401 and running not in answer.text


async def test_the_page_loads_its_own_script_and_nothing_else(world):
    async with browser(world) as api:
        await log_in(world, api)
        page = await api.get("")
        assert (
            "'unsafe" not in page.headers["content-security-policy"]
            and "*" not in page.headers["content-security-policy"]
        )
        assert f"script-src {ORIGIN}{PREFIX}static/;" in page.headers["content-security-policy"]
        for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
            assert f"{PREFIX}static/{name}" in page.text
            assert (await api.get(f"static/{name}")).headers["content-type"].startswith(kind)
        assert (await api.get("static/../page.py")).status_code == (await api.get("static/look.py")).status_code == 404


@pytest.mark.parametrize(
    "path, status, sentence",
    [
        pytest.param("nonsense", 404, "There is nothing at this address.", id="no route"),
        pytest.param(f"clusters/{'0' * 32}/dashboard/status", 404, "no such Dask cluster of yours", id="no cluster"),
        pytest.param(f"clusters/{'0' * 32}/close", 405, "cannot be done at this address", id="another method"),
        pytest.param("oauth_callback", 403, "not begun in this browser", id="a login of nobody"),
        pytest.param("<b>bold</b>", 404, "There is nothing at this address.", id="markup"),
    ],
)
async def test_errors_are_pages_for_people_and_json_for_programs(world, path, status, sentence):
    people, programs = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, {"accept": "*/*"}
    async with browser(world) as api:
        await log_in(world, api)
        page = await api.get(path, headers=people)
        assert page.status_code == status and page.headers["content-type"].startswith("text/html")
        assert sentence in page.text and f'href="{PREFIX}"' in page.text and "<b>" not in page.text
        assert "script-src" in page.headers["content-security-policy"]
        assert (await api.get(path, headers=programs)).json()["status"] == status
        assert (await api.get(path, headers=people | {"sec-fetch-mode": "no-cors"})).json()["status"] == status
        assert (await api.get(f"api/{path}", headers=people)).json()["title"]


async def test_the_address_without_its_slash(world):
    async with browser(world) as api:
        answer = await api.get(f"{ORIGIN}{PREFIX.rstrip('/')}")
        assert (answer.status_code, answer.headers["location"]) == (302, PREFIX)


async def test_a_fault_of_ours_is_a_page_too(world, monkeypatch):
    async with browser(world) as api:
        await log_in(world, api)
        monkeypatch.setattr(world.parts.store, "of_owner", lambda owner: 1 / 0)
        transport = httpx.ASGITransport(world.app, raise_app_exceptions=False)
        cookies = dict(api.cookies)
    async with httpx.AsyncClient(transport=transport, base_url=f"{ORIGIN}{PREFIX}", cookies=cookies) as api:
        answer = await api.get("", headers={"accept": "text/html"})
        assert answer.status_code == 500 and "its log says more" in answer.text and "ZeroDivision" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_logging_out_at_the_hub_ends_it_here(world):
    async with browser(world) as api:
        await log_in(world, api)
        world.hub.tokens.clear()
        clock = world.parts.hub._clock
        world.parts.hub._clock = lambda: clock() + 11
        assert (await api.get("")).status_code == 302


async def test_logging_out_in_this_browser_ends_it_here_at_once(world):
    async with browser(world) as api:
        api.cookies.set("jupyterhub-session-id", "one", domain="hub.test", path="/")
        await log_in(world, api)
        assert (await api.get("")).status_code == 200
        api.cookies.delete("jupyterhub-session-id")
        assert (await api.get("")).status_code == 302
        api.cookies.set("jupyterhub-session-id", "two", domain="hub.test", path="/")
        assert (await api.get("")).status_code == 302


async def test_somebody_who_may_not_use_the_controller(world):
    async with browser(world) as api:
        await log_in(world, api)
        for model in world.hub.tokens.values():
            model["scopes"] = []
        clock = world.parts.hub._clock
        world.parts.hub._clock = lambda: clock() + 11
        assert (await api.get("")).status_code == 403


async def test_the_dashboard_in_a_browser(world, running):
    dashboard = f"clusters/{running}/dashboard/status"
    async with browser(world) as api:
        answer = await log_in(world, api, dashboard)
        assert answer.headers["location"] == f"{PREFIX}{dashboard}"
        headers = {"X-Forwarded-For": "10.1.1.1", "Referer": "http://hub.test/x", "Accept": "*/*"}
        answer = await api.get(f"{dashboard}?a=%2F&b=1", headers=headers)
        assert answer.text == "<h1>/status?a=%2F&b=1</h1>"
        assert "set-cookie" not in answer.headers and "x-site" not in answer.headers
        assert "default-src *" not in answer.headers["content-security-policy"]
        assert f"connect-src {ORIGIN}{PREFIX}clusters/{running}/dashboard/" in answer.headers["content-security-policy"]
    seen = world.site.agents[running].seen_headers[-1]
    assert {name.lower() for name in seen} <= {
        "host",
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "user-agent",
    }
    assert seen["Host"] == "scheduler"


async def test_redirects_of_the_dashboard_stay_inside(world, running):
    async with world.api(world.owner) as api:
        answer = await api.get(f"clusters/{running}/dashboard/")
    assert answer.status_code == 302
    assert answer.headers["location"] == f"{PREFIX}clusters/{running}/dashboard/status?from=root"


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.test/",
        "//evil.test/",
        "///evil.test",
        "\\\\evil.test/",
        "/\\evil.test/",
        "\\/evil.test",
        "javascript:alert(1)",
        "http:evil.test",
        "https:///evil.test",
    ],
)
async def test_redirects_of_the_dashboard_to_elsewhere(world, running, to):
    async with world.api(world.owner) as api:
        answer = await api.get(f"clusters/{running}/dashboard/go", params={"to": to})
    assert answer.status_code in (302, 503)
    where = urljoin(str(answer.url), answer.headers.get("location", "").replace("\\", "/"))
    assert where.startswith(f"{ORIGIN}{PREFIX}clusters/{running}/dashboard/")


async def test_a_long_way_back_is_not_kept(world, running):
    async with browser(world) as api:
        answer = await log_in(world, api, f"clusters/{running}/dashboard/{'x' * 30_000}")
        assert answer.headers["location"] == PREFIX


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_the_dashboard_is_only_read(world, running, method):
    async with world.api(world.owner) as api:
        assert (await api.request(method, f"clusters/{running}/dashboard/status")).status_code == 405
    assert world.site.agents[running].seen_headers == []


@pytest.mark.parametrize(
    "path", ["../agent/status", "..%2f..%2fx", "//evil.test/x", "%0d%0aX-A:1", "@evil.test/", "a/../../../../x"]
)
async def test_odd_paths_reach_the_dashboard_or_nothing(world, running, path):
    async with world.api(world.owner) as api:
        answer = await api.get(f"clusters/{running}/dashboard/{path}")
    assert answer.status_code in (200, 400, 404), answer.text
    assert "evil" not in answer.headers.get("location", "")


async def test_without_the_tunnel_there_is_a_sentence(world, running):
    world.site.tunnel_down = True
    async with world.api(world.owner) as api:
        answer = await api.get(f"clusters/{running}/dashboard/status")
    assert answer.status_code == 503 and "not connected" in answer.json()["detail"]


async def test_what_a_page_loads_is_not_sent_to_log_in(world, running):
    async with browser(world, **{"sec-fetch-mode": "no-cors"}) as api:
        assert (await api.get(f"clusters/{running}/dashboard/status")).status_code == 401


@contextlib.asynccontextmanager
async def served(world):
    config = uvicorn.Config(world.app, lifespan="off", log_config=None, ws_max_size=MESSAGE_BYTES)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server._serve([listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await task


def stream(port, cluster, path="status/ws", **more):
    headers = more.pop("headers", {})
    url = f"ws://hub.test{PREFIX}clusters/{cluster}/dashboard/{path}"
    return websockets.connect(
        url, host="127.0.0.1", port=port, additional_headers=headers, proxy=None, open_timeout=5, **more
    )


async def test_websockets_of_the_dashboard(world, running):
    async with served(world) as port:
        mine = {"Authorization": f"token {world.owner}", "Cookie": "jupyterhub-session-id=secret"}
        async with stream(port, running, headers=mine, subprotocols=["bokeh", "token"], max_size=None) as socket:
            assert socket.subprotocol == "bokeh"
            await socket.send("hello")
            assert await socket.recv() == "hello"
            await socket.send(b"\x00" * 3_000_000)
            assert len(await socket.recv()) == 3_000_000
        seen = {name.lower(): value for name, value in world.site.agents[running].seen_headers[-1].items()}
        assert not {"cookie", "authorization", "origin", "referer"} & set(seen)


@pytest.mark.parametrize("who", ["other user", "nobody", "another page", "another cluster", "no tunnel"])
async def test_websockets_that_are_refused(world, running, who):
    async with browser(world) as api:
        await log_in(world, api)
        cookie = "; ".join(f"{name}={value}" for name, value in api.cookies.items())
    headers = {
        "other user": {"Authorization": f"token {world.hub.token_of('cms-colleague')}"},
        "nobody": {},
        "another page": {"Cookie": cookie, "Origin": "http://evil.test"},
        "another cluster": {"Cookie": cookie, "Origin": ORIGIN},
        "no tunnel": {"Cookie": cookie, "Origin": ORIGIN},
    }[who]
    world.site.tunnel_down = who == "no tunnel"
    async with served(world) as port:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with stream(port, "f" * 32 if who == "another cluster" else running, headers=headers):
                pass
        assert refused.value.response.status_code == 403
        if who == "another page":
            async with stream(port, running, headers={"Cookie": cookie, "Origin": ORIGIN}) as socket:
                await socket.send("mine")
                assert await socket.recv() == "mine"


async def test_the_cluster_ends_while_somebody_looks(world, running):
    mine = {"Authorization": f"token {world.owner}"}
    async with served(world) as port, stream(port, running, headers=mine) as socket:
        await socket.send("a")
        await socket.recv()
        await world.site.end(world.site.numbers(running)[0])
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
