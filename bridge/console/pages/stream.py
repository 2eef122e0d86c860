"""The stream of changes, by which open pages refresh what they show."""

from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse

from bridge.console.access.visitor import VIEWER, OfVisitor
from bridge.console.desk import OfDesk

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)


@router.get("/events")
async def events(desk: OfDesk, visitor: OfVisitor) -> StreamingResponse:
    """`changed`, each time that something did."""
    if desk.changes.is_full(visitor.name):
        raise HTTPException(503, "too many pages of yours are open; this one does not refresh itself")
    return StreamingResponse(desk.changes.watch(visitor.name), media_type="text/event-stream")
