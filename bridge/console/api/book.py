"""Patients and orders: masked unless somebody asks for their values, which is noted."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field

from bridge.console.access import masks
from bridge.console.access.refusals import NotThere
from bridge.console.access.revealing import OfRevealing
from bridge.console.access.visitor import OPERATOR, VIEWER, OfVisitor
from bridge.console.desk import OfDesk
from bridge.store import beside, known_patients

router = APIRouter(prefix="/api", tags=["patients and orders"], dependencies=[VIEWER])

_Id = Annotated[int, Path(ge=1, le=10**18)]
_MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "There is none of that id."}}


class Typed(BaseModel):
    """What is looked for: an identifier or a name, by its beginning. In a body, since addresses are written down."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str, Field(max_length=200)]
    reveal: bool = False


@router.post("/patients/search", dependencies=[OPERATOR], responses={400: {"description": "The body is no text."}})
async def search(
    typed: Annotated[Typed, Body()], desk: OfDesk, visitor: OfVisitor, revealing: OfRevealing
) -> Sequence[dict[str, Any]]:
    """Patient records; for operators, since letter by letter a search would say what is masked."""
    rows = await desk.store.read(lambda conn: known_patients.find(conn, typed.text))
    if typed.reveal and rows:
        await revealing.reveal(visitor, *(f"patient:{row['id']}" for row in rows))
    return rows if typed.reveal else [masks.patient(row) for row in rows]


@router.get("/patients/{patient_id}", responses=_MISSING)
async def patient(
    patient_id: _Id, desk: OfDesk, visitor: OfVisitor, revealing: OfRevealing, *, reveal: bool = False
) -> dict[str, Any]:
    """A record with its identifiers, merges, orders, tasks and messages."""
    authority = desk.settings.site.assigning_authority
    found = await desk.store.read(lambda conn: known_patients.whole(conn, patient_id, site_authority=authority))
    if found is None:
        raise NotThere(f"there is no patient {patient_id}")
    if reveal:
        await revealing.reveal(visitor, f"patient:{patient_id}")
    return found if reveal else masks.patient(found)


@router.get("/orders/{order_id}", responses=_MISSING)
async def order(
    order_id: _Id, desk: OfDesk, visitor: OfVisitor, revealing: OfRevealing, *, reveal: bool = False
) -> dict[str, Any]:
    """An order of the book with its plan, tasks and messages."""
    found = await desk.store.read(lambda conn: beside.order(conn, order_id))
    if found is None:
        raise NotThere(f"there is no order {order_id}")
    if reveal:
        await revealing.reveal(visitor, f"order:{order_id}")
    return found if reveal else masks.order(found)
