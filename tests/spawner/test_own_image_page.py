"""The spawn page for people who may type an image, in a real browser: with the mouse, with the keyboard alone, and without scripts.

``AF_SCREENSHOTS=docs/images`` keeps the pictures that the documentation shows.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from two_hubs import GOOD, LAB, USER, Person, our_hub, running

from af_hub.testing import chromium
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import comes_true

pytestmark = pytest.mark.real

OTHERS = "good.test/cms-of-others/lab:1"


@pytest.fixture(scope="module")
def hub(iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with our_hub(iam, tmp_path_factory.mktemp("page")) as someone:
        yield someone


@pytest.fixture
def at_the_page(hub: Person, person: chromium.Person) -> chromium.Person:
    """Somebody who is logged in and sees the spawn page."""
    person.go(f"{hub.hub.url}hub/spawn")
    person.click_on("Sign in with IAM")
    person.click_on(USER)
    person.see("#spawn_form")
    return person


def test_a_mistake_stays_in_the_field_with_its_reason(hub: Person, at_the_page: chromium.Person) -> None:
    page, before = at_the_page, len(hub.kube.asked)
    assert page.faults_everywhere() == {} and page.complaints() == []
    page.click("#af-typed")
    page.press_with(chromium.Keys.CONTROL, "a")
    page.press(GOOD)
    assert page.see("#af-own").is_selected(), "typing chooses"
    if folder := os.environ.get("AF_SCREENSHOTS"):
        page.picture(Path(folder) / "own-image.png")
    page.press_with(chromium.Keys.CONTROL, "a")
    page.press(OTHERS)
    page.click_on("Start")
    page.read("is not one of those that you may type; those are:")
    assert page.see("#af-typed").get_attribute("value") == OTHERS and page.see("#af-own").is_selected()
    assert page.faults_everywhere() == {}
    assert page.complaints({"403": "the hub says so with the page"}) == []
    page.click("#af-typed")
    page.press_with(chromium.Keys.CONTROL, "a")
    page.press("good.test/cms/none:1")
    page.click_on("Start")
    page.read("good.test/cms/none:1 is not there: good.test has no such image")
    assert len(hub.kube.asked) == before and hub.api.get(f"/users/{USER}").json()["servers"] == {}


def test_an_image_is_typed_and_starts_and_is_kept(hub: Person, at_the_page: chromium.Person) -> None:
    """With the keyboard alone, then without scripts; what was typed is there again the next time."""
    page, pinned, before = at_the_page, f"good.test/cms/lab@{LAB.digest}", len(hub.kube.asked)
    page.tab_to("python-analysis")
    while not page.see("#af-own").is_selected():
        page.press(chromium.Keys.ARROW_DOWN)
    page.press(chromium.Keys.TAB, GOOD, chromium.Keys.ENTER)
    assert comes_true(lambda: running(hub), 30)
    hub.stop()

    page.scripts(False)
    page.go(f"{hub.hub.url}hub/spawn")
    assert page.see("#af-typed").get_attribute("value") == GOOD and page.see("#af-own").is_selected(), (
        "kept for next time"
    )
    page.click("[value=python-base]")
    page.click("#af-own")
    page.click_on("Start")
    assert comes_true(lambda: running(hub), 30)
    assert hub.kube.images_asked()[before:] == [pinned, pinned]
    hub.stop()
