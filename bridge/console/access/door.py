"""The door in front of every route: who comes in, and the headers that every answer leaves with.

Closed by default: without a visitor nothing is answered but health, the way in and what its pages are drawn with. It
also ends a stream with its session.
"""

import asyncio
from typing import Any
from urllib.parse import quote

from fastapi import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.console.access.closed import STATIC, is_health, is_open, is_way_in
from bridge.console.access.names import page_of_ours, page_within
from bridge.console.access.reception import Reception
from bridge.console.access.turns import Turns
from bridge.console.access.visitor import Visitor
from bridge.console.refusing import status_of, told
from bridge.console.rendering import Pages
from bridge.errors import BridgeError
from bridge.setting_kinds import is_loopback

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_ENCRYPTED = (b"strict-transport-security", b"max-age=31536000")
_LOOKS = frozenset({"GET", "HEAD"})
_STREAM = "/events"
_ENDED = b"event: ended\ndata: \n\n"
"""The last that an open page hears: its session is over."""


class Door:
    """ASGI middleware. What it lets in has its visitor in the request's state; None on the pages of the way in."""

    def __init__(self, app: ASGIApp, reception: Reception) -> None:
        self._app = app
        self._reception = reception
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # nothing of ours speaks that
            return
        request = Request(scope, receive)
        send = self._dressed(request, send)
        scope.setdefault("state", {})["visitor"] = None
        try:
            refused = await self._refused(request)
        except BridgeError as problem:
            refused = told(request, status_of(problem), str(problem))
        if refused is not None:
            await refused(scope, receive, send)
            return
        visitor: Visitor | None = request.state.visitor
        if scope["path"] == _STREAM and visitor is not None and visitor.session:
            await self._streamed(visitor.session, request, send)
        elif scope["path"] == _STREAM or (visitor is None and not is_health(scope["path"])):
            await self._app(scope, receive, send)  # of an attempt to sign in the address has ten a minute
        else:
            address = request.client.host if request.client is not None else ""
            async with self._turns.turn(f"person {visitor.name}" if visitor is not None else f"address {address}"):
                await self._app(scope, receive, send)

    async def _refused(self, request: Request) -> Response | None:
        """What is answered instead of the route; None where it is open to who comes."""
        at, path = self._reception, str(request.scope["path"])  # as routes see it; Host could forge the URL's
        server = request.scope.get("server")
        if not at.names.known(request.headers, server[0] if server else ""):
            return told(request, 421, "This console is not called by that name; console.hosts lists its names.")
        by_token = at.wanted and not is_way_in(path) and "authorization" in request.headers
        ours = by_token or request.method in _LOOKS or at.names.is_ours(request.headers, request.scope["scheme"])
        if not ours:
            return told(request, 403, "This did not come from a page of this console (Origin), and was not done.")
        if is_open(path) and not is_way_in(path):
            return None
        if not is_open(path) and _is_of_others(request):
            return told(request, 403, "This was asked for by a page of somebody else's (Sec-Fetch-Site).")
        is_click = path != _STREAM and "x-refresh" not in request.headers
        request.state.visitor = await at.visitor(request, is_click=is_click)
        if request.state.visitor is not None or is_open(path):
            return None
        return await self._nobody(request)

    async def _nobody(self, request: Request) -> Response:
        """Nobody is signed in: the way in, for whoever can go it."""
        due = await self._reception.set_up.is_due()
        words = "Nobody can sign in yet: open /set-up." if due else "Your sign-in is over, or there was none. Sign in."
        if "authorization" in request.headers:
            words = "This token lets nobody in (any more)."
        elif "hx-request" in request.headers:
            back = page_within(request.headers.get("hx-current-url", ""))
            return JSONResponse({"refused": words}, 401, {"HX-Redirect": _way_in(back, due=due)})
        elif request.method in _LOOKS and "text/html" in request.headers.get("accept", ""):
            asked = request.scope["query_string"].decode("latin-1")
            back = quote(request.scope["path"]) + (f"?{asked}" if asked else "")
            if _came_from_elsewhere(request):
                return onward(request, page_of_ours(back))
            return RedirectResponse(_way_in(back, due=due), 303)
        refused = told(request, 401, words)
        refused.headers["www-authenticate"] = "Bearer"
        return refused

    async def _streamed(self, session: int, request: Request, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        streaming = asyncio.ensure_future(self._app(request.scope, request.receive, noted))
        over = asyncio.ensure_future(self._reception.sessions.until_over(session))
        try:
            await asyncio.wait({streaming, over}, return_when=asyncio.FIRST_COMPLETED)
            if streaming.done():
                return streaming.result()
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)
            if begun:
                await send({"type": "http.response.body", "body": _ENDED, "more_body": False})
            else:
                await told(request, 401, "Your sign-in is over.")(request.scope, request.receive, send)
        finally:
            for one in (streaming, over):
                one.cancel()
            await asyncio.gather(streaming, over, return_exceptions=True)

    def _dressed(self, request: Request, send: Send) -> Send:
        """Answers with the headers that keep pages to themselves."""
        kept = request.scope["path"].startswith(STATIC + "/")
        more = [*_HEADERS, (b"cache-control", b"max-age=3600" if kept else b"no-store")]
        if self._reception.is_encrypted and not is_loopback(request.headers.get("host", "")):
            more.append(_ENCRYPTED)  # of localhost it would be said of every program there

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = message["headers"]
                headers.extend(more)
            await send(message)

        return dressed


def onward(request: Request, address: str) -> Response:
    """A page that leads on by itself: from a page of ours the browser brings its Strict cookie along, and from one of
    somebody else's, or behind a redirect of theirs, it does not (RFC 6265bis §5.2).
    """
    shown: Pages = request.app.state.pages
    return shown.page(request, "onward.html", onward=address)


def _came_from_elsewhere(request: Request) -> bool:
    """Whether somebody followed a link of another site, such as a mail's."""
    site, mode = request.headers.get("sec-fetch-site"), request.headers.get("sec-fetch-mode")
    return site in {"cross-site", "same-site"} and mode == "navigate"


def _is_of_others(request: Request) -> bool:
    """Whether a page of another origin asks, and no person who followed its link: to a browser a page of another port
    of this host is of the same site, and our cookie comes along. A link never leads to an answer for scripts.
    """
    if request.headers.get("sec-fetch-site") not in {"cross-site", "same-site"}:
        return False
    return request.headers.get("sec-fetch-mode") != "navigate" or request.scope["path"].startswith("/api/")


def _way_in(back: str, *, due: bool) -> str:
    if due:
        return "/set-up"
    to = page_of_ours(back)
    return "/sign-in" if to == "/" else f"/sign-in?next={quote(to, safe='')}"
