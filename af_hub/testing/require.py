"""What a test may need and a machine may lack: a skip with its reason, or a failure where everything is required."""

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skip the test that asked, or fail it when ``AF_REQUIRE_ALL=1`` (as in CI)."""
    if os.environ.get("AF_REQUIRE_ALL") == "1":
        pytest.fail(f"required by AF_REQUIRE_ALL=1, but: {reason}", pytrace=False)
    pytest.skip(reason)
