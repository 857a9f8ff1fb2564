"""What a person clicks, in headless Chromium: sign in, choose, run the welcome notebook, see dashboard and clusters, sign out.

``AF_SCREENSHOTS=docs/images`` keeps the pictures that the documentation shows.
"""

import os
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

SECONDS = 60
NOTEBOOK_SECONDS = 150


@pytest.fixture
def chromium(tmp_path):
    """A headless Chromium that calls nobody but the demo."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        unavailable("no chromium and chromedriver here; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        "window-size=1280,900",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    environment = {**os.environ, "HOME": str(tmp_path)}
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver, env=environment))
    browser.set_page_load_timeout(SECONDS)
    yield browser
    browser.quit()


class Person:
    """Looks, clicks, takes pictures."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def see(self, css: str, seconds: float = SECONDS):
        """The first visible element, once there is one."""
        return WebDriverWait(self.browser, seconds).until(
            lambda browser: next((e for e in browser.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()), None),
            f"no {css} in sight at {self.browser.current_url}",
        )

    def click(self, css: str) -> None:
        """Bring it to the middle of the window, as somebody would scroll, and click."""
        element = self.see(css)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def read(self, text: str, seconds: float = SECONDS) -> None:
        """Wait for a text."""
        WebDriverWait(self.browser, seconds).until(
            lambda browser: text in browser.find_element(By.TAG_NAME, "body").text,
            f"{text!r} is not to be read at {self.browser.current_url}",
        )

    def picture(self, name: str) -> None:
        if folder := os.environ.get("AF_SCREENSHOTS"):
            self.browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_the_first_hour(chromium, place):
    person = Person(chromium)
    chromium.get(place.url)
    person.click("a.btn[href*='oauth_login']")
    person.read("cms-colleague")
    person.picture("login")
    person.click("button[value='cms-colleague']")
    person.see("input[value='python-analysis'], option[value='python-analysis']")
    person.picture("spawn")
    person.click("input[type=submit], button[type=submit]")

    person.see(".jp-DirListing-item[title*='Welcome.ipynb']", 90)
    chromium.get(f"{place.url}user/cms-colleague/lab/tree/Welcome.ipynb")
    person.see(".jp-Notebook .jp-CodeCell", 90)
    WebDriverWait(chromium, SECONDS).until(
        lambda browser: (
            browser.execute_script("return document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status")
            == "idle"
        )
    )
    chromium.execute_script("document.querySelector('.jp-Notebook .jp-Cell').scrollIntoView()")
    menu = next(item for item in chromium.find_elements(By.CSS_SELECTOR, ".lm-MenuBar-item") if item.text == "Run")
    menu.click()
    person.click("[data-command='runmenu:run-all']")
    plot = person.see(".jp-OutputArea img", NOTEBOOK_SECONDS)
    chromium.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    person.picture("notebook")
    WebDriverWait(chromium, SECONDS).until(
        lambda browser: any(
            "AF-HUB-RESULT" in output.text for output in browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output")
        )
    )

    chromium.get(f"{place.url}services/af-controller/")
    person.read("T2_A")
    person.picture("clusters")
    chromium.get(f"{place.url}hub/home")
    person.click("#stop")
    person.see("#start:not(.disabled), a[href*='/hub/spawn']", SECONDS)
    chromium.get(f"{place.url}hub/logout")
    person.see("a.btn[href*='oauth_login']")


def test_the_outsider_reads_why(chromium, place):
    person = Person(chromium)
    chromium.get(place.url)
    person.click("a.btn[href*='oauth_login']")
    person.click("button[value='outsider']")
    person.read("outsider is in none of the groups that may log in here")
    person.picture("refused")


def test_sign_in_with_the_keyboard(chromium, place):
    person = Person(chromium)
    chromium.get(f"{place.url}hub/oauth_login")
    person.see("button[value='icsc-analyst']").send_keys(Keys.ENTER)
    person.see("input[value='python-base'], option[value='python-base']")
    assert "python-analysis" not in chromium.page_source
