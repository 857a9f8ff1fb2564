"""What is read at the controller's address while nobody is there, and that nothing else comes between when somebody is."""

import asyncio
import http
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.http11 import Request, Response
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from af_hub.away import TITLE
from af_hub.client.api import Controller
from af_hub.errors import Unavailable
from af_hub.testing.chromium import Person
from af_hub.testing.hub import RealHub

pytestmark = pytest.mark.real

SENTENCE = "The controller of Dask clusters does not answer at the moment."
CONTACT = "facility-admin@af-hub.test"


@pytest.fixture
def address(hub: RealHub) -> str:
    """Where people would find the controller."""
    return f"{hub.url}services/af-controller/"


@contextmanager
def controller(url: str) -> Iterator[None]:
    """Somebody who answers 503 to every question and echoes what comes by WebSocket."""

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Upgrade") == "websocket":
            return None
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "my own words")

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", urlsplit(url).port, process_request=refuse) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_a_page_for_people(hub: RealHub, address: str, person: Person) -> None:
    for path in ("", "clusters/x/dashboard/status"):
        person.go(address + path)
        person.read(SENTENCE)
        assert TITLE in person.browser.title and CONTACT in person.text()
        assert person.faults_everywhere() == {}
    page = httpx.get(address.rstrip("/"), headers={"Accept": "text/html"})
    assert page.status_code == 502 and "Set-Cookie" not in page.headers and SENTENCE in page.text


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_problem_for_programs(address: str, method: str) -> None:
    answer = httpx.request(method, f"{address}api/clusters", json={"site": "T2_A"} if method == "POST" else None)
    assert answer.status_code == 502 and answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(SENTENCE)


def test_a_notebook_is_told_the_same(address: str) -> None:
    with pytest.raises(Unavailable, match=SENTENCE):
        asyncio.run(Controller(address, "0" * 32).clusters())


def test_a_controller_speaks_for_itself(hub: RealHub, address: str) -> None:
    with controller(hub.plan.controller_url):
        answer = httpx.get(f"{address}api/clusters", headers={"Accept": "text/html"})
        assert answer.status_code == 503 and answer.text == "my own words"
        with connect(f"{address.replace('http', 'ws', 1)}clusters/x/dashboard/ws", proxy=None) as socket:
            socket.send("hello")
            assert socket.recv(timeout=10) == "hello"
