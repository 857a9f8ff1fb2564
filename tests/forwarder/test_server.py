"""A real forwarder, a real asyncssh client with odd certificates, and the OpenSSH client."""

import asyncio
import itertools
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, suppress

import asyncssh
import pytest

from af_hub.errors import EndpointAway, EndpointRefused, Unavailable
from af_hub.forwarder import ssh
from af_hub.forwarder.access import Endpoint, Service
from af_hub.forwarder.bridge import Bridge
from af_hub.forwarder.client import connect, tcp_connector
from af_hub.forwarder.link import Link
from af_hub.forwarder.login import Credentials, ForwarderAddress
from af_hub.forwarder.relay import SocketEnd
from af_hub.forwarder.server import Forwarder, Limits
from af_hub.testing.forwarder import RunningForwarder, SSHAuthority
from af_hub.testing.require import unavailable

FEW_SECONDS = 10


@pytest.fixture
async def echo():
    """A TCP server that says what it hears."""

    async def serve(reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield tcp_connector(*server.sockets[0].getsockname()[:2])
    server.close()


@pytest.fixture
async def job(forwarder, mine, echo):
    """The job of ``mine``, which offers all three services."""
    async with await connect(forwarder.address, forwarder.certify(f"job:{mine}")) as connection:
        for service in Service:
            await connection.offer(service, echo)
        yield connection


async def plain(forwarder, credentials, **overrides):
    """A connection of asyncssh itself, to ask for what our client never asks for."""
    key = asyncssh.import_private_key(credentials.private_key)
    certificate = asyncssh.import_certificate(credentials.certificate)
    options = ssh.client_options(credentials.principal, key, certificate, forwarder.address.host_key)
    return await asyncssh.connect(forwarder.address.host, forwarder.port, **options | overrides)


async def ask(connection, text=b"hello"):
    reader, writer = connection
    writer.write(text)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), FEW_SECONDS)
    writer.close()
    return answer


async def test_a_session_reaches_its_own_dask_cluster(forwarder, job, mine):
    async with await connect(forwarder.address, forwarder.certify(f"session:{mine}")) as session:
        assert await ask(await session.open(mine, "scheduler")) == b"hello"
        assert await ask(await session.open(mine, "dashboard")) == b"hello"
        with pytest.raises(EndpointRefused):
            await session.open(mine, "agent")
        assert await ask(await session.open(mine, "scheduler"), b"still there") == b"still there"


async def test_the_controller_reaches_agents_and_dashboards_only(forwarder, job, mine):
    async with await connect(forwarder.address, forwarder.certify("controller")) as controller:
        assert await ask(await controller.open(mine, "agent")) == b"hello"
        assert await ask(await controller.open(mine, "dashboard")) == b"hello"
        with pytest.raises(EndpointRefused):
            await controller.open(mine, "scheduler")


async def test_a_session_opens_no_endpoint_of_another_dask_cluster(forwarder, job, mine):
    stranger = secrets.token_hex(16)
    async with await connect(forwarder.address, forwarder.certify(f"session:{stranger}")) as session:
        for service in Service:
            with pytest.raises(EndpointRefused):
                await session.open(mine, service)


async def test_a_job_opens_nothing_not_even_its_own(forwarder, job, mine):
    for service in Service:
        with pytest.raises(EndpointRefused):
            await job.open(mine, service)


@pytest.mark.parametrize("principal", ["session:{mine}", "controller", "job:{other}"])
async def test_nobody_else_offers_an_endpoint(forwarder, mine, principal):
    credentials = forwarder.certify(principal.format(mine=mine, other=secrets.token_hex(16)))
    async with await plain(forwarder, credentials) as connection:
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.create_unix_server(asyncssh.SSHUNIXSession, f"/{mine}/scheduler")


async def test_a_job_offers_no_path_but_its_endpoints_and_each_once(forwarder, job, mine):
    async with await plain(forwarder, forwarder.certify(f"job:{mine}")) as connection:
        for path in (f"/{mine}/shell", f"/{mine}", "/tmp/x.sock", f"/{mine}/scheduler/", f"/{mine}/Scheduler"):
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.create_unix_server(asyncssh.SSHUNIXSession, path)
        await connection.create_unix_server(asyncssh.SSHUNIXSession, f"/{mine}/agent")
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.create_unix_server(asyncssh.SSHUNIXSession, f"/{mine}/agent")


