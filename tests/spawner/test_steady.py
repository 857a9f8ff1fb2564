"""KubeSpawner while the API is away: what has given up is begun anew, and what may come back is asked again."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from kubernetes_asyncio.client import ApiException
from spawners import spawner_of, use_cluster

from af_hub.serving import has_given_up
from af_hub.spawning.steady import comes_back
from af_hub.testing.fake_kube import FakeKube


def reflector(loaded: Any = None, watching: bool = True) -> Any:
    loop = asyncio.get_running_loop()
    first, task = loop.create_future(), loop.create_future()
    if isinstance(loaded, Exception):
        first.set_exception(loaded)
    elif loaded:
        first.set_result(None)
    if not watching:
        task.set_result(None)
    return SimpleNamespace(first_load_future=first, watch_task=task)


async def test_a_watch_that_ended_brings_no_more_news() -> None:
    assert not has_given_up(reflector()), "it is being loaded"
    assert not has_given_up(reflector(loaded=True))
    assert has_given_up(reflector(loaded=True, watching=False))
    assert has_given_up(reflector(loaded=OSError("nobody answers"))), "its pods are none, though some run"


@pytest.mark.parametrize(
    "error, again",
    [
        pytest.param(ApiException(503), True, id="too busy"),
        pytest.param(ApiException(429), True, id="too many"),
        pytest.param(ApiException(403), False, id="refused"),
        pytest.param(ApiException(409), False, id="conflict"),
        pytest.param(TimeoutError(), True, id="time"),
        pytest.param(aiohttp.ServerDisconnectedError(), True, id="cut"),
        pytest.param(ConnectionRefusedError(), True, id="nobody"),
        pytest.param(ValueError(), False, id="our mistake"),
    ],
)
def test_what_is_asked_again(error: Exception, again: bool) -> None:
    assert comes_back(error) is again


async def test_a_home_that_is_there_is_found_while_a_quota_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API looks at quotas before it sees that the claim is there already; a new hub does not know that it is."""
    async with FakeKube(token="nobody") as kube:
        use_cluster(tmp_path, monkeypatch, kube.url)
        spawner = spawner_of("/cms")
        claim = spawner.get_pvc_manifest()
        kube.lacking.add(("create", "persistentvolumeclaims"))
        with pytest.raises(ApiException):
            await spawner._make_create_pvc_request(claim, 5)
        kube.lacking.clear()
        assert await spawner._make_create_pvc_request(claim, 5)
        kube.lacking.add(("create", "persistentvolumeclaims"))
        assert await spawner._make_create_pvc_request(claim, 5)
        await spawner.api.api_client.close()
