"""The way to the provider and back (OpenID Connect). It begins with a link: behind a form, `form-action` of our policy
would stop the browser at the provider's address.
"""

import re

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.console.access.cookies import FLOW, SESSION
from bridge.console.access.door import onward
from bridge.console.access.id_token import TokenRefused
from bridge.console.access.names import page_of_ours
from bridge.console.access.oidc import ProviderFailed
from bridge.console.access.oidc_sign_in import NotKnownHere, ProviderSignIn
from bridge.console.access.reception import OfReception, Reception
from bridge.console.access.refusals import NotThere
from bridge.console.pages.sign_in import address_of, begun_before, sentence, too_many, waiting
from bridge.console.rendering import OfPages, Pages
from bridge.errors import BridgeError

router = APIRouter(include_in_schema=False)


@router.get("/sign-in/oidc")
async def begin(request: Request, reception: OfReception, pages: OfPages, next: str = "/") -> Response:  # noqa: A002  the address's own word
    """To the provider's page."""
    provider = _provider(reception)
    if begun_before(request) is not None:
        return RedirectResponse(page_of_ours(next), 303)
    if wait := too_many(request, reception):
        answer = _failed(request, pages, waiting(wait), 429)
        answer.headers["retry-after"] = str(wait)
        return answer
    try:
        begun = await provider.begin(page_of_ours(next))
    except ProviderFailed as problem:
        return _failed(request, pages, sentence(problem), 502)
    answer = RedirectResponse(begun.address, 303)
    FLOW.put(answer, begun.secret, secure=reception.secure(request))
    return answer


@router.get("/sign-in/oidc/back", response_class=HTMLResponse)
async def back(
    request: Request,
    reception: OfReception,
    pages: OfPages,
    state: str = "",
    code: str = "",
    iss: str = "",
    error: str = "",
) -> Response:
    """From the provider's page, with a code or an error: a new session, whatever the browser had."""
    provider, secure = _provider(reception), reception.secure(request)
    if error:
        code = ""  # whatever else came with it
    secret = FLOW.of(request, secure=secure)
    try:
        fresh, to = await provider.finish(secret, state, code, iss, address=address_of(request))
    except BridgeError as problem:
        kind = error if re.fullmatch(r"[a-z_]{1,40}", error) else ""  # RFC 6749 §4.1.2.1 has such words alone
        answer = _failed(request, pages, sentence(problem), _status(problem), kind)
        FLOW.take(answer, secure=secure)
        return answer
    answer = onward(request, to)
    SESSION.put(answer, fresh.secret, secure=secure)
    FLOW.take(answer, secure=secure)
    return answer


def _provider(reception: Reception) -> ProviderSignIn:
    if reception.provider is None or not reception.wanted:
        raise NotThere("There is no sign-in by a provider here.")
    return reception.provider


def _status(problem: BridgeError) -> int:
    return (
        403 if isinstance(problem, NotKnownHere | TokenRefused) else 502 if isinstance(problem, ProviderFailed) else 503
    )


def _failed(request: Request, pages: Pages, text: str, status: int, kind: str = "") -> Response:
    request.state.visitor = None
    return pages.page(request, "sign_in_failed.html", status=status, text=text, kind=kind)
