"""An order of the book: where it stands, what is planned, and the tasks and messages that came of it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.console.access import masks
from bridge.console.access.refusals import NotThere
from bridge.console.access.revealing import OfRevealing
from bridge.console.access.visitor import OPERATOR, VIEWER, OfVisitor, Role
from bridge.console.desk import OfDesk
from bridge.console.rendering import OfPages
from bridge.store import beside, known_patients
from bridge.store.port import Connection

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

OrderId = Annotated[int, Path(ge=1, le=10**18)]


@router.get("/orders/{order_id}", response_class=HTMLResponse)
async def order(
    request: Request,
    order_id: OrderId,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    revealing: OfRevealing,
) -> Response:
    """One order."""
    authority = desk.settings.site.assigning_authority

    def read(conn: Connection) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
        found = beside.order(conn, order_id)
        if found is None:
            return None
        value, own = found["patient_value"], found["patient_authority"]
        return found, known_patients.of_order(conn, value, own, site_authority=authority)

    got = await desk.store.read(read)
    if got is None:
        raise NotThere(f"there is no order {order_id}")
    found, patient = got
    revealed = revealing.is_open(visitor, f"order:{order_id}")
    return pages.page(
        request,
        "order.html",
        o=found if revealed else masks.order(found),
        patient=patient["id"] if patient is not None else None,
        revealed=revealed,
        may_act=visitor.may(Role.OPERATOR),
    )


@router.post("/orders/{order_id}/reveal", dependencies=[OPERATOR])
async def reveal(order_id: OrderId, visitor: OfVisitor, revealing: OfRevealing) -> Response:
    """Show this order's values to this session."""
    await revealing.reveal(visitor, f"order:{order_id}")
    return RedirectResponse(f"/orders/{order_id}", 303)


@router.post("/orders/{order_id}/mask")
async def mask(order_id: OrderId, visitor: OfVisitor, revealing: OfRevealing) -> Response:
    """Masked again."""
    revealing.mask(visitor, f"order:{order_id}")
    return RedirectResponse(f"/orders/{order_id}", 303)
