"""What can be done with a message, and with what could not be told."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel

from bridge.console.access.visitor import OPERATOR, OfVisitor
from bridge.console.asking import VERBS, Wanted, perform
from bridge.console.desk import OfDesk

router = APIRouter(prefix="/api/messages", tags=["messages"], dependencies=[OPERATOR])

_TARGET = r"^((outbound|commitment):)?[0-9]{1,18}$"
_NOTHING = Wanted()


class Done(BaseModel):
    """What came of it; `message_id` is null where no message is behind it."""

    message_id: str | None
    state: str
    text: str


class Refused(BaseModel):
    """Why not, and the way out."""

    refused: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refused, "description": "The body is no text."},
    403: {"model": Refused, "description": "Not for this role, or from a page that is not ours."},
    413: {"model": Refused, "description": "More bytes than a choice and a reason need."},
    409: {"model": Refused, "description": "It cannot be done: where the message stands, why, and the way out."},
    503: {"description": "The store could not do it now."},
}


@router.post("/{target}/{verb}", responses=REFUSALS)
async def act(
    target: Annotated[str, Path(pattern=_TARGET, description="A message's id, `outbound:ID` or `commitment:ID`.")],
    verb: Annotated[str, Path(pattern=f"^({'|'.join(VERBS)})$")],
    desk: OfDesk,
    visitor: OfVisitor,
    wanted: Annotated[Wanted, Body()] = _NOTHING,
) -> Done:
    """Release, replay, discard, resolve; `show` notes in the audit trail that somebody looked."""
    # A caller that goes away does not take the act with it: what is done is noted.
    acted = await asyncio.shield(perform(desk.acting, visitor.name, target, verb, wanted))
    desk.changes.tell()  # some acts announce nothing
    return Done.model_validate(acted.as_json())
