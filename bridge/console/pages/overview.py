"""The first page: is it connected, and does anything wait."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from bridge.console.access.visitor import VIEWER
from bridge.console.desk import OfDesk
from bridge.console.rendering import OfPages
from bridge.domain.states import State
from bridge.store import listing, quarantine

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
async def overview(request: Request, desk: OfDesk, pages: OfPages) -> HTMLResponse:
    """Listeners, destinations, queues with their age, alarms."""
    counts = await desk.store.read(listing.counts)
    why = await desk.store.read(quarantine.reason)
    return pages.page(request, "overview.html", counts=[(s.value, counts.get(s, 0)) for s in State], quarantine=why)
