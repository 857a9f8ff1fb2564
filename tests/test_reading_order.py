"""The docstring of each folder's ``__init__.py`` is a newcomer's way in: it names every file, and the file holds nothing else."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "init", sorted((ROOT / "af_hub").rglob("__init__.py")), ids=lambda path: str(path.parent.relative_to(ROOT))
)
def test_a_folder_names_its_files_and_does_nothing(init):
    tree = ast.parse(init.read_text())
    assert len(tree.body) == 1
    text = ast.get_docstring(tree) or ""
    files = {path.stem for path in init.parent.glob("*.py") if not path.stem.startswith("__")}
    folders = {path.parent.name for path in init.parent.glob("*/__init__.py")}
    assert {name for name in files | folders if not re.search(rf"\b{name}\b", text)} == set()
