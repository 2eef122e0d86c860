"""Work for a person: in doubt, held, to be put right, not told, refused; by cause, with why and what to do."""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.console.access.refusals import NotThere
from bridge.console.access.visitor import OPERATOR, VIEWER, OfVisitor, Role, Visitor
from bridge.console.asking import Wanted, perform
from bridge.console.desk import Desk, OfDesk
from bridge.console.pages.message import MessageId
from bridge.console.pages.message_acts import NO_REASON, Text
from bridge.console.rendering import OfPages, Pages
from bridge.console.stages.causes import Cause, cause_of
from bridge.console.stages.offers import for_page
from bridge.dispatch.acts.audited import look
from bridge.dispatch.acts.ways import Action, why_not
from bridge.domain.states import State
from bridge.errors import ActionRefused
from bridge.store import listing, work
from bridge.store.port import Connection
from bridge.store.untold import Queue

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

FEW, PAGE = 5, 50
AT_ONCE = 100
"""Messages that one press replays."""
_KINDS = "^(HELD|IN_DOUBT|REJECTED|anomaly|outbound|commitment)$"
Kind = Annotated[str, Query(pattern=_KINDS)]
Reason = Annotated[str, Query(max_length=200)]
Before = Annotated[int | None, Query(ge=1, le=10**18)]


@dataclass(frozen=True, slots=True)
class Shown:
    """A group with its cause in words, and some of what is in it."""

    group: work.Group
    cause: Cause
    messages: tuple[listing.Listed, ...] = ()
    anomalies: tuple[dict[str, Any], ...] = ()
    untold: tuple[Any, ...] = ()

    @property
    def here(self) -> int:
        """How many of it are shown."""
        return len(self.messages) + len(self.anomalies) + len(self.untold)


@router.get("/work", response_class=HTMLResponse)
async def overview(request: Request, desk: OfDesk, pages: OfPages, visitor: OfVisitor, done: str = "") -> Response:
    """Every group with its newest few."""
    context = await _all(desk)
    return pages.page(request, "work.html", **context, done=_DONE.get(done, ""), may_act=visitor.may(Role.OPERATOR))


@router.get("/work/part", response_class=HTMLResponse)
async def part(request: Request, desk: OfDesk, pages: OfPages, visitor: OfVisitor, version: str = "") -> Response:
    """The groups of an open page anew; 204 where nothing is other."""
    context = await _all(desk)
    if context["version"] == version:
        return Response(status_code=204)
    return pages.page(request, "partials/work_groups.html", **context, may_act=visitor.may(Role.OPERATOR))


@router.get("/work/group", response_class=HTMLResponse)
async def group(
    request: Request,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    kind: Kind,
    reason: Reason = "",
    before: Before = None,
    replayed: Annotated[int | None, Query(ge=0, le=AT_ONCE)] = None,
    refused: Annotated[int, Query(ge=0, le=AT_ONCE)] = 0,
) -> Response:
    """One group, page by page."""
    return await _group(request, desk, pages, visitor, kind, reason, before=before, came_to=(replayed, refused))


async def _group(
    request: Request,
    desk: Desk,
    pages: Pages,
    visitor: Visitor,
    kind: str,
    reason: str,
    *,
    before: int | None = None,
    came_to: tuple[int | None, int] = (None, 0),
    said: str = "",
    status: int = 200,
) -> Response:
    def read(conn: Connection) -> Shown | None:
        found = next((g for g in work.groups(conn) if (g.kind, g.reason) == (kind, reason)), None)
        return _shown(conn, found, before, PAGE) if found is not None else None

    shown = await desk.store.read(read)
    last = None
    if shown is not None and shown.here == PAGE:
        last = (shown.messages or shown.anomalies or shown.untold)[-1]
    return pages.page(
        request,
        "work_group.html",
        status=status,
        shown=shown,
        kind=kind,
        reason=reason,
        next=(last["id"] if isinstance(last, dict) else last.id) if last is not None else None,
        replayed=came_to[0],
        refused=came_to[1],
        said=said,
        before=before,
        may_act=visitor.may(Role.OPERATOR),
        cause=cause_of(kind, reason),
    )


async def _all(desk: Desk) -> dict[str, Any]:
    def read(conn: Connection) -> list[Shown]:
        return [_shown(conn, one, None, FEW) for one in work.groups(conn)]

    groups = await desk.store.read(read)
    version = hashlib.sha256(repr(groups).encode()).hexdigest()[:24]
    return {"groups": groups, "version": version}


