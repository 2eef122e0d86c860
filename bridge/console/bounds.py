"""How much a request may bring: more than its route needs is refused before it is in memory."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 64 * 1024
"""Bytes of a request's body: a choice and a reason."""


class Bounds:
    """ASGI middleware. `wider` are routes that take more, by their address."""

    def __init__(self, app: ASGIApp, wider: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._wider = wider or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._wider.get(scope["path"], MOST)
        came = 0

        async def bounded() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise HTTPException(413, f"more than {most} bytes")
            return message

        await self._app(scope, bounded, send)
