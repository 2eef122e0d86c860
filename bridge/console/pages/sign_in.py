"""The way in and out: sign-in by name and password, the set-up of the first admin, sign-out."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.console.access.cookies import SESSION
from bridge.console.access.names import page_of_ours
from bridge.console.access.reception import OfReception, Reception
from bridge.console.access.refusals import Forbidden, NotThere
from bridge.console.access.signing_in import NotLetIn
from bridge.console.access.visitor import VIEWER, OfVisitor, Visitor
from bridge.console.rendering import OfPages, Pages
from bridge.errors import ActionRefused, BridgeError

log = structlog.get_logger()
router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form()]


def address_of(request: Request) -> str:
    """Where it came from, as the connection says."""
    return request.client.host if request.client is not None else "unknown"


def too_many(request: Request, reception: Reception) -> int:
    """Counts an attempt: 0, or the seconds that this address has to wait."""
    wait = reception.attempts.count(address_of(request))
    if wait:
        log.warning("sign_in.too_many", address=address_of(request), seconds=wait)
    return wait


def waiting(wait: int) -> str:
    """What somebody is told who tried too often."""
    return f"Too many attempts from this address. Try again in {wait} seconds."


def begun_before(request: Request) -> Visitor | None:
    """Whoever is signed in at this browser already."""
    who: Visitor | None = request.state.visitor
    return who if who is not None and not who.is_script else None


@router.get("/sign-in", response_class=HTMLResponse)
async def sign_in(request: Request, reception: OfReception, pages: OfPages, next: str = "/") -> Response:  # noqa: A002  the address's own word
    """The form; somebody who is signed in goes on."""
    if begun_before(request) is not None:
        return RedirectResponse(page_of_ours(next), 303)
    if await reception.set_up.is_due():
        return RedirectResponse("/set-up", 303)
    return _form(request, reception, pages, next)


@router.post("/sign-in", response_class=HTMLResponse)
async def signed_in(
    request: Request,
    reception: OfReception,
    pages: OfPages,
    name: Text = "",
    password: Text = "",
    next: Text = "/",  # noqa: A002  the form's own word
) -> Response:
    """A new session, whatever the browser had; one answer for whatever is wrong."""
    if not reception.wanted:
        return RedirectResponse("/", 303)
    if wait := too_many(request, reception):
        return _form(request, reception, pages, next, told=waiting(wait), status=429, wait=wait)
    before = begun_before(request)
    try:
        fresh = await reception.signing_in.by_password(
            name, password, address=address_of(request), before=before.session if before else 0
        )
    except NotLetIn as problem:
        return _form(request, reception, pages, next, told=str(problem), status=403)
    answer = RedirectResponse(page_of_ours(next), 303)
    SESSION.put(answer, fresh.secret, secure=reception.secure(request))
    return answer


def _form(
    request: Request,
    reception: Reception,
    pages: Pages,
    onward: str,
    *,
    told: str = "",
    status: int = 200,
    wait: int = 0,
) -> Response:
    request.state.visitor = None  # nobody is signed in as long as this is asked
    provider = reception.provider.host if reception.provider else ""
    answer = pages.page(
        request, "sign_in.html", status=status, told=told, onward=page_of_ours(onward), provider=provider
    )
    if wait:
        answer.headers["retry-after"] = str(wait)
    return answer


@router.post("/sign-out", dependencies=[VIEWER])
async def sign_out(request: Request, reception: OfReception, visitor: OfVisitor) -> Response:
    """The session ends, here and for whoever else has its secret."""
    require_person(visitor)
    await reception.signing_in.out(visitor.session, visitor.name)
    answer = RedirectResponse("/sign-in", 303)
    SESSION.take(answer, secure=reception.secure(request))
    return answer


@router.get("/set-up", response_class=HTMLResponse)
async def set_up(request: Request, reception: OfReception, pages: OfPages) -> Response:
    """The form for the first admin; once there is one, this leads to the sign-in."""
    if not reception.wanted or not await reception.set_up.is_due():
        return RedirectResponse("/sign-in" if reception.wanted else "/", 303)
    return _set_up(request, reception, pages)


@router.post("/set-up", response_class=HTMLResponse)
async def made(
    request: Request,
    reception: OfReception,
    pages: OfPages,
    token: Text = "",
    name: Text = "",
    password: Text = "",
    again: Text = "",
) -> Response:
    """The first admin, signed in."""
    if not reception.wanted or not await reception.set_up.is_due():
        return RedirectResponse("/sign-in" if reception.wanted else "/", 303)
    if wait := too_many(request, reception):
        return _set_up(request, reception, pages, told=waiting(wait), called=name, status=429, wait=wait)
    try:
        require_same(password, again)
        fresh = await reception.set_up.first_admin(token, name, password, address=address_of(request))
    except ActionRefused as problem:
        return _set_up(request, reception, pages, told=sentence(problem), called=name, status=409)
    answer = RedirectResponse("/", 303)
    SESSION.put(answer, fresh.secret, secure=reception.secure(request))
    return answer


def _set_up(
    request: Request,
    reception: Reception,
    pages: Pages,
    *,
    told: str = "",
    called: str = "",
    status: int = 200,
    wait: int = 0,
) -> Response:
    provider = reception.provider.host if reception.provider else ""
    answer = pages.page(
        request,
        "set_up.html",
        status=status,
        told=told,
        called=called,
        provider=provider,
        file=reception.set_up.path.name,
    )
    if wait:
        answer.headers["retry-after"] = str(wait)
    return answer


def require_person(visitor: Visitor) -> None:
    """Raises where nobody in person is there: no sign-in, or a script, which gives itself nothing."""
    if visitor.is_script:
        raise Forbidden("this is for a person who signed in, not for a token")
    if not visitor.person:
        raise NotThere("Sign-in is off here (console.sign_in = false): nobody has an account.")


def require_same(password: str, again: str) -> None:
    """Raises ActionRefused where somebody mistyped what nobody sees."""
    if password != again:
        raise ActionRefused("the two passwords are not the same")


def sentence(problem: BridgeError) -> str:
    """An error's text as a sentence of a page."""
    text = str(problem)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
