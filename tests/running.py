"""A facility that runs as a process of its own, and people who are logged in to it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from af_hub.testing.browser import sign_in


@dataclass
class RunningFacility:
    """Where everything is, as :meth:`af_hub.demo.facility.Facility.facts` says it, and people's browsers."""

    facts: dict[str, Any]
    browsers: dict[str, httpx.Client] = field(default_factory=dict, kw_only=True)

    @property
    def url(self) -> str:
        return self.facts["url"]

    @property
    def folder(self) -> Path:
        return Path(self.facts["folder"])

    def browser(self, username: str) -> httpx.Client:
        """The browser in which this user is logged in, always the same one."""
        if username not in self.browsers:
            self.browsers[username] = sign_in(self.url, username)
        return self.browsers[username]

    def close_browsers(self) -> None:
        for browser in self.browsers.values():
            browser.close()
