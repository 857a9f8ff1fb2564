"""What a person does in a browser: the tutorial "The first hour", word by word, with the mouse; the way in and out with the keyboard alone;
and how all pages of ours look, in windows of every size.

``AF_SCREENSHOTS=docs/images`` keeps the pictures that the documentation shows.
"""

import os
import re
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from af_hub.testing.chromium import DESKTOP, PHONE

pytestmark = pytest.mark.real

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "first-hour.md"
NOTEBOOK_SECONDS = 150
MUON_PAIRS = range(6, 9)
CELLS_TO_THE_DASHBOARD, CELLS = 14, 17

NOT_OURS = {
    "to activate.": "JupyterLab 4 counts the seconds that its plugins take",
}
"""What JupyterLab and Dask's dashboard write to the console of a browser, and why."""


# Other tests have a session of cms-analyst in the same demo; this one is in the same groups.
INSTEAD = {"cms-analyst": "cms-colleague"}


TASKS_SHOWN = """
    const sources = [...Bokeh.documents[0]._all_models.values()].filter((one) => one.type === "ColumnDataSource");
    return sources.some((one) => Array.from(one.data.name || []).includes("dimuon_spectrum"));
"""
"""Whether Dask's stream of tasks holds some of the notebook's."""


class Reader:
    """Holds the tutorial in one hand: what it says in bold is pressed, in that order, and nothing else is."""

    def __init__(self, person):
        self.person = person
        self.left = re.findall(r"\*\*(.+?)\*\*", TUTORIAL.read_text())

    def press(self, words):
        assert self.left and self.left[0] == words, f"the test would press {words!r}, the tutorial {self.left[:1]}"
        self.left.pop(0)
        if " › " in words:
            self.person.choose(*words.split(" › "))
        else:
            self.person.click_on(INSTEAD.get(words, words))


@pytest.fixture
def picture(person):
    """Keep what the window shows, for the documentation; on a phone too, if wanted."""

    def keep(name, phone=False):
        if folder := os.environ.get("AF_SCREENSHOTS"):
            person.picture(Path(folder) / f"{name}.png")
            if phone:
                person.window(*PHONE, dots=1.5)
                person.picture(Path(folder) / f"{name}-phone.png")
                person.window(*DESKTOP)

    return keep


def test_the_first_hour(person, place, picture):
    reader = Reader(person)
    person.go(place.url)
    reader.press("Sign in with IAM")
    person.read("Who are you?")
    picture("login")
    reader.press("cms-analyst")
    person.see("#spawn_form")
    reader.press("Python analysis")
    reader.press("Small")
    picture("spawn", phone=True)
    assert person.complaints() == []
    reader.press("Start")

    run_to_the_dashboard(person, picture)
    reader.press("Open the dashboard")
    person.to_tab(-1)
    person.see("#myTopnav")
    drawn = "return window.Bokeh?.documents.length > 0 && Bokeh.documents.every((one) => one.is_idle)"
    person.until(lambda: person.browser.execute_script(drawn), "the plots are not drawn")
    dashboard = person.browser.current_window_handle
    person.to_tab(0)
    run_cells(person, MUON_PAIRS)
    person.browser.switch_to.window(dashboard)
    person.until(lambda: person.browser.execute_script(TASKS_SHOWN), "the dashboard shows no tasks")
    picture("dashboard")
    person.close_tab()

    reader.press("File › Hub Control Panel")
    person.to_tab(-1)
    reader.press("Dask clusters")
    person.read("2 of 2")
    person.read("Updates by itself")
    reader.press("What happened")
    assert person.faults() == []
    picture("clusters", phone=True)

    person.to_tab(0)
    run_cells(person, range(CELLS_TO_THE_DASHBOARD, CELLS))
    person.to_tab(-1)
    person.see("#over article.closed")
    assert person.complaints(NOT_OURS) == []

    person.to_tab(0)
    person.close_tab()
    person.click_on("AF Hub")
    reader.press("Stop My Server")
    person.read("Start My Server")
    reader.press("Logout")
    person.read("You are signed out of the hub")
    assert reader.left == [], "the tutorial says more than was done"
    nobody_is_logged_in(person, place)
    assert person.complaints(NOT_OURS) == []


