"""``GET metrics`` below the controller's address, for whoever shows a hub token with the scope ``read:metrics``."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from af_hub.controller import metrics
from af_hub.controller.api import Controller

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
async def answer(request: Request, parts: Controller) -> Response:
    """What Prometheus asks for."""
    await parts.login.check_scope(request, "read:metrics")
    return Response(metrics.text(parts.reconciler.tokens.seconds_left()), media_type=CONTENT_TYPE_LATEST)
