"""The stream of changes, by which open pages refresh what they show."""

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from bridge.console.access.visitor import VIEWER
from bridge.console.desk import OfDesk

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)


@router.get("/events")
async def events(desk: OfDesk) -> StreamingResponse:
    """`changed`, each time that something did."""
    return StreamingResponse(desk.changes.watch(), media_type="text/event-stream")
