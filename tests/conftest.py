"""What begins first, and what shares a process where ``make test`` runs two of them.

The quick tests begin. Then one process takes the whole journey, which would fill the machine with demos if it were shared out, while the other
one takes file after file of the rest, so that what a file or a session starts is started once.
"""

import signal
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

JOURNEY = "tests/journey/"

NodeManager.EXIT_TIMEOUT = 60
"""Seconds that a process has to end its daemons after Ctrl-C, before pytest-xdist kills it."""


def part_of(nodeid: str) -> str:
    """The share that a test belongs to: its file, or the journey."""
    return JOURNEY if nodeid.startswith(JOURNEY) else nodeid.split("::")[0]


def turn_of(item: pytest.Item) -> int:
    """Quick tests first, and the longest share next."""
    if not any(item.get_closest_marker(name) for name in ("real", "slow", "long")):
        return 0
    return 1 if part_of(item.nodeid) == JOURNEY else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=turn_of)


class Shares(LoadScopeScheduling):
    """Hands whole shares to the processes, in the order of their first tests."""

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Ours where files are kept together, as ``make test`` says; xdist's own elsewhere."""
    return Shares(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_keyboard_interrupt() -> None:
    """One Ctrl-C is enough: pytest-xdist sends its processes another while they end what they started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
