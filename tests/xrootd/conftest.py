from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from af_hub.errors import Unavailable
from af_hub.testing.require import unavailable
from af_hub.testing.xrootd import DataService, open_data_service


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Mapping[str, bytes]], DataService]]:
    """Start an origin that has these files below ``store``, and a cache; the test may break both."""
    with ExitStack() as stack:

        def start(files: Mapping[str, bytes]) -> DataService:
            store = tmp_path / "data" / "store"
            store.mkdir(parents=True)
            for name, content in files.items():
                (store / name).write_bytes(content)
            try:
                return stack.enter_context(open_data_service(tmp_path, tmp_path / "data"))
            except Unavailable as reason:
                unavailable(str(reason))

        yield start
