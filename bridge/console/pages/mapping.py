"""Mapping: what a message would become, tried without a trace; and the rules in force, with who says so."""

import asyncio
import json
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from bridge.console.access.visitor import OPERATOR, VIEWER
from bridge.console.brought import FILES, MANY, READ_ON, Brought, brought, in_memory
from bridge.console.desk import Desk, OfDesk
from bridge.console.rendering import OfPages
from bridge.mapping.sheet import sheets
from bridge.rehearsal.apart import Given, Stopped, rehearse

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

TRY = "/mapping/try"
WIDER = {TRY: READ_ON}
SHOWN_AGAIN = 200_000
"""Characters of a pasted message that stand in the field again, to be changed and tried once more."""
PASTED = "the pasted message"


@router.get("/mapping", response_class=HTMLResponse)
async def mapping(request: Request, desk: OfDesk, pages: OfPages) -> HTMLResponse:
    """The form, and the rules in force."""
    return pages.page(request, "mapping.html", **await _usual(desk), tried=None, stopped="")


@router.post(TRY, response_class=HTMLResponse, dependencies=[OPERATOR])
async def tried(request: Request, desk: OfDesk, pages: OfPages) -> HTMLResponse:
    """What was pasted and chosen, one after the other over empty books, as `bridge map` has it.

    Nothing of it is kept or logged: it is answered to him who brought it, and gone.
    """
    results, stopped = [], ""
    with desk.rehearsals.place():
        async with brought(request) as form:
            text = form.fields.get("message", "")
            try:
                results = await _results(desk, form, text)
            except Stopped as problem:
                stopped = str(problem)
    usual = await _usual(desk, form.fields)
    kept = text if len(text) <= SHOWN_AGAIN else ""
    return pages.page(
        request,
        "mapping.html",
        status=422 if stopped else 200,
        **{**usual, "text": kept},
        tried=results,
        places_of=places_of,
        as_json=json.dumps(results, ensure_ascii=False, indent=2),
        stopped=stopped,
    )


async def _results(desk: Desk, form: Brought, text: str) -> list[dict[str, Any]]:
    """Raises HTTPException where nothing was brought, and Stopped."""
    listener, calling = form.fields.get("listener", "hl7"), form.fields.get("calling", "").strip()
    if listener not in desk.rules:
        raise HTTPException(422, "there is no such listener")
    if len(calling) > 16:
        raise HTTPException(422, "an AE title has 16 characters at the most")
    with ExitStack() as stack:
        given = [(name, Given(file)) for name, file in form.files]
        if text.strip():
            given.insert(0, (PASTED, Given(stack.enter_context(in_memory(text)), pasted=True)))
        if not given:
            raise HTTPException(422, "paste a message, or choose a file")
        found = await rehearse([one for _, one in given], desk.settings, listener=listener, calling=calling)
    return [{"file": name, **one} for (name, _), one in zip(given, found, strict=True)]


async def _usual(desk: Desk, fields: dict[str, str] | None = None) -> dict[str, Any]:
    """What the page has in any case."""
    said = fields or {}
    return {
        "sheets": await asyncio.to_thread(sheets, desk.settings, desk.rules),
        "listeners": list(desk.rules),
        "listener": said.get("listener", "hl7"),
        "calling": said.get("calling", ""),
        "text": "",
        "most": FILES >> 20,
        "many": MANY,
    }


def places_of(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Where the answer says that something is wrong: place, words, and code (table 0357) of each ERR.

    The place is `PID-3` for ERR-2 (`PID^1^3`), and for ERR-1 before version 2.5.
    """
    lines = str(result.get("answer", "")).split("\r")
    if len(lines[0]) < 8 or not lines[0].startswith("MSH"):
        return []
    separator, component, part = lines[0][3], lines[0][4], lines[0][7]
    found, words = [], ""
    for line in lines[1:]:
        name, *fields = line.split(separator)
        fields += [""] * 8
        if name == "MSA":
            words = fields[2]
        elif name == "ERR":
            place, code = fields[1].split(component), fields[2].split(component)[0]
            if fields[0]:
                *place, last = fields[0].split(component)
                code = last.split(part if part != separator else "&")[0]
            found.append((_place(place), fields[7] or words, code))
    return found


def _place(parts: list[str]) -> str:
    """`PID^1^3` as `PID-3`; which of its segments it is stands in brackets where it is not the first."""
    segment, number, field, *_ = [*parts, "", "", ""]
    repeat = f"[{number}]" if number not in {"", "1"} else ""
    return f"{segment}{repeat}" + (f"-{field}" if field else "")
