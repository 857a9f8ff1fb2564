"""How the controller's pages look: templates, style sheet and script, and what a browser may do with them.

Serves browsers only. A page loads its own style sheet and its own script and asks its own list; nothing else, whatever is in it.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from af_hub.controller.parts import Parts

STATIC = {"page.css": "text/css", "page.js": "text/javascript"}

templates = Environment(
    loader=PackageLoader("af_hub.controller"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def rendered(template: str, parts: Parts, values: Mapping[str, object]) -> str:
    """The text of a template, with what all of them use."""
    common = {
        "facility": parts.policy.current().facility,
        "prefix": parts.prefix,
        "hub": parts.prefix.removesuffix("services/af-controller/"),
    }
    return templates.get_template(template).render({**common, **values})


def page(template: str, parts: Parts, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
    """A whole page."""
    headers = {"Content-Security-Policy": may_load(parts), "Cache-Control": "no-store"}
    return HTMLResponse(rendered(template, parts, values), status, headers)


def problem_page(request: Request, status: int, title: str, sentence: str) -> HTMLResponse:
    """An error as a page, from which there is a way on."""
    again = request.method == "GET" and status >= 500
    values = {"title": title, "detail": sentence, "again": again}
    return page("problem.html", request.app.state.parts, values, status)


def may_load(parts: Parts) -> str:
    """What a page may load, as a Content-Security-Policy. ``'self'`` would be people's own servers too, where they share the hub's address."""
    here = f"{parts.origin}{parts.prefix}"
    return (
        f"default-src 'none'; style-src {here}static/; script-src {here}static/; connect-src {here}list; img-src data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


@cache
def static(name: str) -> str:
    """One of :data:`STATIC`."""
    return files("af_hub.controller").joinpath("static", name).read_text()
