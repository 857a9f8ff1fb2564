"""The welcome notebook: whole, without leftovers, and its analysis finds the peaks through a real cache."""

import json
import subprocess
from pathlib import Path

import pytest

from af_hub.demo.data import Recipe, make_dataset
from af_hub.testing.require import unavailable

CHECKOUT = Path(__file__).parents[2]
NOTEBOOK = CHECKOUT / "af_hub/demo/Welcome.ipynb"
IMAGE = CHECKOUT / ".images/python-analysis/bin/python"

DRIVER = """
import json, os, sys
import matplotlib
matplotlib.use("agg")
from distributed import Client, LocalCluster
client = Client(LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"))
for source in json.loads(sys.stdin.read()):
    exec(compile(source, "cell", "exec"), globals())
print("RESULT", json.dumps({"peaks": {name: float(mass) for name, mass in found.items()}, "pairs": int(counts.sum()),
    "servers": sorted({result["server"] for result in results}), "caches": sorted({result["cache"] for result in results})}), flush=True)
client.close()
os._exit(0)
"""


def cells(kind: str) -> list[dict]:
    """The notebook's cells of one kind."""
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_every_code_cell_is_python_and_holds_no_output():
    for cell in cells("code"):
        compile("".join(cell["source"]), cell["id"], "exec")
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_every_part_has_its_heading():
    headings = [
        line for cell in cells("markdown") for line in "".join(cell["source"]).splitlines() if line.startswith("#")
    ]

    assert headings[0] == "# Welcome to AF Hub"
    assert [heading[3] for heading in headings[1:7]] == list("123456")


def test_the_last_code_cell_gives_the_result_for_machines():
    assert 'print("AF-HUB-RESULT", json.dumps(summary))' in "".join(cells("code")[-1]["source"])


@pytest.mark.real
def test_the_analysis_finds_the_peaks_through_the_cache(xrootd, tmp_path):
    if not IMAGE.exists():
        unavailable(f"{IMAGE} is missing; the command af-hub demo-setup makes it")
    data = make_dataset(xrootd.origin.data_folder, Recipe(files=2, events=30_000, chunk=15_000))
    environment = xrootd.client_environment(tmp_path, {"dimuon": data.urls(xrootd.origin.url)})
    analysis = ["".join(cell["source"]) for cell in cells("code") if "analysis" in cell["metadata"].get("tags", [])]

    command = [str(IMAGE), "-c", DRIVER]
    done = subprocess.run(
        command, input=json.dumps(analysis), env=environment, capture_output=True, text=True, timeout=120
    )
    assert "RESULT" in done.stdout, done.stderr
    result = json.loads(done.stdout.rpartition("RESULT ")[2])

    assert result["servers"] == result["caches"] == [f"{xrootd.cache.host}:{xrootd.cache.port}"]
    assert result["peaks"] == pytest.approx({"J/ψ": 3.0969, "Υ(1S)": 9.4604, "Z": 91.188}, rel=0.005)
    assert result["pairs"] > 25_000
