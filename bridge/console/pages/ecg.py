"""A recording on ECG paper, beside the order that it was matched with. Not for diagnosis.

A curve is a patient's value: it is drawn where the message is revealed.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from bridge.console.access.refusals import NotThere
from bridge.console.access.revealing import OfRevealing
from bridge.console.access.visitor import VIEWER, OfVisitor
from bridge.console.desk import Desk, OfDesk
from bridge.console.ecg.overview import Overview, overview
from bridge.console.ecg.paper import Layout
from bridge.console.ecg.picture import Picture, picture, readable
from bridge.console.ecg.signal import NoPicture
from bridge.console.pages.message import MessageId, look, shown
from bridge.console.rendering import OfPages
from bridge.errors import BadInput, StoreError

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

LENGTHS = (10, 30, 60)
"""Seconds that one picture shows."""
_LONG = 60.0
"""Seconds of a recording from which on a strip of the whole of it helps to find a part."""
_ARGUMENTS = frozenset({"start", "seconds", "leads", "group"})


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of a recording, and how."""

    start: float = 0.0
    seconds: float = 10.0
    group: int | None = None
    layout: Layout | None = None

    def address(self, message_id: int, **other: Any) -> str:
        """Of the same page, with what is other."""
        said = {"start": f"{self.start:g}", "seconds": f"{self.seconds:g}", "group": self.group, "layout": self.layout}
        named = {name: value for name, value in {**said, **other}.items() if value is not None}
        return f"/messages/{message_id}/ecg?{urlencode(named)}"


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What came of it; `problem` says why there is no picture."""

    picture: Picture | None = None
    strip: Overview | None = None
    problem: str = ""
    status: int = 200


@router.get("/messages/{message_id}/ecg", response_class=HTMLResponse)
async def ecg(
    request: Request,
    message_id: MessageId,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    revealing: OfRevealing,
    start: Annotated[float, Query(ge=0, le=1e8)] = 0.0,
    seconds: Annotated[float, Query(gt=0, le=1e5)] = 10.0,
    group: Annotated[int | None, Query(ge=1, le=1000)] = None,
    layout: Layout | None = None,
) -> Response:
    """The page, which prints to scale. Raises NotThere where the message is no recording."""
    found = await look(desk, message_id, visitor, revealing)
    if found.found["kind"] != "dicom" or not found.found["payload"]:
        raise NotThere(f"message {message_id} is no recording")
    asked = Asked(start, seconds, group, layout)
    drawn = _Drawn()
    if found.revealed:
        drawn = await asyncio.to_thread(_drawn, desk, found.found["payload"], asked, message_id)
    context = shown(found, desk.clock, visitor) | {
        "picture": drawn.picture,
        "svg": Markup(drawn.picture.svg) if drawn.picture else "",  # noqa: S704  escaped where it is made, ecg/svg.py
        "strip": Markup(drawn.strip.svg) if drawn.strip else "",  # noqa: S704  as above
        "strip_notes": drawn.strip.notes if drawn.strip else (),
        "problem": drawn.problem,
        "links": _links(asked, drawn.picture, message_id),
        "groups": found.header.groups if found.header else (),
        "asked": asked,
        "lengths": LENGTHS,
        "layouts": tuple(Layout),
        "address": lambda **other: asked.address(message_id, **other),
    }
    return pages.page(request, "ecg.html", status=drawn.status, **context)


def _drawn(desk: Desk, payload: str, asked: Asked, message_id: int) -> _Drawn:
    try:
        with readable(), desk.payloads.at_hand(payload) as path:
            made = picture(path, start=asked.start, seconds=asked.seconds, group=asked.group, layout=asked.layout)
            strip = None
            if made.whole > _LONG:
                strip = overview(
                    path,
                    group=asked.group,
                    marked=(made.start, made.seconds),
                    address=_part(asked, message_id),
                    envelopes=desk.envelopes,
                )
    except StoreError as problem:
        return _Drawn(problem=str(problem), status=503)
    except (NoPicture, BadInput) as problem:
        said = f"{problem.where}: {problem}" if problem.where else str(problem)
        return _Drawn(problem=said, status=422 if problem.where in _ARGUMENTS else 200)
    return _Drawn(made, strip)


def _part(asked: Asked, message_id: int) -> Callable[[float, float], str]:
    """A part of the strip, shown at the length that is looked at now."""
    return lambda start, _: asked.address(message_id, start=f"{start:g}")


def _links(asked: Asked, made: Picture | None, message_id: int) -> Mapping[str, str]:
    """Where one can go on to from here; empty where there is nothing more."""
    if made is None:
        return {}
    before, after = made.start - made.seconds, made.start + made.seconds
    return {
        "first": asked.address(message_id, start="0") if made.start > 0 else "",
        "before": asked.address(message_id, start=f"{max(before, 0):g}") if made.start > 0 else "",
        "after": asked.address(message_id, start=f"{after:g}") if after < made.whole else "",
        "last": asked.address(message_id, start=f"{max(made.whole - made.seconds, 0):g}") if after < made.whole else "",
    }
