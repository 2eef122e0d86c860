"""Messages found, and one message with everything that is known of it."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel

from bridge.console.access import masks
from bridge.console.access.refusals import NotThere
from bridge.console.access.revealing import OfRevealing
from bridge.console.access.visitor import VIEWER, OfVisitor, Role
from bridge.console.desk import OfDesk
from bridge.dispatch.acts.outlook import outlook
from bridge.domain.states import State
from bridge.store import listing, search
from bridge.store.listing import Listed
from bridge.store.port import Connection

router = APIRouter(prefix="/api/messages", tags=["messages"], dependencies=[VIEWER])

_Id = Annotated[int, Path(ge=1, le=10**18)]


class Found(BaseModel):
    """A page of messages, newest first.

    `next` is what `before` of the next page is; null: there are no more. `looked` is set where the search stopped
    before the page was full: how many messages it went through.
    """

    messages: Sequence[Listed]
    next: str | None
    looked: int | None


@router.get("")
async def messages(
    desk: OfDesk,
    visitor: OfVisitor,
    q: Annotated[str, Query(max_length=200, description="Words, each by its beginning; all must be there.")] = "",
    state: Annotated[list[State] | None, Query()] = None,
    kind: Annotated[str, Query(pattern="^(hl7|dicom|)$")] = "",
    type: Annotated[list[str] | None, Query(max_length=20)] = None,  # noqa: A002  the parameter's name is the API's
    sender: Annotated[str, Query(max_length=200)] = "",
    peer: Annotated[str, Query(max_length=60)] = "",
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    before: Annotated[int | None, Query(ge=1, le=10**18)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Found:
    """Messages by what people know of them: patient, order, accession or control number, SOP instance, task id.

    A viewer finds nothing by whose it is: what is masked for him cannot be asked for either.
    """
    kinds = [kind] if kind else ()
    filters = search.Filters(state or (), kinds, type or (), sender, peer, since, until)
    whose = visitor.may(Role.OPERATOR)
    page = await desk.store.read(
        lambda conn: search.find(conn, q, filters, before=before, limit=limit, of_patients=whose)
    )
    following = str(page.next) if page.next is not None else None
    return Found(messages=page.rows, next=following, looked=page.looked or None)


@router.get("/{message_id}", responses={404: {"description": "There is no such message."}})
async def message(
    message_id: _Id, desk: OfDesk, visitor: OfVisitor, revealing: OfRevealing, *, reveal: bool = False
) -> dict[str, Any]:
    """Every stage: received, mapped, matched, sent, answered, its history, and what can be done with it.

    A patient's values are masked unless `reveal` asks for them, which is for operators, and noted in the audit trail. A
    masked text of more than 64 K characters ends there.
    """
    if reveal:
        await revealing.reveal(visitor, f"message:{message_id}", message_id=message_id)

    def read(conn: Connection) -> dict[str, Any] | None:
        found = listing.whole(conn, message_id)
        return None if found is None else found | outlook(conn, message_id, desk.settings, desk.answers)

    found = await desk.store.read(read)
    if found is None:
        raise NotThere(f"there is no message {message_id}")
    return found if reveal else await asyncio.to_thread(masks.message, found)  # it reads a message of any length
