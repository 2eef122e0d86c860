"""One's own password, sessions and tokens."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.console.access.cookies import SESSION
from bridge.console.access.reception import OfReception, Reception
from bridge.console.access.visitor import VIEWER, OfVisitor, Visitor
from bridge.console.desk import Desk, OfDesk
from bridge.console.pages.sign_in import Text, require_person, require_same, sentence
from bridge.console.rendering import OfPages, Pages
from bridge.errors import ActionRefused
from bridge.store import people

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)


@router.get("/account", response_class=HTMLResponse)
async def account(
    request: Request, desk: OfDesk, reception: OfReception, pages: OfPages, visitor: OfVisitor
) -> Response:
    """What lets me in."""
    return await _shown(request, desk, reception, pages, visitor)


@router.post("/account/password", response_class=HTMLResponse)
async def password(
    request: Request,
    desk: OfDesk,
    reception: OfReception,
    pages: OfPages,
    visitor: OfVisitor,
    old: Text = "",
    new: Text = "",
    again: Text = "",
) -> Response:
    """Another password. What was open elsewhere ends, and this browser gets a new secret."""
    require_person(visitor)
    try:
        require_same(new, again)
        fresh = await reception.persons.change_own_password(visitor, old, new)
    except ActionRefused as problem:
        return await _shown(request, desk, reception, pages, visitor, wrong={"password": sentence(problem)})
    answer = RedirectResponse("/account?done=password", 303)
    SESSION.put(answer, fresh.secret, secure=reception.secure(request))
    return answer


@router.post("/account/tokens", response_class=HTMLResponse)
async def token(
    request: Request,
    desk: OfDesk,
    reception: OfReception,
    pages: OfPages,
    visitor: OfVisitor,
    label: Text = "",
) -> Response:
    """A token for a script: shown in this answer, and never again."""
    require_person(visitor)
    try:
        fresh = await reception.persons.make_token(visitor, label)
    except ActionRefused as problem:
        return await _shown(request, desk, reception, pages, visitor, wrong={"label": sentence(problem)})
    return await _shown(request, desk, reception, pages, visitor, secret=fresh.secret)


@router.post("/account/sessions/{session}/end")
async def end(session: Annotated[int, Path(ge=1, le=10**18)], reception: OfReception, visitor: OfVisitor) -> Response:
    """One of my sessions or tokens ends; an admin may end anybody's token. Its own session ends by signing out."""
    require_person(visitor)
    await reception.persons.end(visitor, session)
    return RedirectResponse("/account?done=ended", 303)


async def _shown(
    request: Request,
    desk: Desk,
    reception: Reception,
    pages: Pages,
    visitor: Visitor,
    *,
    wrong: dict[str, str] | None = None,
    secret: str = "",
) -> Response:
    require_person(visitor)
    me = await desk.store.read(lambda conn: people.by_id(conn, visitor.person))
    standing = await desk.store.read(lambda conn: reception.sessions.standing(conn, visitor.person))
    return pages.page(
        request,
        "account.html",
        status=409 if wrong else 200,
        me=me,
        sessions=[s for s in standing if s.kind == people.BROWSER],
        tokens=[s for s in standing if s.kind == people.TOKEN],
        wrong=wrong or {},
        secret=secret,
        done=request.query_params.get("done", ""),
    )
