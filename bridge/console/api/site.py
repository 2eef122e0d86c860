"""What waits for a person, what a message would become, the settings in force, and the check of them."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from bridge.console.access.visitor import ADMIN, OPERATOR, VIEWER, OfVisitor
from bridge.console.api.acts import Refused
from bridge.console.brought import in_memory
from bridge.console.desk import OfDesk
from bridge.console.settings_shown import Group as SettingsGroup
from bridge.console.settings_shown import groups, without_secrets
from bridge.console.stages.causes import cause_of
from bridge.errors import ActionRefused
from bridge.rehearsal.apart import Given, Stopped, rehearse
from bridge.store import work

router = APIRouter(prefix="/api", tags=["site"])

MOST = 4_000_000
"""Bytes of a message that is tried, and what stands around it."""
_BAD: dict[int | str, dict[str, Any]] = {
    400: {"model": Refused, "description": "The body is no text."},
    413: {"model": Refused, "description": "More bytes than are taken."},
}


class Waiting(BaseModel):
    """A group of `GET /api/work`: so many of one cause, since when, why, and what to do.

    `more`: there are others that were not counted.
    """

    group: work.Group
    cause: str
    to_do: str


@router.get("/work", dependencies=[VIEWER])
async def waiting(desk: OfDesk) -> Sequence[Waiting]:
    """Held, in doubt, refused, to be put right, not told: by cause. The messages: `GET /api/messages?state=`."""
    found = await desk.store.read(work.groups)
    made = []
    for one in found:
        cause = cause_of(one.kind, one.reason)
        made.append(Waiting(group=one, cause=cause.why, to_do=cause.to_do))
    return made


class Tried(BaseModel):
    """An HL7 message as text; line ends may be those of any system. `listener` says whose rules count."""

    model_config = ConfigDict(extra="forbid", strict=True)

    message: Annotated[str, Field(min_length=1)]
    listener: str = "hl7"


@router.post("/map", dependencies=[OPERATOR], responses={**_BAD, 409: {"model": Refused, "description": "Why not."}})
async def tried(wanted: Annotated[Tried, Body()], desk: OfDesk) -> dict[str, Any]:
    """What it would become, as `bridge map --json` tells it. Nothing of it is kept, logged or sent."""
    if wanted.listener not in desk.rules:
        raise ActionRefused(f"there is no such listener; known here: {', '.join(desk.rules)}")
    with desk.rehearsals.place(), ExitStack() as stack:
        given = Given(stack.enter_context(in_memory(wanted.message)), pasted=True)
        try:
            (found,) = await rehearse([given], desk.settings, listener=wanted.listener, calling="")
        except Stopped as problem:
            raise ActionRefused(str(problem)) from problem
    return found


@router.get("/settings", dependencies=[ADMIN])
async def settings(desk: OfDesk) -> Sequence[SettingsGroup]:
    """Every key with its value and who said it; secrets are masked."""
    return groups(desk.settings)


class Checked(BaseModel):
    """A line of the check: `ok`, `warning` or `error`, what was looked at, and the place to mend."""

    level: str
    what: str
    text: str


@router.post("/check", dependencies=[ADMIN], responses={409: {"model": Refused, "description": "One is under way."}})
async def check(desk: OfDesk, who: OfVisitor) -> Sequence[Checked]:
    """What `bridge check` says of the settings in force."""
    await desk.checks.run(desk.settings, desk.addresses, desk.clock, who.name)
    lines = desk.checks.last.lines if desk.checks.last else ()
    return [Checked(level=one.level, what=one.what, text=without_secrets(one.text)) for one in lines]
