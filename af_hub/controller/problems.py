"""Errors: a page for people who went to an address with a browser, problem details (RFC 9457) for programs.

Both hold the same sentence, and never what was sent.
"""

import logging
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from af_hub.controller.keys import BadKey
from af_hub.controller.mistakes import sentence
from af_hub.errors import AFError, LoginRequired, Refused, Unavailable

log = logging.getLogger(__name__)

TITLES = {
    401: "Not logged in",
    403: "Not allowed",
    404: "Not found",
    405: "Not done here",
    408: "Too slow",
    409: "Not in this state",
    413: "Too much",
    422: "Not understood",
    500: "A fault of ours",
    502: "No sensible answer",
    503: "Not available now",
}
SENTENCES = {404: "There is nothing at this address.", 405: "That cannot be done at this address."}
"""For what the framework refuses before any route of ours is asked."""

STATUS = ((LoginRequired, 401), (Refused, 403), (BadKey, 422), (Unavailable, 503))


class Problem(Exception):
    """What a route raises to answer with a problem."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def problem(status: int, detail: str) -> JSONResponse:
    """The answer for one problem."""
    found = {"type": "about:blank", "title": TITLES.get(status, "Problem"), "status": status, "detail": detail}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(found, status, headers, media_type="application/problem+json")


def status_of(error: AFError) -> int:
    """The HTTP status for one of our errors."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def for_people(request: Request) -> bool:
    """Whether somebody went there with a browser: the API and what a page loads want no page."""
    navigates = request.headers.get("sec-fetch-mode", "navigate") == "navigate"
    return navigates and "text/html" in request.headers.get("accept", "") and "/api/" not in request.url.path


def add_problems(app: FastAPI, page: Callable[[Request, int, str, str], Response]) -> None:
    """Answer every error of ``app`` with a problem; ``page`` makes a page of request, status, title and sentence."""

    def answer(request: Request, status: int, detail: str) -> Response:
        if for_people(request):
            return page(request, status, TITLES.get(status, "Problem"), detail)
        return problem(status, detail)

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return answer(request, error.status, error.detail)

    @app.exception_handler(AFError)
    async def _ours(request: Request, error: AFError) -> Response:
        return answer(request, status_of(error), str(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, SENTENCES.get(error.status_code, str(error.detail)))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, 422, sentence(error.errors()))

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> Response:
        return answer(request, 500, "The controller made a mistake; its log says more.")
