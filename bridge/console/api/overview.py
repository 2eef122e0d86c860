"""The figures of the first page, and the alarms that are on."""

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel

from bridge.console.access.visitor import VIEWER
from bridge.console.desk import OfDesk
from bridge.console.overview import Overview, overview
from bridge.store import alarms

router = APIRouter(prefix="/api", tags=["overview"], dependencies=[VIEWER])


class AlarmOn(BaseModel):
    """An alarm that is on: its rule, what it is about, and since when."""

    id: str
    rule: str
    subject: str
    since: AwareDatetime


@router.get("/overview")
async def figures(desk: OfDesk) -> Overview:
    """Listeners, senders and destinations with their last hour by the minute; queues with their depth and age."""
    return await overview(desk)


@router.get("/alarms")
async def alarms_on(desk: OfDesk) -> Sequence[AlarmOn]:
    """What is wrong now. Holds no patient's value."""
    on = await desk.store.read(alarms.on_now)
    return [AlarmOn(id=str(one.id), rule=one.rule, subject=one.subject, since=one.since) for one in on]
