import asyncio
import json
import time

from tests.bench.lag import most_of, record, recorded


def test_of_a_hundred_times_all_but_one_are_no_later():
    assert most_of([0.001] * 990 + [0.5] * 10) < 0.5 <= most_of([0.001] * 980 + [0.5] * 20)


def test_what_was_measured_wholly_in_a_time_counts(tmp_path):
    file = tmp_path / "lags"
    file.write_text(
        "".join(json.dumps({"at": at, "late": [at / 1000], "work": []}) + "\n" for at in (10.5, 11.0, 11.5, 12.0))
    )
    assert recorded(file, "late", 10.0, 11.5) == [0.011, 0.0115]


async def test_a_loop_that_is_held_up_is_late(tmp_path):
    file = tmp_path / "lags"
    recording = asyncio.create_task(record(file))
    await asyncio.sleep(0.1)
    time.sleep(0.2)  # noqa: ASYNC251 (it is what is measured)
    while not (file.exists() and file.read_text().endswith("\n")):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    recording.cancel()
    assert max(recorded(file, "late", 0, time.time())) > 0.15