LOGINS = {
    "no principal": ([], "session:{mine}"),
    "two principals": (["session:{mine}", "session:{other}"], "session:{mine}"),
    "wrong principal": (["session:{other}"], "session:{mine}"),
    "another role": (["session:{mine}"], "job:{mine}"),
    "a user of the machine": (["root"], "root"),
    "upper case": (["SESSION:{mine}"], "SESSION:{mine}"),
}


@pytest.mark.parametrize("names, username", LOGINS.values(), ids=LOGINS.keys())
async def test_certificates_that_name_somebody_else_are_refused(forwarder, mine, names, username):
    words = {"mine": mine, "other": "f" * 32}
    credentials = forwarder.certify([name.format(**words) for name in names], username.format(**words))
    with pytest.raises(EndpointRefused):
        await connect(forwarder.address, credentials)


async def test_an_expired_certificate_is_refused(forwarder, mine):
    with pytest.raises(EndpointRefused):
        await connect(forwarder.address, forwarder.certify(f"session:{mine}", valid_for=-1))


async def test_a_certificate_of_the_future_is_refused(forwarder, mine):
    with pytest.raises(EndpointRefused):
        await connect(forwarder.address, forwarder.certify(f"session:{mine}", valid_after=600))


async def test_a_certificate_of_another_ca_is_refused(forwarder, mine):
    with pytest.raises(EndpointRefused):
        await connect(forwarder.address, SSHAuthority().certify(f"session:{mine}"))


@pytest.mark.slow
async def test_a_certificate_that_expires_while_connected_ends_the_connection(forwarder, job, mine):
    session = await connect(forwarder.address, forwarder.certify(f"session:{mine}", valid_for=2))
    reader, _ = await session.open(mine, "scheduler")
    await asyncio.wait_for(session.wait_closed(), FEW_SECONDS)
    assert session.sent_away
    with pytest.raises(asyncssh.DisconnectError, match="expired"):
        await asyncio.wait_for(reader.read(), FEW_SECONDS)


async def test_a_key_without_certificate_and_passwords_are_refused(forwarder, mine):
    credentials = forwarder.certify(f"session:{mine}")
    bare = {"client_keys": [asyncssh.import_private_key(credentials.private_key)]}
    words = {"client_keys": None, "password": "x", "preferred_auth": "password,keyboard-interactive"}
    for overrides in (bare, words | {"password_auth": True, "kbdint_auth": True}):
        with pytest.raises(asyncssh.PermissionDenied):
            await plain(forwarder, credentials, **overrides)


async def test_a_certificate_without_port_forwarding_is_worth_nothing(forwarder, job, mine):
    credentials = forwarder.certify(f"session:{mine}", port_forwarding=False)
    async with await connect(forwarder.address, credentials) as session:
        with pytest.raises(EndpointRefused):
            await session.open(mine, "scheduler")


async def test_tries_are_counted(forwarder, mine):
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(20)]
    with pytest.raises(asyncssh.DisconnectError) as caught:
        await plain(forwarder, forwarder.certify(f"session:{mine}"), client_keys=keys)
    assert "too many tries" in caught.value.reason


@pytest.mark.parametrize("role", ["job", "session", "controller"])
async def test_whatever_is_not_an_endpoint_is_refused(forwarder, mine, role):
    principal = role if role == "controller" else f"{role}:{mine}"
    async with await plain(forwarder, forwarder.certify(principal)) as connection:
        for command in ("id", "", "events now", "drop all", "drop", f"drop {mine} {mine}"):
            with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ProcessError)):
                await connection.run(command, check=True)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("events", term_type="xterm", request_pty="force")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_session(asyncssh.SSHClientSession, subsystem="sftp")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", forwarder.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_tun()
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
        for path in ("/var/run/docker.sock", f"/{mine}/shell", "", "/" + "x" * 5000):
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_unix_connection(path)
        assert not connection.is_closed()


