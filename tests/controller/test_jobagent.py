"""A job agent that is a program of the cluster's owner: it has all keys of its job, and answers what it likes."""

import asyncio
import gzip
import ssl
import time

import pytest

from af_hub.controller.jobagent import ANSWER_BYTES, JobAgents, read_report
from af_hub.controller.keys import ClusterKeys, UserCA
from af_hub.controller.steps import Report
from af_hub.errors import Unavailable

CLUSTER = "c" * 32
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def whole(body, *headers):
    return HEAD + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Endpoints:
    """Leads to one Unix socket."""

    def __init__(self, path):
        self.path = path

    def offered(self, cluster, service):
        return True

    async def socket(self, cluster, service):
        return self.path

    async def forget(self, cluster):
        pass


@pytest.fixture
def agents_of(tmp_path):
    """Calls to an agent whose part ``serve`` plays, with the certificate of ``role``."""
    keys = ClusterKeys(tmp_path, CLUSTER)
    keys.make(UserCA(tmp_path), time.time() + 600)
    path = tmp_path / "s"
    opened = []

    async def open_agents(serve, role="scheduler"):
        async def respond(reader, writer):
            try:
                await reader.readuntil(b"\r\n\r\n")
                await serve(writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(keys.path(f"tls-{role}.pem"), keys.path(f"tls-{role}.key"))
        opened.append(await asyncio.start_unix_server(respond, str(path), ssl=tls))
        return JobAgents(Endpoints(path), tmp_path, seconds=0.5)

    yield open_agents
    for server in opened:
        server.close()


def says(*pieces, again=b"", pause=0.0):
    async def serve(writer):
        for piece in pieces:
            writer.write(piece)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)
        await writer.drain()

    return serve


GOOD = b'{"scheduler": "tls://10.0.0.1:1", "workers": [{"name": "w-0"}]}'


async def test_an_agent_that_behaves(agents_of):
    agents = await agents_of(says(whole(GOOD)))
    assert await agents.report(CLUSTER) == Report("tls://10.0.0.1:1", frozenset({"w-0"}))
    await agents.close()


@pytest.mark.parametrize("call", ["report", "log"])
@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(says(HEAD + b"\r\n", again=b"x" * 65536), id="without end"),
        pytest.param(says(HEAD + b"Content-Length: 99999999\r\n\r\n", again=b" " * 65536), id="larger than the bound"),
        pytest.param(says(HEAD + b"\r\n", again=b" ", pause=0.05), id="a byte now and then"),
        pytest.param(says(HEAD, again=b"X-A: b\r\n", pause=0.05), id="headers without end"),
        pytest.param(says(again=b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.05), id="not yet, for ever"),
        pytest.param(
            says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), id="go on"
        ),
        pytest.param(says(b"HTTP/1.1 302 Found\r\nLocation: http:odd\r\nContent-Length: 0\r\n\r\n"), id="go nowhere"),
        pytest.param(says(b"\0" * 1000), id="no HTTP"),
        pytest.param(says(), id="nothing"),
    ],
)
async def test_answers_without_measure(agents_of, serve, call):
    """Each ends soon and is no more than an agent that does not answer."""
    agents = await agents_of(serve)
    begin = time.monotonic()
    if call == "report":
        assert (await agents.report(CLUSTER)).trouble
    else:
        with pytest.raises(Unavailable):
            await agents.log(CLUSTER, "agent")
    assert time.monotonic() - begin < 5
    await agents.close()


async def test_what_is_packed_stays_packed(agents_of):
    bomb = gzip.compress(b" " * (8 * ANSWER_BYTES))
    agents = await agents_of(says(whole(bomb, b"Content-Encoding: gzip")))
    assert (await agents.report(CLUSTER)).trouble
    assert len(await agents.log(CLUSTER, "agent")) <= len(bomb)
    await agents.close()


@pytest.mark.parametrize("role", ["worker", "controller"])
async def test_another_role_cannot_play_the_agent(agents_of, role):
    agents = await agents_of(says(whole(GOOD)), role)
    assert (await agents.report(CLUSTER)).trouble
    await agents.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"{}",
        b"\xff",
        b'{"scheduler": "", "workers": 7}',
        b'{"scheduler": "", "workers": [7]}',
        b"[" * 200_000,
    ],
)
def test_what_is_no_status(body):
    with pytest.raises(Unavailable):
        read_report(body)


def test_names_are_short():
    report = read_report(b'{"scheduler": "%s", "workers": [{"name": "%s"}, {"name": {}}]}' % (b"s" * 9999, b"w" * 9999))
    assert len(report.scheduler) == 256 and {len(name) for name in report.workers} == {256, 2}
