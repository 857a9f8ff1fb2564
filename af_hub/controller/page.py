"""The page below the hub where a person sees their Dask clusters and closes them; no script, works without one."""

import hmac
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from af_hub.controller.api import close, parts_of
from af_hub.controller.guard import check_navigation, check_same_origin
from af_hub.controller.model import Cluster
from af_hub.controller.parts import Parts
from af_hub.controller.problems import Problem
from af_hub.controller.states import State

OVER_SHOWN = 10
"""Clusters that are over and still on the page."""

templates = Environment(
    loader=PackageLoader("af_hub.controller"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
router = APIRouter(include_in_schema=False)
Controller = Annotated[Parts, Depends(parts_of)]


@router.get("/")
async def page(request: Request, parts: Controller) -> Response:
    """My Dask clusters."""
    check_navigation(request)
    found = await parts.login.by_browser(request)
    if found is None:
        return parts.login.redirect(request)
    person, session = found
    clusters = parts.store.of_owner(person.name)
    over = [cluster for cluster in clusters if State(cluster.state).over]
    policy = parts.policy.current()
    sites = {cluster.site for cluster in clusters if cluster not in over}
    text = templates.get_template("clusters.html").render(
        person=person.name,
        facility=policy.facility,
        prefix=parts.prefix,
        living=[row(cluster, parts) for cluster in clusters if cluster not in over],
        over=[row(cluster, parts) for cluster in over[:OVER_SHOWN]],
        shared=sorted(name for name in sites if name in policy.sites and policy.sites[name].shared),
        csrf_token=session.csrf_token(),
        hub=parts.prefix.removesuffix("services/af-controller/"),
    )
    return HTMLResponse(text)


def row(cluster: Cluster, parts: Parts) -> dict[str, object]:
    """One cluster in the words of the page."""
    return {
        "id": cluster.id,
        "name": cluster.name,
        "site": cluster.site,
        "image": cluster.image,
        "state": cluster.state,
        "reason": cluster.reason,
        "running": cluster.workers_running,
        "wanted": cluster.workers_wanted,
        "size": f"{cluster.cores} core{'s' if cluster.cores > 1 else ''}, {cluster.memory / 2**30:.3g} GiB",
        "until": f"{datetime.fromtimestamp(cluster.expires_at, UTC):%d %b %H:%M} UTC",
        "dashboard": parts.dashboard_url(cluster.id) if cluster.state == State.RUNNING else "",
        "events": [
            (f"{datetime.fromtimestamp(one.at, UTC):%H:%M:%S}", one.state, one.sentence) for one in cluster.events[-20:]
        ],
    }


@router.post("/clusters/{cluster_id}/close")
async def close_from_page(cluster_id: str, request: Request, parts: Controller) -> Response:
    """The button."""
    check_same_origin(request, parts.origin)
    found = await parts.login.by_browser(request)
    if found is None:
        raise Problem(401, "Not logged in.")
    person, session = found
    form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
    sent = form.get("csrf_token", [""])[0]
    if not hmac.compare_digest(sent.encode(), session.csrf_token().encode()):
        raise Problem(403, "The form is out of date; load the page again.")
    close(parts.own(cluster_id, person.name), parts)
    return RedirectResponse(parts.prefix, 303)


@router.get("/oauth_callback")
async def oauth_callback(request: Request, parts: Controller) -> Response:
    """The browser comes back from the hub."""
    return await parts.login.finish(request)


@router.get("/static/page.css")
async def style() -> Response:
    """The style sheet."""
    assert templates.loader is not None
    text, _, _ = templates.loader.get_source(templates, "page.css")
    return Response(text, media_type="text/css", headers={"Cache-Control": "max-age=300"})
