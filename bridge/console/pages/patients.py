"""Patients: found by what is typed, and one with its identifiers, merges, orders, tasks and messages.

What is typed goes in the body of a form and never into an address, which browsers and proxies write down.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.console.access import masks
from bridge.console.access.refusals import NotThere
from bridge.console.access.revealing import OfRevealing, Revealing
from bridge.console.access.visitor import OPERATOR, VIEWER, OfVisitor, Role, Visitor
from bridge.console.desk import OfDesk
from bridge.console.rendering import OfPages
from bridge.store import known_patients

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

PatientId = Annotated[int, Path(ge=1, le=10**18)]
Typed = Annotated[str, Form(max_length=200)]


@router.get("/patients", response_class=HTMLResponse)
async def patients(
    request: Request, desk: OfDesk, pages: OfPages, visitor: OfVisitor, revealing: OfRevealing
) -> Response:
    """The search, and the records that were opened last."""
    rows = await desk.store.read(known_patients.newest)
    context = _listed(rows, visitor, revealing)
    return pages.page(request, "patients.html", **context, typed="", searched=False)


@router.post("/patients", response_class=HTMLResponse, dependencies=[OPERATOR])
async def search(
    request: Request,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    revealing: OfRevealing,
    text: Typed = "",
    reveal: Annotated[bool, Form()] = False,
) -> Response:
    """What is found; for operators, since letter by letter a search would say what is masked.

    `reveal`: these records are shown, which is noted in the audit trail.
    """
    rows = await desk.store.read(lambda conn: known_patients.find(conn, text))
    if reveal and rows:
        await revealing.reveal(visitor, *(f"patient:{row['id']}" for row in rows))
    context = _listed(rows, visitor, revealing)
    return pages.page(request, "patients.html", **context, typed=text, searched=True)


def _listed(rows: list[dict[str, Any]], visitor: Visitor, revealing: Revealing) -> dict[str, Any]:
    shown = [row if revealing.is_open(visitor, f"patient:{row['id']}") else masks.patient(row) for row in rows]
    masked = any(one is not row for one, row in zip(shown, rows, strict=True))
    return {"rows": shown, "masked": masked, "may_act": visitor.may(Role.OPERATOR)}


@router.get("/patients/{patient_id}", response_class=HTMLResponse)
async def patient(
    request: Request,
    patient_id: PatientId,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    revealing: OfRevealing,
) -> Response:
    """One record."""
    authority = desk.settings.site.assigning_authority
    found = await desk.store.read(lambda conn: known_patients.whole(conn, patient_id, site_authority=authority))
    if found is None:
        raise NotThere(f"there is no patient {patient_id}")
    revealed = revealing.is_open(visitor, f"patient:{patient_id}")
    return pages.page(
        request,
        "patient.html",
        p=found if revealed else masks.patient(found),
        revealed=revealed,
        may_act=visitor.may(Role.OPERATOR),
    )


@router.post("/patients/{patient_id}/reveal", dependencies=[OPERATOR])
async def reveal(patient_id: PatientId, visitor: OfVisitor, revealing: OfRevealing) -> Response:
    """Show this record to this session."""
    await revealing.reveal(visitor, f"patient:{patient_id}")
    return RedirectResponse(f"/patients/{patient_id}", 303)


@router.post("/patients/{patient_id}/mask")
async def mask(patient_id: PatientId, visitor: OfVisitor, revealing: OfRevealing) -> Response:
    """Masked again."""
    revealing.mask(visitor, f"patient:{patient_id}")
    return RedirectResponse(f"/patients/{patient_id}", 303)
