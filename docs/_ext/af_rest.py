"""The controller's application without a controller behind it: enough to say what its routes are."""

from types import SimpleNamespace
from typing import Any

from af_hub.controller.web import create_app

PREFIX = "/services/af-controller/"


def controller() -> dict[str, Any]:
    """Its OpenAPI document, with paths as they stand below the controller's address."""
    document = create_app(SimpleNamespace(prefix=PREFIX)).openapi()  # type: ignore[arg-type]
    return {**document, "paths": {path.removeprefix(PREFIX): found for path, found in document["paths"].items()}}
