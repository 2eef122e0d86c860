"""The console: its routers, and the door in front of them."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from bridge.console import health
from bridge.console.access.closed import ways
from bridge.console.access.door import Door
from bridge.console.access.reception import Reception
from bridge.console.api import API_ROUTERS
from bridge.console.api import WIDER as API_WIDER
from bridge.console.bounds import Bounds
from bridge.console.desk import Desk
from bridge.console.pages import ROUTERS, WIDER, stream
from bridge.console.refusing import answer_errors
from bridge.console.rendering import Pages

STATIC = Path(__file__).with_name("static")


def application(desk: Desk) -> FastAPI:
    """Pages, JSON API and health of one bridge."""
    app = FastAPI(title="Cardio bridge", version="1", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.desk, app.state.pages, app.state.reception = desk, Pages(desk), Reception(desk)
    app.include_router(health.router)
    app.include_router(stream.router)
    for router in (*API_ROUTERS, *ROUTERS):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    ways(app.routes)  # a route that says not whom it is for is for nobody
    app.add_middleware(Bounds, wider=WIDER | API_WIDER)
    app.add_middleware(Door, reception=app.state.reception)
    answer_errors(app)
    return app


def health_alone(desk: Desk) -> FastAPI:
    """What watches a process that shows no pages: `/healthz`, `/readyz`, `/metrics`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.include_router(health.router)
    app.add_middleware(Bounds)
    answer_errors(app)
    return app
