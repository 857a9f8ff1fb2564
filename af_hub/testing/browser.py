"""A person's browser without a screen: logs in at a hub through the demo IAM, keeps cookies, does what the hub's pages do.

Leaves what stands on the pages to tests with a real browser.
"""

import html
import re

import httpx

from af_hub.errors import Unavailable

SECONDS = 30.0
"""For one answer."""


def sign_in(url: str, username: str, next_url: str = "/hub/home") -> httpx.Client:
    """A browser in which this demo user has logged in at the hub at ``url``: every redirect followed, the IAM's form sent.

    Raises
    ------
    PermissionError
        When the hub does not let the user in; the message is what its page says.
    """
    browser = httpx.Client(base_url=url, follow_redirects=True, timeout=SECONDS)
    page = browser.get("/hub/oauth_login", params={"next": next_url})
    page.raise_for_status()
    ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
    page = browser.post(page.url.join("/login"), data={"ticket": ticket, "user": username})
    if page.status_code != 200:
        browser.close()
        raise PermissionError(f"HTTP {page.status_code}: {html.unescape(message_of(page.text))}")
    return browser


def message_of(page: str) -> str:
    """The sentence on one of the hub's error pages, without the links in it."""
    _, _, rest = page.partition("</h1>")
    return re.sub("<[^>]+>", "", rest.partition("<p>")[2].partition("</p>")[0]).strip() or page[:300]


def xsrf_headers(browser: httpx.Client, path: str = "/hub/") -> dict[str, str]:
    """What pages below ``path``, of the hub or of somebody's server, send along with a change, so that other pages cannot.

    Raises
    ------
    Unavailable
        When no page there was opened before.
    """
    for cookie in browser.cookies.jar:
        if cookie.name == "_xsrf" and cookie.path == path:
            return {"X-XSRFToken": cookie.value or "", "Referer": str(browser.base_url.join(path))}
    raise Unavailable(f"no page below {path} has set the cookie _xsrf")


def hub_token(browser: httpx.Client, username: str, scopes: list[str] | None = None) -> str:
    """A new hub token of the user who is logged in."""
    asked = {"note": "test", "expires_in": 3600, **({"scopes": scopes} if scopes is not None else {})}
    answer = browser.post(f"/hub/api/users/{username}/tokens", json=asked, headers=xsrf_headers(browser))
    answer.raise_for_status()
    return str(answer.json()["token"])
