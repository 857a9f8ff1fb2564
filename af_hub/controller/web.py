"""The web application: routes, errors and guards, put together."""

from fastapi import APIRouter, FastAPI

from af_hub.controller import api, batch_api, dashboard, look, metrics_api, page
from af_hub.controller.guard import Guard
from af_hub.controller.parts import Parts
from af_hub.controller.problems import add_problems

health = APIRouter()


@health.get("/api/health")
async def answer() -> dict[str, str]:
    """That the controller serves."""
    return {"status": "ok"}


def create_app(parts: Parts) -> FastAPI:
    """The application, served below ``parts.prefix``: the hub's proxy passes paths on as they are."""
    app = FastAPI(
        title="AF Hub controller",
        description="Dask clusters at the sites of the facility.",
        version="1",
        openapi_url=f"{parts.prefix}api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    for router in (health, api.router, batch_api.router, dashboard.router, metrics_api.router, page.router):
        app.include_router(router, prefix=parts.prefix.rstrip("/"))
    app.add_middleware(Guard)
    add_problems(app, look.problem_page)
    return app