def _shown(conn: Connection, group: work.Group, before: int | None, limit: int) -> Shown:
    made = Shown(group, cause_of(group.kind, group.reason))
    if group.kind == "anomaly":
        return replace(made, anomalies=tuple(work.anomalies(conn, group.reason, before=before, limit=limit)))
    if group.kind in set(Queue):
        queue = Queue(group.kind)
        return replace(made, untold=tuple(work.untold_ones(conn, queue, group.reason, before=before, limit=limit)))
    ids = work.ids(conn, State(group.kind), group.reason, before=before, limit=limit)
    return replace(made, messages=tuple(listing.of_ids(conn, ids)))


# --- what could not be told -----------------------------------------------------------------------------------

_DONE = {"release": "It goes out again.", "discard": "It is never told."}


@router.post("/work/untold/{queue}/{number}", dependencies=[OPERATOR])
async def untold(
    request: Request,
    queue: Queue,
    number: MessageId,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    verb: Annotated[Literal["release", "discard"], Form()],
    why: Text = "",
    of: Text = "",
) -> Response:
    """Tell it again, or never. `of` is the group's reason, to come back to."""
    reason = why.strip()
    if verb == "discard" and not reason:
        return await _group(request, desk, pages, visitor, queue.value, of, said=NO_REASON, status=409)
    wanted = Wanted(reason=reason) if reason else Wanted()
    try:
        await asyncio.shield(perform(desk.acting, visitor.name, f"{queue}:{number}", verb, wanted))
    except ActionRefused as problem:
        said = for_page(str(problem))
        return await _group(request, desk, pages, visitor, queue.value, of, said=said, status=409)
    desk.changes.tell()  # not every act is announced by its commit
    return RedirectResponse(f"/work?done={verb}", 303)


# --- replay of many -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """What one press would replay, and why it would not replay others. `more`: they are not all looked at."""

    ids: tuple[int, ...]
    refused: tuple[tuple[int, str], ...]
    more: bool


@router.get("/work/replay", response_class=HTMLResponse, dependencies=[OPERATOR])
async def choose(
    request: Request,
    desk: OfDesk,
    pages: OfPages,
    kind: Annotated[Literal["HELD", "REJECTED"], Query()],
    reason: Reason = "",
) -> Response:
    """What a replay of a group would be, counted before anything is done."""
    found = await desk.store.read(lambda conn: work.ids(conn, State(kind), reason, limit=AT_ONCE + 1))
    return await _confirm(request, desk, pages, found, kind=kind, reason=reason)


@router.post("/work/replay", response_class=HTMLResponse, dependencies=[OPERATOR])
async def replay(
    request: Request,
    desk: OfDesk,
    pages: OfPages,
    visitor: OfVisitor,
    message: Annotated[list[MessageId], Form(max_length=1000)],
    kind: Annotated[Literal["HELD", "REJECTED", ""], Form()] = "",
    reason: Text = "",
    why: Text = "",
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Replay these messages, a group's or a search's: counted and confirmed first, then each as if alone."""
    wanted = list(dict.fromkeys(message))
    if not confirmed or len(wanted) > AT_ONCE:
        return await _confirm(request, desk, pages, wanted[: AT_ONCE + 1], kind=kind, reason=reason)
    done = await asyncio.shield(_replayed(desk, visitor.name, wanted, why.strip()))
    refused = len(wanted) - done
    if not kind:
        return RedirectResponse(f"/messages?replayed={done}&refused={refused}", 303)
    where = {"kind": kind, "reason": reason, "replayed": done, "refused": refused}
    return RedirectResponse(request.url_for("group").include_query_params(**where), 303)


async def _replayed(desk: Desk, by: str, wanted: list[int], why: str) -> int:
    done = 0
    for one in wanted:
        try:
            await perform(desk.acting, by, str(one), "replay", Wanted(reason=why) if why else Wanted())
        except ActionRefused:
            continue  # noted in the audit trail, and it stays in its group
        done += 1
    return done


async def _confirm(request: Request, desk: Desk, pages: Pages, found: list[int], *, kind: str, reason: str) -> Response:
    if not found:
        raise NotThere("there is nothing of that kind any more")

    def read(conn: Connection) -> Chosen:
        may, not_these = [], []
        for one in found[:AT_ONCE]:
            if listing.row_of(conn, one) is None:
                continue
            case = look(conn, desk.answers, one)[1]
            refusal = why_not(Action.REPLAY, case)
            if refusal:
                not_these.append((one, refusal))
            else:
                may.append(one)
        return Chosen(tuple(may), tuple(not_these), len(found) > AT_ONCE)

    chosen = await desk.store.read(read)
    return pages.page(request, "work_replay.html", chosen=chosen, kind=kind, reason=reason, at_once=AT_ONCE)
