"""The page below the hub where a person sees their Dask clusters and closes them.

Its script asks for the list again and again, and changes what is different. Without the script a link loads the page again, and
everything else is the same.
"""

import hmac
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from af_hub.controller import look
from af_hub.controller.api import close, parts_of
from af_hub.controller.guard import check_navigation, check_same_origin
from af_hub.controller.hub import Person
from af_hub.controller.login import BrowserSession
from af_hub.controller.model import Cluster
from af_hub.controller.parts import Parts
from af_hub.controller.problems import Problem
from af_hub.controller.states import State

OVER_SHOWN = 10
"""Clusters that are over and still on the page."""

EVENTS_SHOWN = 20

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
    return look.page("clusters.html", parts, {"person": person.name, **values(person, session, parts)})


@router.get("")
async def without_slash(parts: Controller) -> Response:
    """Somebody typed the address."""
    return RedirectResponse(parts.prefix, 302)


@router.get("/list")
async def part_of_page(request: Request, parts: Controller) -> Response:
    """What changes of the page. For its own script, which proves by the token in the page that it is that."""
    check_same_origin(request, parts.origin)
    person, session = await _by_page(request, request.headers.get("x-csrf-token", ""), parts)
    return HTMLResponse(look.rendered("list.html", parts, values(person, session, parts)))


def values(person: Person, session: BrowserSession, parts: Parts) -> dict[str, object]:
    """What the list says, in the words of the page."""
    clusters = parts.store.of_owner(person.name)
    over = [cluster for cluster in clusters if State(cluster.state).over]
    living = [cluster for cluster in clusters if cluster not in over]
    sites = parts.policy.current().sites
    return {
        "living": [row(cluster, parts) for cluster in living],
        "over": [row(cluster, parts) for cluster in over[:OVER_SHOWN]],
        "shared": sorted(name for name in {one.site for one in living} if name in sites and sites[name].shared),
        "csrf_token": session.csrf_token(),
    }


def row(cluster: Cluster, parts: Parts) -> dict[str, object]:
    """One cluster in the words of the page."""
    return {
        "id": cluster.id,
        "name": cluster.name,
        "site": cluster.site,
        "image": cluster.image,
        "state": State(cluster.state).value,
        "reason": cluster.reason,
        "running": cluster.workers_running,
        "wanted": cluster.workers_wanted,
        "size": f"{cluster.cores} core{'s' if cluster.cores > 1 else ''}, {cluster.memory / 2**30:.3g} GiB",
        "until": _time(cluster.events[-1].at if State(cluster.state).over else cluster.expires_at, "%-d %b %H:%M UTC"),
        "dashboard": parts.dashboard_url(cluster.id) if cluster.state == State.RUNNING else "",
        "events": [(_time(one.at, "%H:%M:%S"), one.state, one.sentence) for one in cluster.events[-EVENTS_SHOWN:]],
    }


def _time(at: float, form: str) -> tuple[str, str]:
    """A time for programs and for people; the page's script makes local time of it."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%SZ}", when.strftime(form)


@router.post("/clusters/{cluster_id}/close")
async def close_from_page(cluster_id: str, request: Request, parts: Controller) -> Response:
    """The button."""
    check_same_origin(request, parts.origin)
    form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
    person, _ = await _by_page(request, form.get("csrf_token", [""])[0], parts)
    close(parts.own(cluster_id, person.name), parts)
    return RedirectResponse(parts.prefix, 303)


async def _by_page(request: Request, token: str, parts: Parts) -> tuple[Person, BrowserSession]:
    """Who asks, from a page that we gave this browser.

    Raises
    ------
    Problem
        401 when nobody is logged in, 403 when the page is not ours or of an earlier login.
    """
    found = await parts.login.by_browser(request)
    if found is None:
        raise Problem(401, "You are no longer logged in here.")
    if not hmac.compare_digest(token.encode(), found[1].csrf_token().encode()):
        raise Problem(403, "That page was of an earlier login. Open it again; nothing was changed.")
    return found


@router.get("/oauth_callback")
async def oauth_callback(request: Request, parts: Controller) -> Response:
    """The browser comes back from the hub."""
    return await parts.login.finish(request)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Style sheet and script."""
    if name not in look.STATIC:
        raise Problem(404, "There is nothing at this address.")
    return Response(look.static(name), media_type=look.STATIC[name], headers={"Cache-Control": "max-age=300"})
