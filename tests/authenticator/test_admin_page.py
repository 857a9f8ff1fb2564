"""The page of admins, in a browser: what it offers is what the role allows."""

from typing import TYPE_CHECKING

import pytest

from af_hub.testing.browser import xsrf_headers
from af_hub.testing.hub import RealHub

if TYPE_CHECKING:
    from af_hub.testing.chromium import Person

pytestmark = pytest.mark.real

BUTTONS = """
return [...document.querySelectorAll("#react-admin-hook button")].filter((one) => one.checkVisibility()).map((one) => one.innerText.trim())
"""


def test_admin_page_offers_what_the_role_allows(hub: RealHub, person: "Person") -> None:
    hub.login("cms-analyst")
    person.go(hub.url + "hub/oauth_login?next=/hub/admin")
    person.click_on("facility-admin", "button")
    person.until(lambda: "Start Server" in person.text() and "cms-analyst" in person.text(), "no list of people")
    offered = {button for button in person.browser.execute_script(BUTTONS) if button}
    assert offered == {"Start All", "Stop All", "Start Server", "Spawn Page", "Previous", "Next"}


REFUSED = [
    ("POST", "users", {"usernames": ["ghost"]}),
    ("PATCH", "users/cms-analyst", {"name": "cms-analyst", "admin": True}),
    ("DELETE", "users/cms-analyst", None),
    ("POST", "groups/mine", {"users": []}),
    ("POST", "groups/af-admins/users", {"users": ["cms-analyst"]}),
    ("POST", "shutdown", {}),
]


def test_what_the_page_does_not_offer_is_refused(hub: RealHub) -> None:
    hub.login("cms-analyst")
    browser = hub.login("facility-admin")
    for method, path, body in REFUSED:
        answer = browser.request(method, f"/hub/api/{path}", json=body, headers=xsrf_headers(browser))
        assert answer.status_code in (403, 404), (path, answer.text)
