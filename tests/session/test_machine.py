"""What the spawn page says is free."""

import pytest

from af_hub.policy.sessions import Size
from af_hub.session.machine import Free, describe_size, free_now, read_free

MEMINFO = "MemTotal:       24576000 kB\nMemFree:  1 kB\nMemAvailable:    5242880 kB\nHugePages_Total:       0\n"


@pytest.mark.parametrize(
    "load, cores",
    [
        pytest.param("0.52 0.1 0.1 1/300 4", 3.5, id="some load"),
        pytest.param("9.00 1 1 1/3 4", 0.0, id="more load than cores"),
    ],
)
def test_read_free(load: str, cores: float) -> None:
    assert read_free(MEMINFO, load, 4) == Free(cores, 4, 5 * 2**30, 24576000 * 1024)


def test_sentence() -> None:
    assert (
        read_free(MEMINFO, "0.5 0 0 1/3 4", 4).describe()
        == "Free on this machine now: 3.5 of 4 cores, 5 GiB of 23 GiB memory."
    )


@pytest.mark.parametrize(
    "cpus, memory, words",
    [
        pytest.param(1, 2**30, "", id="fits"),
        pytest.param(4, 2**30, "Not enough cores free", id="cores"),
        pytest.param(1, 2**40, "Not enough memory free", id="memory"),
        pytest.param(4, 2**40, "Not enough cores and memory free", id="both"),
    ],
)
def test_what_is_lacking(cpus: float, memory: int, words: str) -> None:
    lacks = Free(2, 4, 5 * 2**30, 8 * 2**30).lacks(Size(title="x", cpus=cpus, memory=memory))
    assert lacks.startswith(words) and bool(lacks) == bool(words)


@pytest.mark.parametrize("cpus, words", [(1, "1 core, 2 GiB memory"), (0.5, "0.5 cores, 2 GiB memory")])
def test_size_in_words(cpus: float, words: str) -> None:
    assert describe_size(Size(title="x", cpus=cpus, memory=2 << 30)) == words


def test_this_machine_says_something() -> None:
    free = free_now()
    assert 0 <= free.cores <= free.all_cores
    assert 0 < free.memory <= free.all_memory


@pytest.mark.parametrize(
    "resources, words",
    [
        ({"nvidia.com/gpu": 1}, "1 NVIDIA GPU"),
        ({"amd.com/gpu": 2}, "2 AMD GPUs"),
        ({"example.org/fpga": 3, "gpu": 1}, "3 example.org/fpga, 1 gpu"),
    ],
)
def test_what_else_a_size_has(resources: dict[str, int], words: str) -> None:
    size = Size(title="x", cpus=1, memory=2**31, resources=resources)
    assert describe_size(size) == f"1 core, 2 GiB memory, {words}"
    assert "shares what this machine has" in Free(2, 4, 2**40, 2**40).lacks(size)
