"""What people and programs read while the controller of Dask clusters is away: the hub says it, in the controller's place.

Serves the hop from browser or program to the controller. The proxy asks here when nobody takes its connection, and keeps the status, 502.
Promises: a page for people, a problem (RFC 9457) for programs, and no look at who asks: a browser sends none of the hub's cookies to
the controller's address, so this is no page of the hub's. Where the hub is away too, the proxy says ``Bad Gateway``.
"""

import html
import json
from typing import Any

from tornado.web import RequestHandler

PATH = "/af/away"
SERVICE = "services/af-controller"
FIRST = 1_000_000
"""Before the hub's own route to the controller; the proxy's other routes count by their length."""

TITLE = "Dask clusters are not available now"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · {facility}</title>
<link rel="icon" href="data:,">
<style>
  :root {{ color-scheme: light dark; }}
  body {{ max-width: 44rem; margin: 0 auto; padding: 1.5rem 1rem; font: 1.125rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
  a {{ display: inline-flex; align-items: center; min-height: 2.75rem; margin-right: 1.5rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{detail}</p>
<p><a href="">Try again</a> <a href="{home}">To your home page</a></p>
</main>
</body>
</html>
"""


class ControllerAway(RequestHandler):
    """``GET /hub/af/away``, for the proxy."""

    def get(self) -> None:
        """Say that the controller does not answer, and what goes on without it."""
        facility = self.settings["authenticator"].policy.facility
        detail = (
            "The controller of Dask clusters does not answer at the moment. Dask clusters that run go on. Try again in a minute; if "
            f"it stays so, write to {facility.contact}."
        )
        self.set_status(502)
        self.set_header("Cache-Control", "no-store")
        if "text/html" in self.request.headers.get("Accept", ""):
            home = f"{self.settings['hub'].base_url}home"
            values = {"title": TITLE, "detail": detail, "facility": facility.name, "home": home}
            self.finish(PAGE.format(**{name: html.escape(value) for name, value in values.items()}))
        else:
            self.set_header("Content-Type", "application/problem+json")
            self.finish(json.dumps({"type": "about:blank", "title": TITLE, "status": 502, "detail": detail}))


HANDLERS = [(PATH, ControllerAway)]

PROXY_READY = {"rule": "Path(`/ready`)", "entryPoints": ["ready"], "service": "ping@internal"}
"""Where routes come to traefik by a store, it answers at its entry point ``ready`` once it has them, and not before."""


def proxy_rules(base: str, controller_url: str, hub_url: str) -> dict[str, Any]:
    """A route to the controller for traefik's dynamic configuration, which asks the hub when nobody answers.

    Parameters
    ----------
    base
        The path below which people find everything; with slashes at both ends.
    """

    def at(url: str) -> dict[str, Any]:
        return {"loadBalancer": {"servers": [{"url": url}]}}

    ask_the_hub = {"errors": {"status": ["502"], "service": "af-hub", "query": f"{base}hub{PATH}"}}
    route = {
        "rule": f"PathPrefix(`{base}{SERVICE}/`) || Path(`{base}{SERVICE}`)",
        "priority": FIRST,
        "service": "af-controller",
        "middlewares": ["af-away"],
    }
    return {
        "http": {
            "routers": {"af-controller": route},
            "services": {"af-controller": at(controller_url), "af-hub": at(hub_url)},
            "middlewares": {"af-away": ask_the_hub},
        }
    }