async def test_agent_and_x11_are_not_forwarded(forwarder):
    async with await plain(forwarder, forwarder.certify("controller"), agent_forwarding=True) as connection:
        process = await connection.create_process("events")
        await asyncio.wait_for(process.stdout.readline(), FEW_SECONDS)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("events", x11_forwarding=True, x11_display="localhost:0")


async def test_no_more_connections_at_once_than_an_address_may_have_without_login(forwarder, mine):
    sockets = [socket.create_connection(("127.0.0.1", forwarder.port), FEW_SECONDS) for _ in range(80)]
    try:
        greeted = 0
        for each in sockets:
            try:
                greeted += each.recv(4) == b"SSH-"
            except ConnectionResetError:
                pass
        assert greeted == 64
    finally:
        for each in sockets:
            each.close()
    async with Link(forwarder.address, forwarder.certify("controller")) as link:
        await asyncio.wait_for(link.connection(), FEW_SECONDS)


async def test_the_host_key_is_pinned(forwarder, mine):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    impostor = ForwarderAddress(forwarder.address.host, forwarder.port, other)
    with pytest.raises(Unavailable, match="another host key"):
        await connect(impostor, forwarder.certify(f"session:{mine}"))


async def test_what_nobody_offers_is_away(forwarder, mine):
    async with await connect(forwarder.address, forwarder.certify(f"session:{mine}")) as session:
        with pytest.raises(EndpointAway):
            await session.open(mine, "scheduler")


async def test_a_program_that_does_not_listen_is_away(forwarder, mine):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with await connect(forwarder.address, forwarder.certify(f"job:{mine}")) as job:
            await job.offer("scheduler", tcp_connector(*closed.getsockname()))
            async with await connect(forwarder.address, forwarder.certify(f"session:{mine}")) as session:
                with pytest.raises(EndpointAway):
                    await session.open(mine, "scheduler")


async def test_the_newest_job_takes_over(forwarder, job, mine, echo):
    async with await connect(forwarder.address, forwarder.certify(f"job:{mine}")) as newer:
        await asyncio.wait_for(job.wait_closed(), FEW_SECONDS)
        assert job.sent_away
        await newer.offer("scheduler", echo)
        async with await connect(forwarder.address, forwarder.certify(f"session:{mine}")) as session:
            assert await ask(await session.open(mine, "scheduler")) == b"hello"


async def test_the_controller_sees_what_comes_and_goes_and_drops_a_dask_cluster(forwarder, mine, echo):
    async with await connect(forwarder.address, forwarder.certify("controller")) as controller:
        events = controller.events()

        async def next_of_mine():
            while (event := await anext(events)).get("cluster") != mine:
                pass
            return event["event"], event["service"]

        job = await connect(forwarder.address, forwarder.certify(f"job:{mine}"))
        session = await connect(forwarder.address, forwarder.certify(f"session:{mine}"))
        async with asyncio.timeout(FEW_SECONDS):
            await job.offer("scheduler", echo)
            assert await next_of_mine() == ("offered", "scheduler")
            late = controller.events()
            seen = [await anext(late)]
            while seen[-1] != {"event": "snapshot"}:
                seen.append(await anext(late))
            assert {"event": "offered", "cluster": mine, "service": "scheduler"} in seen
            assert await controller.drop(mine) == 2
            assert await next_of_mine() == ("gone", "scheduler")
            await job.wait_closed()
            await session.wait_closed()
        for principal in ("job", "session"):
            with pytest.raises(EndpointRefused):
                await connect(forwarder.address, forwarder.certify(f"{principal}:{mine}"))


