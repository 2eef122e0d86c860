"""Who may sign in, for admins: make, change the role, disable, reset the password, end a token."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.console.access.reception import OfReception, Reception
from bridge.console.access.refusals import Forbidden
from bridge.console.access.visitor import ADMIN, OfVisitor, Role, Visitor
from bridge.console.desk import Desk, OfDesk
from bridge.console.pages.sign_in import Text, sentence
from bridge.console.rendering import OfPages, Pages
from bridge.errors import ActionRefused
from bridge.store import people

RowId = Annotated[int, Path(ge=1, le=10**18)]

router = APIRouter(prefix="/people", dependencies=[ADMIN], include_in_schema=False)


@router.get("", response_class=HTMLResponse)
async def everybody(request: Request, desk: OfDesk, reception: OfReception, pages: OfPages) -> Response:
    """Everybody, and what stands open for them."""
    return await _shown(request, desk, reception, pages)


@router.post("", response_class=HTMLResponse)
async def make(
    request: Request,
    desk: OfDesk,
    reception: OfReception,
    pages: OfPages,
    visitor: OfVisitor,
    name: Text = "",
    role: Text = "viewer",
    password: Text = "",
) -> Response:
    """A new person. A password that was made up is shown in this answer, and never again."""
    try:
        _require_admin_in_person(reception, visitor)
        called, made_up = await reception.persons.make(visitor, name, _role(role), password)
    except ActionRefused as problem:
        return await _shown(request, desk, reception, pages, wrong=sentence(problem), called=name, role=role)
    return await _done(request, desk, reception, pages, called, made_up)


@router.post("/{person}/role")
async def change_role(person: RowId, reception: OfReception, visitor: OfVisitor, role: Text = "") -> Response:
    """Another role."""
    _require_admin_in_person(reception, visitor)
    await reception.persons.change_role(visitor, person, _role(role))
    return RedirectResponse("/people", 303)


@router.post("/{person}/disable")
async def disable(person: RowId, reception: OfReception, visitor: OfVisitor) -> Response:
    """Out at once."""
    _require_admin_in_person(reception, visitor)
    await reception.persons.disable(visitor, person, disabled=True)
    return RedirectResponse("/people", 303)


@router.post("/{person}/enable")
async def enable(person: RowId, reception: OfReception, visitor: OfVisitor) -> Response:
    """In again, with the password of before."""
    _require_admin_in_person(reception, visitor)
    await reception.persons.disable(visitor, person, disabled=False)
    return RedirectResponse("/people", 303)


@router.post("/{person}/password", response_class=HTMLResponse)
async def reset_password(
    request: Request,
    desk: OfDesk,
    reception: OfReception,
    pages: OfPages,
    visitor: OfVisitor,
    person: RowId,
    password: Text = "",
) -> Response:
    """A new password, which also unlocks; as with a new person."""
    _require_admin_in_person(reception, visitor)
    called, made_up = await reception.persons.reset_password(visitor, person, password)
    return await _done(request, desk, reception, pages, called, made_up)


@router.post("/tokens/{session}/end")
async def end(session: RowId, reception: OfReception, visitor: OfVisitor) -> Response:
    """Somebody's token ends."""
    _require_admin_in_person(reception, visitor)
    await reception.persons.end(visitor, session)
    return RedirectResponse("/people", 303)


def _require_admin_in_person(reception: Reception, visitor: Visitor) -> None:
    if visitor.is_script:
        raise Forbidden("this is for an admin who signed in, not for a token")
    if not reception.wanted:
        raise ActionRefused(
            "sign-in is off here (console.sign_in = false): nobody needs to be made, and nobody kept out"
        )


def _role(word: str) -> Role:
    try:
        return Role[word.upper()]
    except KeyError as cause:
        raise ActionRefused("a role is viewer, operator or admin") from cause


async def _done(
    request: Request, desk: Desk, reception: Reception, pages: Pages, called: str, made_up: str
) -> Response:
    if not made_up:
        return RedirectResponse("/people", 303)
    return await _shown(request, desk, reception, pages, secret=made_up, secret_of=called)


async def _shown(
    request: Request,
    desk: Desk,
    reception: Reception,
    pages: Pages,
    *,
    wrong: str = "",
    called: str = "",
    role: str = "viewer",
    secret: str = "",
    secret_of: str = "",
) -> Response:
    persons = await desk.store.read(people.everybody)
    tokens = await desk.store.read(people.tokens)
    return pages.page(
        request,
        "people.html",
        status=409 if wrong else 200,
        persons=persons,
        tokens=tokens,
        open=reception.wanted,
        roles=[one.word for one in Role],
        wrong=wrong,
        called=called,
        role=role,
        secret=secret,
        secret_of=secret_of,
    )
