"""What is answered where something is refused: a page for people, JSON for scripts."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from bridge.console.access.refusals import Forbidden, NotThere
from bridge.console.rendering import Pages
from bridge.errors import ActionRefused, BadInput, BridgeError, StoreError

_STATUS: dict[type[BridgeError], int] = {
    Forbidden: 403,
    NotThere: 404,
    ActionRefused: 409,
    BadInput: 422,
    StoreError: 503,
}


def answer_errors(app: FastAPI) -> None:
    """Errors of ours, of routes and of what was sent come out as answers that name the way out."""
    app.add_exception_handler(BridgeError, _refused)
    app.add_exception_handler(HTTPException, _missed)
    app.add_exception_handler(RequestValidationError, _misread)


def status_of(problem: BridgeError) -> int:
    """The HTTP status of an error of ours; 503 where it is none of the asker's."""
    return next((status for kind, status in _STATUS.items() if isinstance(problem, kind)), 503)


async def _refused(request: Request, problem: Exception) -> Response:
    status = status_of(problem) if isinstance(problem, BridgeError) else 500
    return told(request, status, str(problem))


async def _missed(request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    return told(request, status, str(getattr(problem, "detail", "")))


async def _misread(request: Request, problem: Exception) -> Response:
    """Names what was not understood, never its value."""
    errors = problem.errors() if isinstance(problem, RequestValidationError) else ()
    wrong = sorted({".".join(str(p) for p in e["loc"]) for e in errors})
    return told(request, 422, f"not understood: {', '.join(wrong)}")


def told(request: Request, status: int, text: str) -> Response:
    """A page for people, JSON for scripts, and where there are no pages."""
    shown: Pages | None = getattr(request.app.state, "pages", None)
    for_people = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    if shown is None or not for_people:
        return JSONResponse({"refused" if status < 500 else "failed": text}, status)
    return shown.page(request, "refused.html", status=status, code=status, text=text)
