"""A person at a headless Chromium: sees, clicks, types, takes pictures, and says what is wrong with a page.

Serves tests of pages, ours and those of other facilities; wants the Python package ``selenium``, and Chromium with its driver on the
machine. :meth:`Person.faults` are small checks of our own after WCAG 2.2; they take no place of a person who looks. Calls nobody but
the pages that a test opens.
"""

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from af_hub.errors import Unavailable

SECONDS = 60.0
TARGET = 40
"""Least height and width of what one presses, in CSS pixels."""

PRESSED = "a, button, label, summary, [role=button]"

PHONE = (360, 740)
SMALL_PHONE = (320, 640)
DESKTOP = (1280, 800)
ZOOMED = (640, 400)
"""What a zoom of 200 % leaves of a window of 1280 × 800."""

WINDOWS = {"desktop": DESKTOP, "phone": PHONE, "small phone": SMALL_PHONE, "zoom of 200 %": ZOOMED}


@contextmanager
def open_chromium(folder: Path) -> Iterator["Person"]:
    """A browser with a new profile in ``folder``.

    Raises
    ------
    Unavailable
        When Chromium or its driver is not on this machine.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        raise Unavailable("no chromium and chromedriver here; on Debian: apt-get install chromium chromium-driver")
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
        "no-default-browser-check",
        "hide-scrollbars",
        "force-prefers-reduced-motion",  # what moves is measured where it ends
        "force-color-profile=srgb",
        f"window-size={DESKTOP[0]},{DESKTOP[1] + 150}",
        f"user-data-dir={folder / 'profile'}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver, env={**os.environ, "HOME": str(folder)})
    browser = webdriver.Chrome(options, service)
    try:
        browser.set_page_load_timeout(SECONDS)
        person = Person(browser)
        person.window(*DESKTOP)
        yield person
    finally:
        browser.quit()


class Person:
    """Looks, clicks, types, takes pictures."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    # --- what one does ------------------------------------------------------------------------------------------------

    def go(self, url: str) -> None:
        """Type an address."""
        self.browser.get(url)

    def see(self, css: str, seconds: float = SECONDS) -> WebElement:
        """The first visible element, once there is one."""
        found: WebElement = self.until(
            lambda: next((one for one in self.browser.find_elements(By.CSS_SELECTOR, css) if one.is_displayed()), None),
            f"no {css} in sight",
            seconds,
        )
        return found

    def click(self, css: str) -> None:
        """Bring it to the middle of the window, as somebody would scroll, and click."""
        element = self.see(css)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        """Keys, one after the other, to whatever has the focus."""
        ActionChains(self.browser).send_keys(*keys).perform()

    def press_with(self, held: str, key: str) -> None:
        """One key while another is held."""
        ActionChains(self.browser).key_down(held).send_keys(key).key_up(held).perform()

    def tab_to(self, text: str, at_most: int = 40) -> None:
        """Press Tab until the element with this text, label or value has the focus."""
        for _ in range(at_most):
            self.press(Keys.TAB)
            here = self.focus()
            if text in here["name"]:
                assert here["visible"] and here["inside"], f"nobody sees that {text!r} has the focus"
                return
        raise AssertionError(f"Tab does not lead to {text!r} at {self.browser.current_url}; there are {here['stops']}")

    def read(self, text: str, seconds: float = SECONDS) -> None:
        """Wait for a text."""
        self.until(lambda: text in self.text(), f"{text!r} is not to be read", seconds)

    def text(self) -> str:
        """All that is to be read."""
        return str(self.browser.find_element(By.TAG_NAME, "body").text)

    def until(self, come_true: Callable[[], Any], wanted: str, seconds: float = SECONDS) -> Any:
        """What ``come_true`` hands back once it is true; a page that is just being changed counts as not yet."""
        wait = WebDriverWait(self.browser, seconds, 0.2, [StaleElementReferenceException])
        try:
            return wait.until(lambda _: come_true())
        except TimeoutException:
            raise AssertionError(f"{wanted} at {self.browser.current_url} after {seconds:.0f} s") from None

    def find(self, text: str, css: str = PRESSED, seconds: float = SECONDS) -> WebElement:
        """What one can press and begins with this line, once it is there."""

        def begins(one: WebElement) -> bool:
            return one.is_displayed() and one.text.strip().partition("\n")[0] == text

        found: WebElement = self.until(
            lambda: next((one for one in self.browser.find_elements(By.CSS_SELECTOR, css) if begins(one)), None),
            f"there is no {text!r} to press",
            seconds,
        )
        return found

    def click_on(self, text: str, css: str = PRESSED) -> None:
        """What one can press and begins with this line."""
        element = self.find(text, css)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def choose(self, menu: str, entry: str) -> None:
        """An entry of a menu of JupyterLab's bar."""
        self.click_on(menu, ".lm-MenuBar-item")
        self.click_on(entry, ".lm-Menu-item")

    def to_tab(self, number: int) -> None:
        """Another tab, once there is one: 0 is the first, -1 the newest."""
        least = number + 1 if number >= 0 else 2
        self.until(lambda: len(self.browser.window_handles) >= least, f"there is no tab {number}")
        self.browser.switch_to.window(self.browser.window_handles[number])
        self.window(*DESKTOP)

    def close_tab(self) -> None:
        """This one; then the first."""
        self.browser.close()
        self.to_tab(0)

    def forget(self) -> None:
        """Become somebody who was nowhere yet: one tab, no cookies, the usual window."""
        for other in self.browser.window_handles[1:]:
            self.browser.switch_to.window(other)
            self.browser.close()
        self.browser.switch_to.window(self.browser.window_handles[0])
        self.go("about:blank")
        self.browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.scripts(True)
        self.dark(False)
        self.window(*DESKTOP)
        self.complaints()

    # --- how one looks ------------------------------------------------------------------------------------------------

    def window(self, width: int, height: int, dots: float = 1) -> None:
        """Another size of window, in CSS pixels, ``dots`` on the screen for each."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": dots, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, wanted: bool = True) -> None:
        """Prefer dark colours."""
        value = "dark" if wanted else "light"
        feature = {"features": [{"name": "prefers-color-scheme", "value": value}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)

    def scripts(self, wanted: bool) -> None:
        """Whether pages that are opened from now on may run any."""
        self.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not wanted})

    def picture(self, file: Path) -> None:
        """What the window shows."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(self.browser.get_screenshot_as_base64()))

    # --- what is wrong ------------------------------------------------------------------------------------------------

    def faults(self, target: int = TARGET) -> list[str]:
        """What is wrong with this page in this window, a sentence each."""
        script = Path(__file__).with_name("page_checks.js").read_text()
        found: list[str] = self.browser.execute_script(script, target)
        return found

    def faults_everywhere(self) -> dict[str, list[str]]:
        """What is wrong with this page, by where: in every window, light and dark, and with the keyboard."""
        found = {}
        for name, window in WINDOWS.items():
            for dark in (False, True):
                self.window(*window)
                self.dark(dark)
                found[f"{name}{', dark' if dark else ''}"] = self.faults()
        self.dark(False)
        self.window(*DESKTOP)
        found["keyboard"] = self.keyboard_faults()
        return {where: what for where, what in found.items() if what}

    def focus(self) -> dict[str, Any]:
        """Which element has the focus, whether that is seen, and which are reached."""
        found: dict[str, Any] = self.browser.execute_script(Path(__file__).with_name("page_focus.js").read_text())
        return found

    def keyboard_faults(self) -> list[str]:
        """What is wrong with the way of the key Tab over this page, from its beginning to its end."""
        # A focused body is where Tab begins anew.
        self.browser.execute_script(
            "const body = document.body; body.tabIndex = -1; body.focus(); body.removeAttribute('tabindex'); scrollTo(0, 0)"
        )
        stops, faults, places = self.focus()["stops"], [], []
        for _ in stops:
            self.press(Keys.TAB)
            here = self.focus()
            places.append(here["place"])
            if not here["visible"]:
                faults.append(f"nobody sees that {here['name']!r} has the focus")
            if not here["inside"]:
                faults.append(f"{here['name']!r} has the focus and is out of sight")
        if places != list(range(len(stops))):
            faults.append(f"Tab goes {places} over {stops}")
        return faults

    def complaints(self, known: dict[str, str] | None = None) -> list[str]:
        """What stands in the browser's console since the last call, but for what is ``known`` (a part of it, and why)."""
        entries = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        found = [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
        return [message for message in found if not any(part in message for part in known or ())]
