"""Tokens for the jobs of clusters: when they are asked for and pushed, and what becomes of it when hub, agent or tunnel fail."""

import asyncio
import itertools
import logging
from collections import Counter
from datetime import UTC, datetime

import pytest
from world import FACILITY

from af_hub.controller import metrics
from af_hub.controller.hub import StorageToken
from af_hub.controller.states import State
from af_hub.controller.tokens import ENDED_PAUSE, LONGEST_PAUSE, PUSHES_AT_ONCE, QUESTIONS_AT_ONCE
from af_hub.testing.fake_hub import SERVICE_TOKEN

HOUR = 3600.0


@pytest.fixture
async def minting(world):
    """The hub gives tokens that live an hour of the world's clock, and counts them; clusters may live half a day."""
    (world.folder / "facility.yaml").write_text(FACILITY.replace("lifetime: 1h", "lifetime: 12h"))
    await world.restart()
    numbers = itertools.count(1)
    world.hub.clock = world.clock
    world.hub.mint_storage = lambda name: f"secret-{name}-{next(numbers)}"
    return world.hub


async def look(world):
    """A round of tokens, with all that it begins."""
    world.parts.reconciler.tokens.round()
    await world.parts.reconciler.tokens.settle()


async def running(world, **more):
    cluster = await world.create(**more)
    await world.until(cluster, State.RUNNING)
    return cluster


def given(world, cluster):
    return [value for value, _ in world.site.agents[cluster].tokens]


async def test_a_cluster_has_its_token_before_its_owner_is_told_that_it_runs(world, minting):
    cluster = await running(world)
    assert given(world, cluster) == ["secret-cms-analyst-1"]
    assert world.get(cluster).reason == ""


async def test_fresh_ahead_of_the_end_for_eight_hours(world, minting):
    """A look every five minutes; at none of them the job's token has less than half of its life left."""
    cluster = await running(world)
    least = HOUR
    for _ in range(8 * 12):
        world.clock.offset += 300
        await look(world)
        least = min(least, world.site.agents[cluster].tokens[-1][1] - world.clock())
    assert least > HOUR / 3
    assert 8 <= len(given(world, cluster)) == len(set(given(world, cluster))) <= 20
    assert len(minting.storage_tokens_given) <= 50


async def test_one_question_for_all_clusters_of_a_person(world, minting):
    clusters = [await world.create() for _ in range(3)]
    for cluster in clusters:
        await world.until(cluster, State.RUNNING)
    assert [given(world, cluster) for cluster in clusters] == [["secret-cms-analyst-1"]] * 3
    assert minting.storage_tokens_given == ["cms-analyst"]
    world.clock.offset += HOUR / 2
    await look(world)
    assert {given(world, cluster)[-1] for cluster in clusters} == {"secret-cms-analyst-2"}
    assert len(minting.storage_tokens_given) == 2


async def test_a_new_controller_pushes_in_its_first_round(world, minting):
    cluster = await running(world)
    await world.restart()
    await look(world)
    assert given(world, cluster) == ["secret-cms-analyst-1"] * 2


async def test_an_agent_that_came_again_gets_the_token_again(world, minting):
    cluster = await running(world)
    await look(world)
    world.parts.reconciler.tokens.changed(cluster)
    await look(world)
    assert len(given(world, cluster)) == 2
    world.site.tunnel_down = True
    await look(world)
    world.site.tunnel_down = False
    await look(world)
    assert len(given(world, cluster)) == 3
    assert minting.storage_tokens_given == ["cms-analyst"]


async def test_an_agent_that_takes_none_is_left_alone_for_a_while(world, minting):
    cluster = await running(world)
    agent = world.site.agents[cluster]
    agent.takes_no_token = True
    world.parts.reconciler.tokens.changed(cluster)
    await look(world)
    agent.takes_no_token = False
    await look(world)
    assert len(given(world, cluster)) == 1
    world.clock.offset += LONGEST_PAUSE
    await look(world)
    assert len(given(world, cluster)) == 2


async def test_the_hub_is_away_and_comes_back(world, minting):
    """What there is stays; it is told when little is left of it, and all is as before when the hub is back."""
    cluster = await running(world)
    minting.away = True
    world.clock.offset += 0.6 * HOUR
    await look(world)
    await world.turn()
    assert world.get(cluster).reason == ""
    world.clock.offset += 0.3 * HOUR
    await look(world)
    await world.turn()
    assert world.get(cluster).reason == ""
    minting.full_disk = True
    world.clock.offset += 300
    await look(world)
    await world.turn()
    assert "and not longer: The hub cannot serve now" in world.get(cluster).reason
    minting.full_disk = minting.away = False
    world.clock.offset += LONGEST_PAUSE
    await look(world)
    await world.turn()
    assert len(set(given(world, cluster))) == 2
    assert world.get(cluster).reason == ""