async def test_openssh_opens_an_endpoint(forwarder, job, mine, tmp_path):
    program = shutil.which("ssh") or unavailable("no OpenSSH client on this machine")
    credentials = forwarder.certify(f"session:{mine}")
    for name, text in (("key", credentials.private_key), ("key-cert.pub", credentials.certificate)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "known").write_text(f"[127.0.0.1]:{forwarder.port} {forwarder.address.host_key}\n")
    options = ["StrictHostKeyChecking=yes", "UserKnownHostsFile=known", "IdentitiesOnly=yes", "BatchMode=yes"]
    argv = [program, "-F", "none", "-N", "-v", "-i", "key", "-l", credentials.principal, "-p", str(forwarder.port)]
    argv += [word for option in [*options, "ExitOnForwardFailure=yes"] for word in ("-o", option)]
    argv += ["-L", f"./local.sock:/{mine}/scheduler", "-L", f"./agent.sock:/{mine}/agent", "127.0.0.1"]
    process = await asyncio.create_subprocess_exec(*argv, cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(FEW_SECONDS):
            while b"Entering interactive session" not in (line := await process.stderr.readline()):
                assert line, "ssh ended"
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "local.sock"))
            assert await ask((reader, writer)) == b"hello"
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "agent.sock"))
            assert await reader.read() == b""
    finally:
        process.terminate()
        await process.communicate()


async def test_nothing_of_ssh_in_the_home_is_read(forwarder, mine, tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n  User mallory\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nothing"))
    async with await connect(forwarder.address, forwarder.certify(f"session:{mine}")):
        pass


def test_the_host_key_is_made_once_and_private(forwarder):
    path = forwarder.folder / "host_key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert asyncssh.read_private_key(path).export_public_key().decode().startswith(forwarder.address.host_key)


def test_keys_do_not_show_in_a_representation(forwarder):
    assert "PRIVATE" not in repr(forwarder.certify("controller"))


def test_sessions_need_neither_jupyterhub_nor_dask():
    code = "import af_hub.forwarder.client, af_hub.forwarder.server, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jupyterhub", "distributed", "dask", "htcondor2", "tornado", "fastapi"} & set(modules)


@pytest.mark.slow
async def test_a_bridge_and_a_job_come_back_after_the_forwarder_did(tmp_path, mine, echo):
    with RunningForwarder(tmp_path) as own:
        offers = {Service.SCHEDULER: echo}
        async with (
            Link(own.address, own.certify(f"job:{mine}"), offers),
            Link(own.address, own.certify(f"session:{mine}")) as link,
            Bridge(link, Endpoint(mine, Service.SCHEDULER)) as bridge,
        ):
            async with asyncio.timeout(30):
                assert await ask(await asyncio.open_connection("127.0.0.1", bridge.port)) == b"hello"
                broken = await asyncio.open_connection("127.0.0.1", bridge.port)
                broken[1].write(b"x")
                assert await broken[0].read(1) == b"x"
                own.stop()
                with pytest.raises(ConnectionResetError):
                    await broken[0].read()
                # accepted while there is no forwarder, and held
                held = await asyncio.open_connection("127.0.0.1", bridge.port)
                held[1].write(b"early")
                own.start()
                assert await ask(held, b" bird") == b"early bird"


async def test_a_bridge_gives_up_with_a_reset(tmp_path, forwarder, mine):
    async with (
        Link(forwarder.address, forwarder.certify(f"session:{mine}")) as link,
        Bridge(link, Endpoint(mine, Service.SCHEDULER), patience=0.3) as bridge,
    ):
        reader, _ = await asyncio.open_connection("127.0.0.1", bridge.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), FEW_SECONDS)


async def test_a_bridge_on_a_unix_socket_is_private(tmp_path, forwarder, job, mine):
    path = tmp_path / "b.sock"
    async with (
        Link(forwarder.address, forwarder.certify(f"session:{mine}")) as link,
        Bridge(link, Endpoint(mine, Service.SCHEDULER), path=path),
    ):
        assert path.stat().st_mode & 0o777 == 0o600
        assert await ask(await asyncio.open_unix_connection(str(path))) == b"hello"
    assert not path.exists()


@pytest.mark.parametrize("principal", ["session:{mine}", "job:{mine}"])
async def test_events_are_for_the_controller(forwarder, mine, principal):
    async with await connect(forwarder.address, forwarder.certify(principal.format(mine=mine))) as connection:
        with pytest.raises(EndpointRefused):
            await anext(connection.events())
        with pytest.raises(Unavailable):
            await connection.drop(mine)


