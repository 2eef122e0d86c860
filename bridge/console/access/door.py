"""The door in front of every route: who comes in, and the headers that every answer leaves with."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.console.access.visitor import Role, Visitor
from bridge.console.desk import Desk

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Door:
    """ASGI middleware. What it lets in has its visitor in the request's state."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["visitor"] = Visitor("local", Role.ADMIN)
        await self._app(scope, receive, _dressed(scope, send))


def _dressed(scope: Scope, send: Send) -> Send:
    """Answers with the headers that keep pages to themselves."""
    kept = scope["path"].startswith("/static/")

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[Any] = message["headers"]
            headers.extend(_HEADERS)
            headers.append((b"cache-control", b"max-age=3600" if kept else b"no-store"))
        await send(message)

    return dressed
