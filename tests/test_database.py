"""A full or read-only disk under a database is one error of ours, and nothing is half written."""

import pytest
from sqlalchemy import create_engine

from af_hub.database import tell_disk_trouble
from af_hub.errors import Unavailable


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/some.sqlite")
    tell_disk_trouble(engine, "The hub")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE things (what TEXT)")
    yield engine
    engine.dispose()


def things(engine) -> int:
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM things").scalar()


@pytest.mark.parametrize(
    "pragma, said",
    [
        pytest.param("max_page_count=2", "database or disk is full", id="full"),
        pytest.param("query_only=ON", "attempt to write a readonly database", id="read-only"),
    ],
)
def test_the_disk_is_named_and_nothing_is_written(engine, pragma, said):
    with pytest.raises(Unavailable) as caught, engine.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA {pragma}")
        connection.exec_driver_sql("INSERT INTO things VALUES (?)", ("x" * 100_000,))
    assert str(caught.value) == (
        f"The hub cannot write down anything now ({said}), so nothing was changed. "
        "The facility's administrators have to see to its disk; then try again."
    )
    assert things(engine) == 0


def test_a_folder_that_is_gone(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/gone/some.sqlite")
    tell_disk_trouble(engine, "The controller")
    with pytest.raises(Unavailable, match=r"The controller cannot write down anything now \(unable to open"):
        things(engine)


def test_mistakes_of_ours_stay_what_they_are(engine):
    with pytest.raises(Exception, match="no such table: nowhere") as caught, engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert not isinstance(caught.value, Unavailable)
