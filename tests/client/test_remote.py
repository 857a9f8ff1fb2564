import asyncio
import logging
import threading
import time
import warnings
from pathlib import Path

import pytest
from dask import config as dask_config
from distributed import Client
from distributed.core import Status
from fake_facility import CLUSTER, RUNNING, TOKEN, WAITING

from af_hub.client import remote, way
from af_hub.client import words as words_of
from af_hub.client.remote import RemoteHTCondor
from af_hub.client.security import load_security
from af_hub.errors import ClusterFailed, LoginRequired, Refused, Unavailable


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(remote, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(way, "DISCONNECT_SECONDS", 2)


def test_the_whole_life_in_a_notebook(facility, dask, capsys):
    facility.states = [WAITING, WAITING, {"state": "starting", "reason": "its scheduler starts"}, RUNNING]
    cluster = RemoteHTCondor(sitename="T2_A", user_cores=2, user_memory="1.5 GiB", name="mine")
    assert facility.said("POST") == [
        (
            "api/clusters",
            {"site": "T2_A", "image": "python-analysis", "workers": 1, "cores": 2}
            | {"memory": 3 * 2**29, "name": "mine"},
        )
    ]
    told = capsys.readouterr().out
    assert told.count("waiting for a free slot") == 1 and "its scheduler starts" in told and "is ready" in told
    with Client(cluster) as client:
        assert client.submit(lambda: 1 + 1).result(timeout=30) == 2
        assert client.dashboard_link == cluster.dashboard_link
        assert cluster.dashboard_link.endswith(f"{CLUSTER}/dashboard/status")
    assert "'mine' at T2_A, running, workers 1 of 1" in repr(cluster)
    cluster.scale(3)
    assert facility.said("PATCH") == [(f"api/clusters/{CLUSTER}", {"workers": 3})] and "1 of 3" in repr(cluster)
    assert "hello" in cluster.logs()
    cluster.close()
    cluster.close()
    assert facility.said("DELETE") == [(f"api/clusters/{CLUSTER}", None)]
    assert facility.said("agent DELETE") and cluster.status == Status.closed
    assert "closed, workers 0 of 3" in repr(cluster)


async def test_the_whole_life_in_async_code(facility, dask):
    async with (
        RemoteHTCondor("T2_A", asynchronous=True, quiet=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        assert await client.submit(lambda: 20 + 1) == 21
        await cluster.scale(2)
        assert "hello" in await cluster.logs()
    assert facility.cluster["state"] == "closing"
    await cluster.close()


def test_as_a_context(facility, dask):
    with RemoteHTCondor("T2_A", quiet=True) as cluster, Client(cluster) as client:
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
    assert facility.cluster["state"] == "closing"


def test_any_kernel_finds_the_credentials(facility, dask):
    import dask.config

    with dask.config.set({"distributed.client.security-loader": "af_hub.client.security.load_security"}):
        with Client(facility.scheduler) as client:
            assert client.submit(sum, [2, 3]).result(timeout=30) == 5


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tls://10.0.0.1:8786", "inproc://x", ""])
def test_the_loader_leaves_other_addresses_alone(facility, address):
    assert load_security({"address": address}) is None


def test_an_address_on_this_machine_that_nobody_knows(facility):
    facility.scheduler = "tls://127.0.0.1:4567"
    loader = {"distributed.client.security-loader": "af_hub.client.security.load_security"}
    with dask_config.set(loader), pytest.raises(Refused, match=r"127\.0\.0\.1:9; reached are: tls://127\.0\.0\.1:4567"):
        Client("tls://127.0.0.1:9")
    with dask_config.set({"distributed.comm.tls.ca-file": "own.pem"}):
        assert load_security({"address": "tls://127.0.0.1:9"}) is None


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"user_memory": "much"}, "user_memory='much' is no size of memory"),
        ({"user_memory": None}, "user_memory=None is no size"),
        ({"user_memory": "4"}, "user_memory='4' is less than .* as in \"4 GiB\""),
        ({"user_memory": 0}, 'user_memory=0 is less than .* as in "2 GiB"'),
        ({"start_timeout": "soon"}, "start_timeout='soon' is no duration"),
    ],
)
def test_what_is_no_size_or_duration(facility, wrong, says):
    with pytest.raises(Refused, match=says):
        RemoteHTCondor("T2_A", quiet=True, **wrong)
    assert not facility.said("POST")


def test_a_cluster_that_is_lost_is_told(facility, dask, monkeypatch, caplog):
    monkeypatch.setattr(way, "SYNC_SECONDS", 0.05)
    reason = "the scheduler job is gone: it was removed; its tasks and results are gone. Start a new one"
    with RemoteHTCondor("T2_A", name="mine", quiet=True) as cluster:
        facility.states = [{"state": "lost", "reason": reason}]
        deadline = time.monotonic() + 10
        while reason not in repr(cluster):
            assert time.monotonic() < deadline, repr(cluster)
            time.sleep(0.02)
        assert f"'mine' at T2_A, lost: {reason}" in repr(cluster) and reason in cluster._repr_html_()
        assert caplog.text.count(f"The Dask cluster mine is lost: {reason}") == 1


