"""What IPython shows below a cell that fails, with the image's own IPython."""

import subprocess
from pathlib import Path

import pytest

from af_hub.testing.require import unavailable

IMAGE = Path(__file__).parents[2] / ".images" / "python-analysis" / "bin" / "python"
CELL = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from af_hub.client.remote import RemoteHTCondor")
shell.run_cell("def deep(): RemoteHTCondor('T2_A', user_memory='much')")
assert not shell.run_cell("deep()").success
"""


@pytest.mark.real
def test_a_failed_cell_shows_one_sentence():
    if not IMAGE.exists():
        unavailable("there is no image python-analysis; `af-hub demo-setup` makes it")
    environment = {"HOME": "/nonexistent", "AF_IMAGE": "python-analysis"}
    done = subprocess.run([IMAGE, "-c", CELL], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == (
        "Refused: user_memory='much' is no size of memory; wanted is one as \"2 GiB\", or bytes."
    ), done.stdout
