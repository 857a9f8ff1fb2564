"""The pytest plugin: fixtures that start real parts, for our tests and for those of other hubs.

A fixture starts its part at first use, once a session, in a folder of its own, and stops it at the end. A part that cannot be had
on this machine skips the test with the reason; see :func:`af_hub.testing.require.unavailable`.
"""

from pathlib import Path
from typing import Protocol

import pytest


class Golden(Protocol):
    """Compares a rendered text with the file of that name beside the test, in ``golden/``."""

    def __call__(self, name: str, text: str) -> None:
        """Fail when they differ; with ``--update-golden`` write the file instead."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-golden``."""
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files as they are now; then read the diff"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """What is rendered, whole, against a file under ``golden/`` beside the test."""
    folder = request.path.parent / "golden"

    def compare(name: str, text: str) -> None:
        path: Path = folder / name
        if request.config.getoption("--update-golden"):
            folder.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), f"{path.name} is other than before; if that is right: pytest --update-golden"

    return compare
