"""Links and pictures of the pages that Sphinx does not build, and pictures that nobody shows; ``make docs`` checks the rest."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


FOLDERS = ("af_hub", "docs", "hub_config", "images", "tests")


def pages():
    """All Markdown of the project, but what is made from it."""
    found = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
    return [page for page in found if "_build" not in page.parts]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link and not link.startswith("mailto:")]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_each_picture_is_shown():
    text = "\n".join(page.read_text() for page in pages())
    unseen = [path.name for path in (ROOT / "docs" / "images").iterdir() if f"images/{path.name}" not in text]
    assert unseen == []


FILE_AND_NAMES = re.compile(r"`([a-z_/]+\.py)`(?: \(((?:`\w+`(?:, )?)+)\))?")


def test_the_way_of_a_request_names_what_there_is():
    page = (ROOT / "docs" / "explanation" / "the-way-of-a-request.md").read_text()
    found = FILE_AND_NAMES.findall(page)
    assert len(found) > 20
    for file, names in found:
        code = (ROOT / "af_hub" / file).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^(async )?def {name}\(", code, re.MULTILINE), f"{file} has no function {name}"
