"""What the heading of an error page is: words for people, never a word of the closed set that labels metrics."""

import logging
from types import SimpleNamespace

import jinja2
import pytest
from jupyterhub.handlers.base import BaseHandler
from tornado.web import HTTPError

from af_hub.session.options import Reason
from af_hub.spawning.choosing import SessionRefused
from af_hub.testing.hub import CHECKOUT

FRAME = "<title>{% block title %}{% endblock %}</title>{% block h1_error %}{% endblock %}{% block error_detail %}{% endblock %}"
SENTENCE = "There is no room for your session now: see https://hub.test/why"


class Page(BaseHandler):
    """JupyterHub's own error page with our template; it needs no hub."""

    def __init__(self) -> None:
        self._jupyterhub_user, self.written = None, ""
        self.application = SimpleNamespace(settings={"log": logging.getLogger("page")})

    def set_header(self, *_: object) -> None:
        pass

    def clear_header(self, *_: object) -> None:
        pass

    def write(self, text: str) -> None:
        self.written = text

    def render_template(self, name: str, sync: bool = False, **values: object) -> str:
        loaders = [
            jinja2.DictLoader({"templates/error.html": FRAME}),
            jinja2.FileSystemLoader(CHECKOUT / "hub_config/templates"),
        ]
        if name != "error.html":
            raise jinja2.TemplateNotFound(name)
        environment = jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), autoescape=True)
        return environment.get_template(name).render(base_url="/hub/", login_url="/hub/login", **values)


def page_of(status: int, error: Exception) -> str:
    page = Page()
    page.write_error(status, exc_info=(type(error), error, None))
    return page.written


@pytest.mark.parametrize("reason", list(Reason))
def test_a_refused_session_is_told_by_its_sentence(reason: Reason) -> None:
    page = page_of(500, SessionRefused(SENTENCE, reason=str(reason), status_code=500, log_message="for the log"))
    assert "<h1>Your session does not start</h1>" in page and "There is no room for your session now" in page
    assert '<a href="https://hub.test/why"' in page and "for the log" not in page and "hub says" not in page


@pytest.mark.parametrize(
    "error, heading",
    [
        pytest.param(
            HTTPError(429, "Too many at once.", reason="throttled"), "Too many requests", id="a code of JupyterHub's"
        ),
        pytest.param(HTTPError(403, "No."), "This is not for you", id="without a reason"),
        pytest.param(HTTPError(400, "Once more.", reason="The login was stopped"), "The login was stopped", id="words"),
    ],
)
def test_headings_are_words(error: HTTPError, heading: str) -> None:
    page = page_of(error.status_code, error)
    assert f"<h1>{heading}</h1>" in page and str(error.log_message) in page