async def test_events_end_with_the_connection(tmp_path):
    with RunningForwarder(tmp_path) as own:
        async with await connect(own.address, own.certify("controller")) as controller:
            events = controller.events()
            assert await anext(events) == {"event": "snapshot"}
            own.stop()
            async with asyncio.timeout(FEW_SECONDS):
                assert [event async for event in events] == []


async def test_keys_that_cannot_be_read_are_refused_not_fatal(forwarder):
    broken = Credentials("controller", "no key", "no certificate")
    with pytest.raises(EndpointRefused, match="cannot be read"):
        await connect(forwarder.address, broken)


async def test_a_stream_that_nobody_waits_for_any_more_is_closed_when_it_comes(forwarder, mine):
    called, answer, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        with suppress(ConnectionError):
            await reader.read()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reach = tcp_connector(*server.sockets[0].getsockname()[:2])

    async def slow(protocol):
        called.set()
        await answer.wait()
        return await reach(protocol)

    async with (
        asyncio.timeout(FEW_SECONDS),
        await connect(forwarder.address, forwarder.certify(f"job:{mine}")) as job,
        await connect(forwarder.address, forwarder.certify(f"session:{mine}")) as session,
    ):
        await job.offer("scheduler", slow)
        waiting = asyncio.create_task(session.join(Endpoint(mine, Service.SCHEDULER), SocketEnd()))
        await called.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        answer.set()
        await ended.wait()
    server.close()


@pytest.mark.slow
async def test_streams_that_are_asked_for_all_at_once_are_counted(forwarder, mine):
    """None of them is open when the last is asked for."""
    never = asyncio.Event()

    async def connector(protocol):
        await never.wait()
        raise OSError("it was a long day")

    limit = Limits().streams
    async with await connect(forwarder.address, forwarder.certify(f"job:{mine}")) as job:
        await job.offer(Service.SCHEDULER, connector)
        async with await plain(forwarder, forwarder.certify(f"session:{mine}")) as session:
            asked = [session.open_unix_connection(f"/{mine}/scheduler") for _ in range(limit + 100)]
            tasks = [asyncio.create_task(one) for one in asked]
            for done in itertools.islice(asyncio.as_completed(tasks, timeout=FEW_SECONDS), 100):
                with pytest.raises(asyncssh.ChannelOpenError) as error:
                    await done
                assert error.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with await plain(forwarder, forwarder.certify(f"session:{mine}")) as another:
            never.set()
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await another.open_unix_connection(f"/{mine}/scheduler")
            assert error.value.code == asyncssh.OPEN_CONNECT_FAILED, (
                "the streams of the one that has gone were given back"
            )


@pytest.mark.slow
async def test_a_dask_cluster_has_so_many_sessions(forwarder, mine):
    limit = Limits().sessions
    credentials = forwarder.certify(f"session:{mine}")
    async with AsyncExitStack() as stack:
        for _ in range(limit):
            await stack.enter_async_context(await plain(forwarder, credentials))
        with pytest.raises(EndpointRefused):
            async with asyncio.timeout(FEW_SECONDS), await connect(forwarder.address, credentials) as one_more:
                await one_more.wait_closed()
                if one_more.sent_away:
                    raise EndpointRefused("sent away a moment later")
        await stack.enter_async_context(await connect(forwarder.address, forwarder.certify("session:" + "e" * 32)))


def test_windows_shrink_with_the_streams():
    limits = Limits()
    forwarder = Forwarder(None, limits)
    windows = [forwarder.take_stream("a") for _ in range(limits.streams)]
    assert windows[0] == ssh.WINDOW and windows[4] >= 4 << 20 and windows[-1] == ssh.LEAST_WINDOW
    assert 2 * sum(windows) <= limits.window_bytes + 2 * limits.streams * ssh.LEAST_WINDOW
    with pytest.raises(EndpointRefused):
        forwarder.take_stream("a")
    assert forwarder.take_stream("b") == ssh.WINDOW
    for window in windows:
        forwarder.give_back_stream("a", window)
    assert forwarder.take_stream("a") == ssh.WINDOW
