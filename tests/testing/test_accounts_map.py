"""Who is who in a namespace with accounts."""

import pytest

from af_hub.testing.accounts import id_map, subordinate


@pytest.mark.parametrize(
    "uid, first, count, lines",
    [
        pytest.param(0, 1_000_000, 65_000, [(0, 1_000_000, 65_000), (65534, 0, 1)], id="root is nobody inside"),
        pytest.param(
            1001, 100_000, 65_536, [(0, 100_000, 1001), (1001, 1001, 1), (1002, 101_001, 64_535)], id="a user"
        ),
        pytest.param(70_000, 100_000, 65_000, [(0, 100_000, 65_000), (70_000, 70_000, 1)], id="a high number"),
    ],
)
def test_who_is_who(uid, first, count, lines):
    assert id_map(uid, first, count) == lines
    inside = [one for begin, _, size in lines for one in range(begin, begin + size)]
    assert len(inside) == len(set(inside)) and {0, 60001, 60002} <= set(inside)


def test_a_range_is_found_by_name_or_number(tmp_path):
    file = tmp_path / "subuid"
    assert subordinate(file, 0) == (0, 0)
    file.write_text("other:1:2\nroot:100000:65536\n")
    assert subordinate(file, 0) == (100000, 65536)
    file.write_text("0:5:6\n")
    assert subordinate(file, 0) == (5, 6)
