"""What the keeper's tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from keeping import HUB, Bench, Clock

from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_tokens import DemoUser


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A demo IAM, whose refresh tokens rotate, and a keeper of its clients."""
    clock = Clock()
    users = [DemoUser("ada", "sub-ada", groups=("/cms",)), DemoUser("bob", "sub-bob", groups=("/icsc",))]
    async with DemoIAM(users, [HUB], clock=clock) as iam:
        made = Bench(iam, clock, tmp_path / "keeper.sqlite", None)  # type: ignore[arg-type]
        made.restarted()
        yield made
