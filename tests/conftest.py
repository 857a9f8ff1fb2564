"""What begins first, and what shares a process where ``make test`` runs two of them.

The quick tests begin. Then one process takes the whole journey, which would fill the machine with demos if it were shared out, while the other
one takes file after file of the rest, so that what a file or a session starts is started once.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def part_of(item: pytest.Item) -> str:
    """The process's share that a test belongs to: its file, or the journey."""
    place = item.path.relative_to(HERE)
    return "journey" if place.parts[0] == "journey" else str(place)


def turn_of(item: pytest.Item) -> int:
    """Quick tests first, and the longest share next."""
    if not any(item.get_closest_marker(name) for name in ("real", "slow", "long")):
        return 0
    return 1 if part_of(item) == "journey" else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=turn_of)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(part_of(item)))
