"""What the forms of a message's page ask for. Each is done as the command line does it, and comes back to the page."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from bridge.console.access.revealing import OfRevealing, Revealing
from bridge.console.access.visitor import OPERATOR, OfVisitor, Visitor
from bridge.console.asking import Wanted, perform
from bridge.console.desk import Desk, OfDesk
from bridge.console.pages.message import MessageId, answer, look
from bridge.console.rendering import OfPages, Pages
from bridge.console.stages.offers import for_page
from bridge.console.stages.standing import still
from bridge.errors import ActionRefused

router = APIRouter(dependencies=[OPERATOR], include_in_schema=False)

Text = Annotated[str, Form(max_length=500)]
NO_REASON = "It needs a reason: say why."
_WITHOUT = "none"


class _Asking:
    """One request's hands."""

    def __init__(self, request: Request, desk: Desk, pages: Pages, visitor: Visitor, revealing: Revealing) -> None:
        self._request = request
        self._desk = desk
        self._pages = pages
        self._visitor = visitor
        self._revealing = revealing

    async def do(
        self,
        message_id: int,
        target: str,
        verb: str,
        wanted: dict[str, Any],
        *,
        done: str,
        typed: dict[str, str],
        seen: str = "",
    ) -> Response:
        """Do it and go back to the page; where it is refused, the page says why and keeps what was typed.

        `seen` is how the message stood when the form was made.
        """
        acted = perform(
            self._desk.acting,
            self._visitor.name,
            target,
            verb,
            Wanted(**wanted),
            still=still(self._desk, message_id, seen),
        )
        try:
            # A browser that goes away does not take the act with it: what is done is noted.
            await asyncio.shield(acted)
        except ActionRefused as refused:
            return await self.refuse(message_id, for_page(str(refused)), typed)
        self._desk.changes.tell()  # not every act is announced by its commit
        return RedirectResponse(f"/messages/{message_id}?done={done}", 303)

    async def refuse(self, message_id: int, why: str, typed: dict[str, str]) -> Response:
        """The page again."""
        found = await look(self._desk, message_id, self._visitor, self._revealing)
        return await answer(self._request, self._pages, found, self._desk, self._visitor, refused=why, typed=typed)


def _asking(request: Request, desk: OfDesk, pages: OfPages, visitor: OfVisitor, revealing: OfRevealing) -> _Asking:
    return _Asking(request, desk, pages, visitor, revealing)


OfAsking = Annotated[_Asking, Depends(_asking)]


@router.post("/messages/{message_id}/release")
async def release(
    message_id: MessageId, asking: OfAsking, order: Text = "", reason: Text = "", seen: Text = ""
) -> Response:
    """Let a held message go on; `order` is `id:N` of a listed candidate, or `none`."""
    wanted: dict[str, Any] = _reasoned(reason)
    if order == _WITHOUT:
        wanted["without_order"] = True
    elif order:
        wanted["order"] = order
    typed = {"verb": "release", "order": order, "reason": reason}
    return await asking.do(message_id, str(message_id), "release", wanted, done="release", typed=typed, seen=seen)


@router.post("/messages/{message_id}/replay")
async def replay(message_id: MessageId, asking: OfAsking, reason: Text = "", seen: Text = "") -> Response:
    """Understand it anew."""
    typed = {"verb": "replay", "reason": reason}
    wanted = _reasoned(reason)
    return await asking.do(message_id, str(message_id), "replay", wanted, done="replay", typed=typed, seen=seen)


@router.post("/messages/{message_id}/discard")
async def discard(message_id: MessageId, asking: OfAsking, reason: Text = "", seen: Text = "") -> Response:
    """It never becomes a task."""
    typed = {"verb": "discard", "reason": reason}
    if not reason.strip():
        return await asking.refuse(message_id, NO_REASON, typed)
    wanted = _reasoned(reason)
    return await asking.do(message_id, str(message_id), "discard", wanted, done="discard", typed=typed, seen=seen)


@router.post("/messages/{message_id}/resolve")
async def resolve(
    message_id: MessageId,
    asking: OfAsking,
    way: Annotated[Literal["found", "resend", "give_up"], Form()],
    task: Text = "",
    tag: Text = "",
    confirm: Text = "",
    reason: Text = "",
) -> Response:
    """Settle a doubt: the task is there, or it is not and is sent again or given up."""
    typed = {"verb": "resolve", "task": task, "tag": tag, "confirm": confirm.strip(), "reason": reason}
    if way == "found":
        wanted: dict[str, Any] = {"task": task.strip(), "tag": tag, **_reasoned(reason)}
    else:
        if not reason.strip():
            return await asking.refuse(message_id, NO_REASON, typed)
        wanted = {way: True, "confirm": confirm.strip(), **_reasoned(reason)}
    return await asking.do(message_id, str(message_id), "resolve", wanted, done=way, typed=typed)


@router.post("/messages/{message_id}/settle")
async def settle(
    message_id: MessageId, asking: OfAsking, anomaly: Annotated[int, Form(ge=1, le=10**18)], reason: Text = ""
) -> Response:
    """A task that was made before a change is put right."""
    typed = {"verb": "settle", "anomaly": str(anomaly), "reason": reason}
    if not reason.strip():
        return await asking.refuse(message_id, NO_REASON, typed)
    wanted = {"anomaly": anomaly, **_reasoned(reason)}
    return await asking.do(message_id, str(message_id), "resolve", wanted, done="settle", typed=typed)


@router.post("/messages/{message_id}/untold/{number}")
async def untold(
    message_id: MessageId,
    number: MessageId,
    asking: OfAsking,
    verb: Annotated[Literal["release", "discard"], Form()],
    reason: Text = "",
) -> Response:
    """What its receiver would not take goes out again, or never."""
    typed = {"verb": "untold", "untold": str(number), "reason": reason}
    if verb == "discard" and not reason.strip():
        return await asking.refuse(message_id, NO_REASON, typed)
    done = "told" if verb == "release" else "untold"
    return await asking.do(message_id, f"outbound:{number}", verb, _reasoned(reason), done=done, typed=typed)


def _reasoned(reason: str) -> dict[str, Any]:
    return {"reason": reason.strip()} if reason.strip() else {}