def run_to_the_dashboard(person, picture):
    """Open the notebook and press Shift + Enter until the link to the dashboard is there."""
    item = person.see(".jp-DirListing-item[title*='Welcome.ipynb']", 90)
    ActionChains(person.browser).double_click(item).perform()
    person.see(".jp-Notebook .jp-CodeCell", 90)
    person.read("Python 3 (ipykernel) | Idle", 90)
    run_cells(person, range(CELLS_TO_THE_DASHBOARD))
    person.find("Open the dashboard", "a")
    plot = person.see(".jp-OutputArea img")
    person.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    picture("notebook")


def run_cells(person, numbers):
    """Click into the first of these cells, and press Shift + Enter in each."""
    person.click(f".jp-Notebook-cell[data-windowed-list-index='{numbers[0]}'] :is(h1, h2)")
    for number in numbers:
        person.press_with(Keys.SHIFT, Keys.ENTER)
        person.until(lambda number=number: ran(person, number), f"cell {number} did not run", NOTEBOOK_SECONDS)


def ran(person, number):
    """Whether this cell of the notebook has run; text has nothing to run."""
    cell = f".jp-Notebook-cell[data-windowed-list-index='{number}']"
    script = f"""
        const cell = document.querySelector("{cell}");
        if (!cell || !cell.classList.contains("jp-CodeCell")) return "text";
        const error = cell.querySelector("[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']");
        return error ? error.textContent : cell.querySelector(".jp-InputPrompt").textContent;
    """
    found = person.browser.execute_script(script)
    assert "Error" not in found, found
    return re.fullmatch(r"text|\[\d+\]:", found)


def nobody_is_logged_in(person, place):
    """Neither at the hub, nor at the controller, nor at somebody's server; and the IAM asks again."""
    for path in ("hub/home", "services/af-controller/", "user/cms-colleague/lab"):
        person.go(place.url + path)
        person.see("a[href*='oauth_login']")
    person.click_on("Sign in with IAM")
    person.read("Who are you?")


def test_the_keyboard_alone(person, place):
    """In, a choice, a session, its end, and out, without a mouse."""
    person.go(place.url)
    person.tab_to("Sign in with IAM")
    person.press(Keys.ENTER)
    person.read("Who are you?")
    person.tab_to("icsc-analyst")
    person.press(Keys.ENTER)
    person.see("#spawn_form")
    assert "python-analysis" not in person.browser.page_source
    person.tab_to("Start")
    person.press(Keys.SPACE)
    person.see(".jp-DirListing-item[title*='Welcome.ipynb']", 90)
    person.go(f"{place.url}hub/home")
    person.tab_to("Stop My Server")
    person.press(Keys.ENTER)
    person.read("Start My Server")
    person.tab_to("Dask clusters")
    person.press(Keys.ENTER)
    person.read("You have none")
    person.tab_to("Log out")
    person.press(Keys.ENTER)
    person.read("You are signed out of the hub")
    person.tab_to("Sign in again")
    person.press(Keys.ENTER)
    person.see("a[href*='oauth_login']")
    assert person.complaints(NOT_OURS) == []


def test_all_pages_fit_and_can_be_read(person, place, picture):
    """In every window, light and dark, with the keyboard; errors and refusals too."""
    seen = {}

    def look(name):
        seen[name] = person.faults_everywhere()

    person.go(place.url)
    person.find("Sign in with IAM")
    look("login")
    person.go(f"{place.url}hub/nonsense")
    look("no such page")
    person.go(f"{place.url}hub/oauth_login")
    person.read("Who are you?")
    look("IAM")
    person.click_on("outsider")
    person.read("outsider is in none of the groups that may log in here")
    picture("refused")
    look("refused")
    person.go(f"{place.url}hub/af/refused/no-group")
    person.read("What you can do")
    look("what a refusal means")
    person.go(f"{place.url}hub/oauth_login")
    person.click_on("facility-admin")
    person.see("#spawn_form")
    look("spawn")
    person.press(Keys.ARROW_DOWN)
    for path, name in {
        "hub/home": "home",
        "hub/nonsense": "no such page for me",
        "hub/spawn?image=python-base": "a link that chooses",
        "user/cms-analyst/lab": "somebody else's session",
        "user/facility-admin/lab": "no session",
        "services/af-controller/": "clusters",
        "services/af-controller/nonsense": "no such page of the controller",
    }.items():
        person.go(place.url + path)
        person.see("h1, .visually-hidden")
        look(name)
    assert {name: found for name, found in seen.items() if found} == {}
    # That the answer was an error is all that the console may say.
    assert all("Failed to load resource: the server responded with a status of 4" in one for one in person.complaints())