async def test_a_login_that_ended_is_told_once_and_taken_up_again(world, minting):
    cluster = await running(world)
    minting.expired = {"cms-analyst"}
    for _ in range(4):
        world.clock.offset += HOUR / 2
        await look(world)
        await world.turn()
    told = [event.sentence for event in world.get(cluster).events if "protected data" in event.sentence]
    until = f"{datetime.fromtimestamp(world.site.agents[cluster].tokens[-1][1], UTC):%-d %b %H:%M} UTC"
    assert (
        len(told) == 1
        and f" until {until} and " in told[0]
        and told[0].endswith("the login of cms-analyst has expired; log in at the hub again")
    )
    assert world.get(cluster).reason == told[0] and world.get(cluster).state == State.RUNNING
    asked = len(minting.storage_tokens_given)
    minting.expired = set()
    world.clock.offset += ENDED_PAUSE
    await look(world)
    await world.turn()
    assert len(minting.storage_tokens_given) == asked + 1
    assert len(given(world, cluster)) == 2 and world.get(cluster).reason == ""


async def test_who_is_let_in_no_more_gets_none_for_another_job(world, minting):
    cluster = await running(world)
    del minting.people["cms-analyst"]
    world.clock.offset += HOUR * 0.9
    await look(world)
    world.parts.reconciler.tokens.changed(cluster)  # another agent at its place
    await look(world)
    assert given(world, cluster) == ["secret-cms-analyst-1"]


async def test_nobody_is_asked_often_when_logins_have_ended(world, minting):
    await running(world)
    minting.expired = {"cms-analyst"}
    questions = metrics.TOKENS_ASKED.labels("refused")
    before = questions._value.get()
    world.clock.offset += HOUR
    for _ in range(120):
        world.clock.offset += 30
        await look(world)
    assert HOUR / ENDED_PAUSE <= questions._value.get() - before <= 2 * HOUR / ENDED_PAUSE


async def test_a_closed_cluster_gets_none(world, minting):
    cluster = await running(world)
    world.parts.store.ask_to_close(cluster, world.clock(), "you closed it")
    world.clock.offset += HOUR
    await look(world)
    assert len(given(world, cluster)) == 1 and len(minting.storage_tokens_given) == 1


@pytest.mark.parametrize("people", [100])
async def test_many_people_at_once_are_no_storm(world, people):
    """After a restart of the controller: few questions and pushes at a time, one of each for everybody."""
    tokens, at_once, most = world.parts.reconciler.tokens, Counter(), Counter()
    clusters = {f"cluster-{number}": f"person-{number % people}" for number in range(3 * people)}

    async def one(what, key):
        at_once[what] += 1
        most[what] = max(most[what], at_once[what])
        most[what, key] += 1
        await asyncio.sleep(0)
        at_once[what] -= 1

    class Hub:
        async def storage_token(self, name):
            await one("question", name)
            return StorageToken(f"secret-{name}", world.clock() + HOUR)

    class Agents:
        def came(self, cluster):
            return True

        async def give_token(self, cluster, token):
            assert token.value == f"secret-{clusters[cluster]}"
            await one("push", cluster)

    class Store:
        def living(self):
            return list(clusters.items())

    tokens.hub, tokens.agents, tokens.store = Hub(), Agents(), Store()
    await look(world)
    assert most["question"] == QUESTIONS_AT_ONCE and most["push"] <= PUSHES_AT_ONCE
    assert {count for key, count in most.items() if isinstance(key, tuple)} == {1}
    assert len(most) == 2 + people + 3 * people


async def test_no_token_in_logs(world, minting, caplog):
    caplog.set_level(logging.DEBUG)
    cluster = await running(world)
    world.site.agents[cluster].takes_no_token = True
    world.parts.reconciler.tokens.changed(cluster)
    await look(world)
    assert "did not take its token" in caplog.text
    tokens = world.parts.reconciler.tokens
    assert "secret-" not in caplog.text + repr(tokens._purses) + repr(tokens._held)


async def test_metrics_are_for_those_who_may_read_them(world, minting):
    await running(world)
    reader = minting.token_of("prometheus", ["read:metrics"], kind="service")
    for token, status in ((None, 401), (world.owner, 403), ("0" * 32, 403), (reader, 200)):
        async with world.api(token) as api:
            answer = await api.get("metrics")
            assert answer.status_code == status, token
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert HOUR - 60 < float(lines['af_cluster_token_seconds_to_expiry{of="least"}']) <= HOUR
    assert float(lines['af_cluster_token_pushes_total{outcome="ok"}']) >= 1
    assert "cms-analyst" not in answer.text and SERVICE_TOKEN not in answer.text
