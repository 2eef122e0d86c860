"""The first page: is it connected, does anything wait, and what must a person see."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from bridge.console.access.visitor import VIEWER
from bridge.console.desk import OfDesk
from bridge.console.overview import overview
from bridge.console.pages.alarms import alarms_now
from bridge.console.rendering import OfPages

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
async def page(request: Request, desk: OfDesk, pages: OfPages) -> HTMLResponse:
    """Listeners, senders and destinations with their last hour, queues with their age, alarms."""
    return pages.page(request, "overview.html", o=await overview(desk), alarms_now=await alarms_now(desk))


@router.get("/overview/now", response_class=HTMLResponse)
async def now(request: Request, desk: OfDesk, pages: OfPages) -> HTMLResponse:
    """The figures alone, for an open page; the alarms beside them follow by themselves."""
    return pages.page(request, "partials/overview_now.html", o=await overview(desk))
