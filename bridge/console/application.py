"""The console: its routers, the door in front of them, and what is answered where something is refused."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from bridge.console import health
from bridge.console.access.door import Door
from bridge.console.access.refusals import Forbidden, NotThere
from bridge.console.desk import Desk
from bridge.console.pages import ROUTERS, stream
from bridge.console.rendering import Pages
from bridge.errors import ActionRefused, BadInput, BridgeError, StoreError

STATIC = Path(__file__).with_name("static")
_STATUS: dict[type[BridgeError], int] = {
    Forbidden: 403,
    NotThere: 404,
    ActionRefused: 409,
    BadInput: 422,
    StoreError: 503,
}


def application(desk: Desk) -> FastAPI:
    """Pages, JSON API and health of one bridge."""
    app = FastAPI(title="Cardio bridge", version="1", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.desk, app.state.pages = desk, Pages(desk)
    app.include_router(health.router)
    app.include_router(stream.router)
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Door, desk=desk)
    app.add_exception_handler(BridgeError, _refused)
    app.add_exception_handler(HTTPException, _missed)
    app.add_exception_handler(RequestValidationError, _misread)
    return app


def status_of(problem: BridgeError) -> int:
    """The HTTP status of an error of ours; 503 where it is none of the asker's."""
    return next((status for kind, status in _STATUS.items() if isinstance(problem, kind)), 503)


async def _refused(request: Request, problem: Exception) -> Response:
    status = status_of(problem) if isinstance(problem, BridgeError) else 500
    return _told(request, status, str(problem))


async def _missed(request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    return _told(request, status, str(getattr(problem, "detail", "")))


async def _misread(request: Request, problem: Exception) -> Response:
    """Names what was not understood, never its value."""
    errors = problem.errors() if isinstance(problem, RequestValidationError) else ()
    wrong = sorted({".".join(str(p) for p in e["loc"]) for e in errors})
    return _told(request, 422, f"not understood: {', '.join(wrong)}")


def _told(request: Request, status: int, text: str) -> Response:
    """A page for people, JSON for scripts."""
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"refused" if status < 500 else "failed": text}, status)
    shown: Pages = request.app.state.pages
    return shown.page(request, "refused.html", status=status, code=status, text=text)