def test_a_notebook_shows_the_sentence_and_no_frames(facility):
    facility.refuses = (403, "The site T2_A is not open to your groups; open are: T2_B.")
    with pytest.raises(Refused) as raised:
        RemoteHTCondor("T2_A", quiet=True)
    assert raised.value._render_traceback_() == [f"Refused: {facility.refuses[1]}"]
    assert raised.value.__cause__ is None


@pytest.mark.slow
def test_the_loader_without_an_agent(facility, monkeypatch, tmp_path):
    monkeypatch.setenv("AF_AGENT_SOCKET", str(tmp_path / "none.sock"))
    with pytest.raises(Unavailable, match="session agent does not answer"):
        load_security({"address": "tls://127.0.0.1:1"})
    assert load_security({"address": "tcp://127.0.0.1:1"}) is None
    monkeypatch.delenv("AF_AGENT_SOCKET")
    assert load_security({"address": "tls://127.0.0.1:1"}) is None


@pytest.mark.parametrize("state", ["failed", "lost", "closed", "closing"])
def test_a_cluster_that_does_not_come_up(facility, state):
    facility.states = [WAITING, {"state": state, "reason": "HTCondor holds the scheduler job: no image"}]
    with pytest.raises(ClusterFailed, match=f"is {state}: HTCondor holds"):
        RemoteHTCondor("T2_A", quiet=True)
    assert facility.said("DELETE"), "nothing is left behind"


def test_waiting_has_an_end(facility):
    facility.states = [WAITING]
    with pytest.raises(
        ClusterFailed, match=r"within 0.1 s, .* It was still queued: waiting for a free slot at T2_A\.$"
    ):
        RemoteHTCondor("T2_A", quiet=True, start_timeout="100 ms")
    assert facility.cluster["state"] == "closing"


def test_waiting_ends_also_while_the_controller_waits_for_news(facility):
    facility.waits_for_news = True
    began = time.monotonic()
    with pytest.raises(ClusterFailed, match=r"within 0.1 s, .* It was still requested\.$"):
        RemoteHTCondor("T2_A", quiet=True, start_timeout="100 ms")
    assert time.monotonic() - began < 5 and facility.cluster["state"] == "closing"


async def test_whoever_is_interrupted_leaves_nothing_behind(facility):
    facility.states = [WAITING]
    waiting = asyncio.ensure_future(_started())
    while not facility.said("GET"):
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert facility.cluster["state"] == "closing"


async def _started():
    return await RemoteHTCondor("T2_A", asynchronous=True, quiet=True)


def test_a_controller_that_restarts_meanwhile(facility, dask):
    facility.states = [WAITING, RUNNING]

    class Later(list):
        def pop(self, index=0):
            facility.away_for = 2
            return super().pop(index)

    facility.states = Later(facility.states)
    with RemoteHTCondor("T2_A", quiet=True) as cluster:
        assert cluster.status == Status.running


@pytest.mark.parametrize(
    "refuses, error",
    [
        ((403, "The site T2_A is not open to your groups; open are: T2_B."), Refused),
        ((422, "cores: too many"), Refused),
        ((401, "The hub does not know this token."), LoginRequired),
        ((503, "the hub does not answer"), Unavailable),
    ],
)
def test_a_refusal_is_the_controllers_sentence(facility, refuses, error):
    facility.refuses = refuses
    with pytest.raises(error, match=refuses[1]):
        RemoteHTCondor("T2_A", quiet=True)
    assert not facility.said("DELETE")


def test_scaling_too_far(facility, dask):
    with RemoteHTCondor("T2_A", quiet=True) as cluster:
        with pytest.raises(Refused, match="your limit is 8"):
            cluster.scale(9)
        with pytest.raises(NotImplementedError):
            cluster.adapt(minimum=1, maximum=2)


def test_the_agent_cannot_attach(facility, monkeypatch):
    monkeypatch.setattr(way, "ATTACH_AWAY_SECONDS", 0)
    facility.agent_away = True
    with pytest.raises(Unavailable, match="controller does not answer"):
        RemoteHTCondor("T2_A", quiet=True)
    assert facility.cluster["state"] == "closing"


def test_controller_and_agent_may_be_away_for_a_moment_when_the_way_is_opened(facility, dask):
    facility.agent_away_for = 2
    with RemoteHTCondor("T2_A", quiet=True) as cluster, Client(cluster) as client:
        assert client.submit(lambda: 42).result(timeout=20) == 42


def test_no_way_is_opened_before_the_agent_is_back(facility, dask, monkeypatch):
    """It was killed: nothing listens on its socket for a moment."""
    there = facility.socket
    monkeypatch.setenv("AF_AGENT_SOCKET", f"{there}.later")
    back = threading.Timer(0.5, lambda: Path(f"{there}.later").symlink_to(there))
    back.start()
    with RemoteHTCondor("T2_A", quiet=True) as cluster:
        assert load_security({"address": cluster.scheduler_address})
    back.join()


