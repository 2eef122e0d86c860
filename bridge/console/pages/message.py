"""One message with every stage of it, side by side, and what can be done with it."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.clock import Clock
from bridge.console.access.revealing import OfRevealing, Revealing
from bridge.console.access.visitor import OPERATOR, VIEWER, OfVisitor, Role, Visitor
from bridge.console.desk import Desk, OfDesk
from bridge.console.rendering import OfPages, Pages
from bridge.console.stages.looked import Looked, looked
from bridge.console.stages.offers import REPLAY
from bridge.domain.states import State

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

MessageId = Annotated[int, Path(ge=1, le=10**18)]
DONE: dict[str, str] = {
    "release": "It is released.",
    "replay": "It is understood anew.",
    "discard": "It is discarded.",
    "found": "Its task is taken over.",
    "resend": "It is sent again, as a new generation.",
    "give_up": "Its doubt is over; nothing is sent.",
    "settle": "It is noted as put right.",
    "told": "It goes out again.",
    "untold": "It is never told.",
}
"""What a page says when it comes back from an act; no word of it is in the address."""
NOTHING_TYPED: dict[str, str] = dict.fromkeys(
    ("verb", "order", "reason", "task", "tag", "confirm", "anomaly", "untold"), ""
)


@router.get("/messages/{message_id}", response_class=HTMLResponse)
async def message(
    request: Request,
    message_id: MessageId,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    revealing: OfRevealing,
    done: str = "",
) -> Response:
    """The page."""
    found = await look(desk, message_id, visitor, revealing)
    return await _page(request, pages, found, desk, visitor, done=DONE.get(done, ""))


@router.get("/messages/{message_id}/parts/{part}", response_class=HTMLResponse)
async def part(
    request: Request,
    message_id: MessageId,
    part: Annotated[str, Path(pattern="^(stand|stages)$")],
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    revealing: OfRevealing,
    version: str = "",
    standing: str = "",
) -> Response:
    """A part of an open page anew; 204 where it still is as it was, so that nothing moves under the reader's eyes.

    Forms are no part of it: what somebody is typing stays.
    """
    found = await look(desk, message_id, visitor, revealing)
    if version == found.version:
        return Response(status_code=204)
    context = shown(found, desk.clock, visitor) | {"standing": standing or found.standing}
    return await asyncio.to_thread(pages.page, request, f"partials/message_{part}.html", **context)


@router.post("/messages/{message_id}/reveal", dependencies=[OPERATOR])
async def reveal(message_id: MessageId, visitor: OfVisitor, revealing: OfRevealing, to: str = "") -> Response:
    """Show this message's values to this session, which is noted in the audit trail."""
    await revealing.reveal(visitor, f"message:{message_id}", message_id=message_id)
    return RedirectResponse(f"/messages/{message_id}{'/ecg' if to == 'ecg' else ''}", 303)


@router.post("/messages/{message_id}/mask")
async def mask(message_id: MessageId, visitor: OfVisitor, revealing: OfRevealing, to: str = "") -> Response:
    """Masked again, before the time is over."""
    revealing.mask(visitor, f"message:{message_id}")
    return RedirectResponse(f"/messages/{message_id}{'/ecg' if to == 'ecg' else ''}", 303)


async def look(desk: Desk, message_id: int, visitor: Visitor, revealing: Revealing) -> Looked:
    """The message as this visitor may see it. Raises NotThere."""
    revealed = revealing.is_open(visitor, f"message:{message_id}")
    return await looked(desk, message_id, revealed=revealed, initials=visitor.may(Role.OPERATOR))


async def answer(
    request: Request, pages: Pages, found: Looked, desk: Desk, visitor: Visitor, **more: Any
) -> HTMLResponse:
    """The page again, with why something was refused and what was typed."""
    return await _page(request, pages, found, desk, visitor, status=409, **more)


async def _page(
    request: Request, pages: Pages, found: Looked, desk: Desk, visitor: Visitor, *, status: int = 200, **more: Any
) -> HTMLResponse:
    """In a thread: a message of many values is a page of megabytes, and orders are answered by the loop."""
    context = shown(found, desk.clock, visitor, **more)
    return await asyncio.to_thread(pages.page, request, "message.html", status=status, **context)


def shown(
    found: Looked,
    clock: Clock,
    visitor: Visitor,
    *,
    done: str = "",
    refused: str = "",
    typed: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What the templates need."""
    document = found.found
    now = clock.now().isoformat()
    for doubt in document["doubts"]:
        doubt["waits"] = doubt["quiet_until"] > now
    attached = {t["order_id"] for t in document["tasks"] if t["order_id"] and t["purpose"] == "recording"}
    last = document["history"][-1] if document["history"] else None
    waits = found.case.state in {State.HELD, State.REJECTED, State.IN_DOUBT}
    warnings = [w for e in document["history"] if e["detail"] for w in e["detail"].get("warnings") or ()]
    return {
        "m": found,
        "standing": found.standing,
        "may_act": visitor.may(Role.OPERATOR),
        "done": done,
        "refused": refused,
        "typed": {**NOTHING_TYPED, **(typed or {})},
        "replay_does": REPLAY,
        "rejected": _rejected(found),
        "waits_since": last["at"] if last and waits else None,
        "warnings": list(dict.fromkeys(warnings)),
        "open_anomalies": [a for a in document["anomalies"] if not a["settled"]],
        "untold": [t for t in document["told_later"] if t["state"] == "HELD"],
        "attached": [o for o in found.beside["orders"] if o["id"] in attached],
        "partner": _partner(document, attached),
    }


def _rejected(found: Looked) -> str:
    """Who said no, and where."""
    refused = [t for t in found.found["tasks"] if t["state"] == State.REJECTED]
    if refused:
        return f"The Cardio API answered {refused[-1]['api_status']}."
    places = [
        p.text for line in (found.answer.lines if found.answer else ()) if line.name == "ERR" for p in line.pieces
    ]
    where = _location(places)
    return f"Its sender was told {found.found['answer_code']}{f', at {where}' if where else ''}."


def _location(pieces: list[str]) -> str:
    """ERR-2 of our own answer (HL7 v2.5.1 §2.15.5): segment, its number, field."""
    said = [p for p in pieces if p]
    return "-".join(p for p in (said[0], said[2] if len(said) > 2 else "") if p) if said and said[0].isalnum() else ""


def _partner(document: dict[str, Any] | Any, attached: set[str]) -> dict[str, Any] | None:
    """The side that a recording is shown beside: its order, else what the patient record says."""
    sides = document["sides"]
    if not sides:
        return None
    for one in sides["candidates"]:
        if one["order_id"] in attached:
            return {"title": "Order", **one}
    if sides["record"] is None:
        return None
    return {
        "title": "Patient record",
        "side": sides["record"],
        "agree": sides["record_agrees"],
        "contradict": sides["record_contradicts"],
    }
