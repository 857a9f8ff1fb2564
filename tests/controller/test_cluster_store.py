import stat

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from af_hub.condor.jobstatus import JobState
from af_hub.controller.model import Base, Cluster
from af_hub.controller.states import Role, State
from af_hub.controller.steps import Job
from af_hub.controller.store import EVENTS_KEPT, open_store

ID = "0123456789abcdef" * 2


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/controller.sqlite"


@pytest.fixture
def store(url):
    store = open_store(url)
    store.add(a_cluster())
    yield store
    store.close()


def a_cluster(**more):
    more = {"id": ID, "owner": "cms-analyst", "expires_at": 200.0, "workers_wanted": 1} | more
    return Cluster(
        name="mine", site="T2_A", pool="main", image="i", account="a", accounting_group="cms", cores=1, memory=2**31, created_at=1.0, **more
    )  # fmt: skip


def sentences(cluster):
    return [(event.state, event.sentence) for event in cluster.events]


def test_migrations_make_the_tables_of_the_model(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_file_is_private_and_opens_again(store, url, tmp_path):
    assert stat.S_IMODE((tmp_path / "controller.sqlite").stat().st_mode) == 0o600
    again = open_store(url)
    assert again.get(ID).name == "mine"
    again.close()


def test_a_foreign_cluster_is_not_there(store):
    assert store.get(ID, "cms-analyst") and store.get(ID)
    assert store.get(ID, "cms-colleague") is None and store.get("no", "cms-analyst") is None
    assert store.of_owner("cms-colleague") == []


def test_every_change_is_an_event(store):
    assert store.become(ID, State.REQUESTED, State.QUEUED, "waiting", 2)
    assert store.become(ID, State.QUEUED, State.QUEUED, "waiting", 3)
    store.scale(ID, 3, 4)
    store.scale(ID, 3, 5)
    found = store.get(ID)
    assert sentences(found) == [("requested", "asked for"), ("queued", "waiting"), ("queued", "3 workers wanted")]
    assert [event.at for event in found.events] == [1, 2, 4]


def test_whoever_closes_wins_against_a_plan_from_before(store):
    store.ask_to_close(ID, 2, "you closed it")
    store.ask_to_close(ID, 3, "you closed it again")
    assert not store.become(ID, State.REQUESTED, State.QUEUED, "waiting", 4)
    assert sentences(store.get(ID))[1:] == [("closing", "you closed it")]


def test_what_is_over_is_not_closed_again(store):
    store.become(ID, State.REQUESTED, State.FAILED, "held", 2)
    store.ask_to_close(ID, 3, "you closed it")
    assert store.get(ID).state == State.FAILED


def test_jobs_from_intention_to_loss(store):
    store.intend(ID, Role.SCHEDULER)
    store.intend(ID, Role.SCHEDULER)
    store.intend(ID, Role.WORKER, ["01234567-1", "01234567-2"])
    store.track(ID, [Job("1.0", Role.SCHEDULER, JobState.IDLE), Job("2.0", Role.WORKER, JobState.IDLE, "01234567-1")])
    store.retire(ID, ["1.0", "2.0"], 5)
    store.retire(ID, ["2.0"], 6)
    wish = store.get(ID).wish()
    assert [(one.role, one.worker, one.job, one.retiring_since) for one in wish.tracked] == [
        ("scheduler", "", "1.0", None),
        ("worker", "01234567-1", "2.0", 5),
        ("worker", "01234567-2", "", None),
    ]
    assert wish.next_worker == 3
    store.lose(ID, ["01234567-1", "01234567-2", "never-1"])
    wish = store.get(ID).wish()
    assert [one.job for one in wish.tracked] == ["1.0"] and wish.workers_lost == 1
    store.scale(ID, 4, 7)
    assert store.get(ID).workers_lost == 0


def test_adopting_a_job_that_the_row_does_not_know(store):
    store.track(ID, [Job("9.0", Role.WORKER, JobState.IDLE, "01234567-4")])
    assert [(one.worker, one.job) for one in store.get(ID).jobs] == [("01234567-4", "9.0")]
    assert store.get(ID).next_worker == 5


def test_unfinished(store):
    assert [one.id for one in store.unfinished()] == [ID]
    store.become(ID, State.REQUESTED, State.CLOSED, "", 2)
    assert [one.id for one in store.unfinished()] == [ID], "its keys are still there"
    store.forget(ID)
    assert store.unfinished() == []
    assert [one.id for one in store.unfinished(also=[ID, "other"])] == [ID], "a job of it was seen"


@pytest.mark.slow
def test_events_are_bounded(store):
    for turn in range(EVENTS_KEPT + 20):
        store.become(ID, State.REQUESTED, State.REQUESTED, f"turn {turn}", turn)
    assert len(store.get(ID).events) == EVENTS_KEPT


def test_over_is_what_was_forgotten_or_never_was(store):
    assert not store.is_over(ID) and store.is_over("f" * 32)
    store.become(ID, State.REQUESTED, State.FAILED, "no image", 1)
    assert not store.is_over(ID)
    store.forget(ID)
    assert store.is_over(ID)