def test_a_cluster_of_an_earlier_session_is_reached_by_name(facility, dask):
    earlier = RemoteHTCondor("T2_A", name="mine", quiet=True)
    loader = {"distributed.client.security-loader": "af_hub.client.security.load_security"}
    with dask_config.set(loader), Client(RemoteHTCondor.reach("mine")) as client:
        assert client.submit(lambda: 42).result(timeout=20) == 42
    assert RemoteHTCondor.reach(CLUSTER) == facility.scheduler
    with pytest.raises(Refused, match="no running Dask cluster 'other'; running are: mine"):
        RemoteHTCondor.reach("other")
    earlier.close()
    with pytest.raises(Refused, match="running are: none"):
        RemoteHTCondor.reach("mine")


@pytest.mark.parametrize(
    "found, before, now, words",
    [
        pytest.param(RUNNING, 7, 7, "the connection to the forwarder broke. The cluster lives on", id="same agent"),
        pytest.param(RUNNING, 7, 8, "the session agent was started anew. The cluster lives on", id="another agent"),
        pytest.param(RUNNING, 7, 0, "the session agent does not answer. The cluster lives on", id="no agent"),
        pytest.param({"state": "lost", "reason": "its node went"}, 7, 7, "is lost: its node went", id="cluster over"),
    ],
)
def test_what_is_said_when_the_way_breaks(found, before, now, words):
    assert words in words_of.say_broken({"name": "mine", **found}, before, now)


def test_the_tunnel_leads_nowhere(facility, dask, monkeypatch):
    import dask.config

    monkeypatch.setattr(way, "CONNECT_SECONDS", 1)
    facility.scheduler = "tls://127.0.0.1:1"
    with dask.config.set({"distributed.comm.timeouts.connect": "600s"}):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer through the tunnel"):
            RemoteHTCondor("T2_A", quiet=True)
        assert time.monotonic() - began < 20
    assert facility.cluster["state"] == "closing"


def test_closing_when_the_tunnel_is_down(facility, dask, caplog):
    cluster = RemoteHTCondor("T2_A", quiet=True)
    with caplog.at_level(logging.CRITICAL):
        dask.close()
        began = time.monotonic()
        cluster.close()
    assert time.monotonic() - began < 15
    assert facility.cluster["state"] == "closing" and cluster.status == Status.closed


def test_closing_when_the_controller_is_away(facility, dask):
    cluster = RemoteHTCondor("T2_A", quiet=True)
    facility.away_for = 5
    with pytest.raises(Unavailable, match="may live on; close it on the page http"):
        cluster.close()
    assert cluster.status == Status.closed


def test_the_list(facility, dask):
    assert RemoteHTCondor.list() == []
    with RemoteHTCondor("T2_A", quiet=True):
        assert [one["id"] for one in RemoteHTCondor.list()] == [CLUSTER]


async def test_the_list_where_a_loop_runs_already(facility):
    assert RemoteHTCondor.list() == []


def test_what_is_missing_is_said(facility, monkeypatch):
    with pytest.raises(Refused, match="open to you are: T2_A, T2_B"):
        RemoteHTCondor()
    monkeypatch.delenv("AF_IMAGE")
    with pytest.raises(Refused, match="AF_IMAGE"):
        RemoteHTCondor("T2_A")
    monkeypatch.delenv("AF_CONTROLLER_URL")
    with pytest.raises(Unavailable, match="no session of the facility"):
        RemoteHTCondor("T2_A", image="i")


def test_the_only_site_need_not_be_named(facility, monkeypatch):
    monkeypatch.setenv("AF_SITES", "T2_B")
    facility.refuses = (403, "no")
    with pytest.raises(Refused):
        RemoteHTCondor(quiet=True)
    assert facility.said("POST")[0][1]["site"] == "T2_B"


def test_html_is_escaped_and_holds_no_secret(facility, dask):
    with RemoteHTCondor("T2_A", quiet=True, name="<script>alert(1)</script>") as cluster:
        text = cluster._repr_html_() + repr(cluster) + repr(vars(cluster)) + str(cluster._cluster_info)
        assert "<script>" not in cluster._repr_html_() and "Dashboard</a>" in cluster._repr_html_()
        assert TOKEN not in text


def test_nothing_is_left_open(facility, dask):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        cluster = RemoteHTCondor("T2_A", quiet=True)
        cluster.close()
        del cluster


def test_an_image_that_was_typed_is_none_of_worker_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF_IMAGE", "registry.test/cms/lab:1")
    with pytest.raises(
        Refused, match=r"Say which image: RemoteHTCondor\(image=…\).*registry\.test/cms/lab:1, is one that was typed"
    ):
        RemoteHTCondor("T2_A")
