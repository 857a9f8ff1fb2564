"""The pages about refusals, which the hub serves below ``/hub/af/refused/``: for whoever was refused, so nobody need be logged in.

What stands on them is :data:`af_hub.policy.refusals.PAGES`; how they look is ``hub_config/templates/refused.html``.
"""

from jupyterhub.handlers import BaseHandler
from tornado import web

from af_hub.policy.refusals import PAGES


class RefusalHandler(BaseHandler):  # type: ignore[misc]
    """``GET af/refused/`` is the list, ``GET af/refused/NAME`` one page."""

    async def get(self, name: str) -> None:
        """The page of this name."""
        if name and name not in PAGES:
            raise web.HTTPError(404, f"There is no kind of refusal {name!r:.40}.")
        pages = {name: PAGES[name]} if name else PAGES
        self.finish(await self.render_template("refused.html", pages=pages, one=bool(name)))


HANDLERS = [(r"/af/refused/([a-z-]*)", RefusalHandler)]
