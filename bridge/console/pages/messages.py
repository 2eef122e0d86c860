"""The list of messages: searched as one types, filtered, newest first, and filled up as messages come in.

An address is a deep link, and it is written down by browsers and by proxies. So what is typed goes to the server in a
form's body, and comes into the address where it can be no patient's (`search.may_name_a_patient`): a control id, an
order number or a task id does, a name or a patient identifier does not. A link that bears any text is followed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from bridge.console.access.visitor import VIEWER, OfVisitor, Role, Visitor
from bridge.console.desk import Desk, OfDesk
from bridge.console.rendering import OfPages
from bridge.domain.states import State
from bridge.errors import BadInput
from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.receive.intake import HANDLED
from bridge.store import earlier, search
from bridge.store.port import Connection
from bridge.store.terms import typed

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

TYPES = (*sorted("^".join(one) for one in HANDLED), *sorted(ECG_SOP_CLASSES.values()))
"""What a type can be; others can be typed."""
KINDS = {"hl7": "HL7", "dicom": "DICOM"}
_PAGE = 50
_FIRST, _LAST = 1970, 9000  # years

_Short = Annotated[str, Field(max_length=200)]


class Asked(BaseModel):
    """What the form asks for, in an address or in a body."""

    q: _Short = ""
    state: list[State] = []
    kind: Annotated[str, Field(pattern="^(|hl7|dicom)$")] = ""
    type: _Short = ""
    sender: _Short = ""
    peer: _Short = ""
    since: _Short = ""
    until: _Short = ""
    before: Annotated[int | None, Field(ge=1, le=2**62)] = None
    replayed: Annotated[int | None, Field(ge=0, le=1000)] = None  # what came of a replay of what was found
    refused: Annotated[int | None, Field(ge=0, le=1000)] = None

    def narrowed(self) -> bool:
        """Whether anything but the words narrows the list."""
        return any((self.state, self.kind, self.type, self.sender, self.peer, self.since, self.until))

    def pairs(self, *, text: bool, before: int | None = None) -> Sequence[tuple[str, str]]:
        """The form's fields that are filled in, in its order."""
        single = {**self.model_dump(include={"kind", "type", "sender", "peer", "since", "until"}), "before": before}
        found = [("q", self.q)] if text and self.q else []
        found += [("state", one.value) for one in self.state]
        return found + [(name, str(value)) for name, value in single.items() if value]


class Found(BaseModel):
    """A page of messages, and what is to be said of it."""

    model_config = {"arbitrary_types_allowed": True, "frozen": True}

    page: search.Page
    named: tuple[int, str] | None
    private: bool  # what was typed may be a patient's
    linked: bool  # it is something, and no patient's: it may stand in an address
    unread: int  # messages up to this one are not found by their words yet


async def _found(desk: Desk, asked: Asked, visitor: Visitor) -> Found:
    zone = ZoneInfo(desk.settings.site.time_zone)
    filters = search.Filters(
        states=asked.state,
        kinds=[asked.kind] if asked.kind else [],
        types=[asked.type.strip()] if asked.type.strip() else [],
        sender=asked.sender,
        peer=asked.peer,
        since=_moment(asked.since, zone, "since"),
        until=_moment(asked.until, zone, "until"),
    )

    def look(conn: Connection) -> Found:
        text = asked.q.strip()
        private = search.may_name_a_patient(conn, text)
        return Found(
            page=search.find(
                conn, text, filters, before=asked.before, limit=_PAGE, of_patients=visitor.may(Role.OPERATOR)
            ),
            named=search.named(conn, text) if text else None,
            private=private,
            linked=bool(typed(text)) and not private,
            unread=earlier.upto(conn) if text or asked.sender or asked.peer else 0,
        )

    return await desk.store.read(look)


def _moment(text: str, zone: ZoneInfo, where: str) -> datetime | None:
    """A time of the form, in the site's zone. Raises BadInput."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as cause:
        raise BadInput(f"{where}: a date and time are wanted, as 2026-03-01T12:00", where=where) from cause
    if not _FIRST <= found.year <= _LAST:
        raise BadInput(f"{where}: a year from {_FIRST} to {_LAST} is wanted", where=where)
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def _address(asked: Asked, *, text: bool, before: int | None = None) -> str:
    said = urlencode(asked.pairs(text=text, before=before))
    return f"/messages?{said}" if said else "/messages"


def _shown(request: Request, pages: OfPages, template: str, asked: Asked, found: Found) -> HTMLResponse:
    following = found.page.next
    return pages.page(
        request,
        template,
        asked=asked,
        found=found,
        states=list(State),
        kinds=KINDS,
        types=TYPES,
        first=_address(asked, text=found.linked),
        older="" if following is None else _address(asked, text=found.linked, before=following),
        fields=asked.pairs(text=True),
    )


@router.get("/messages", response_class=HTMLResponse)
async def messages(
    request: Request, asked: Annotated[Asked, Query()], desk: OfDesk, pages: OfPages, visitor: OfVisitor
) -> HTMLResponse:
    """The page, as its address says."""
    return _shown(request, pages, "messages.html", asked, await _found(desk, asked, visitor))


@router.post("/messages", response_class=HTMLResponse)
async def asked_for(
    request: Request, asked: Annotated[Asked, Form()], desk: OfDesk, pages: OfPages, visitor: OfVisitor
) -> Response:
    """What was typed, with Enter: straight to the one message of that name, or to the address of what was found."""
    found = await _found(desk, asked, visitor)
    if found.named is not None and asked.before is None and not asked.narrowed():
        number, what = found.named
        if what == "task" or [row.id for row in found.page.rows] == [str(number)]:
            return RedirectResponse(f"/messages/{number}", 303)
    if not found.private:
        return RedirectResponse(_address(asked, text=found.linked, before=asked.before), 303)
    return _shown(request, pages, "messages.html", asked, found)


@router.post("/messages/rows", response_class=HTMLResponse)
async def rows(
    request: Request, asked: Annotated[Asked, Form()], desk: OfDesk, pages: OfPages, visitor: OfVisitor
) -> HTMLResponse:
    """The list alone, as one types, and again where something changed."""
    found = await _found(desk, asked, visitor)
    part = _shown(request, pages, "partials/messages_rows.html", asked, found)
    if "x-refresh" not in request.headers:
        part.headers["hx-replace-url"] = _address(asked, text=found.linked)
    return part
