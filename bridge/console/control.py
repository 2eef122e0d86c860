"""The socket by which commands act on messages while the service runs: HTTP with JSON, for the store's owner alone.

Who asks is told by the kernel (SO_PEERCRED, unix(7)), so that nobody can say that he is another. A command that finds
no service does the same with the store in its own hands, by `perform`.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge.console.access.visitor import Role, Visitor
from bridge.console.api import API_ROUTERS, pruning
from bridge.console.bounds import Bounds
from bridge.console.desk import Desk
from bridge.console.owner import path_of, user_name
from bridge.console.refusing import answer_errors
from bridge.serving import open_unix_socket, serving


def application(desk: Desk) -> FastAPI:
    """The JSON API, for one who is let in by the kernel's word."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.desk = desk
    for router in (*API_ROUTERS, pruning.router):
        app.include_router(router)
    app.add_middleware(Bounds)
    app.add_middleware(_Inside)
    answer_errors(app)
    return app


class _Inside:
    """ASGI middleware: whoever can open the store's socket may do what its owner may."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        by = Visitor(client[0] if client else "unknown", Role.ADMIN, is_script=True)
        scope.setdefault("state", {})["visitor"] = by
        await self._app(scope, receive, send)


class _Named(H11Protocol):
    """A connection whose client is the user at its other end, as the kernel names him."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as mine:
            _, uid, _ = struct.unpack("3i", mine.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.client = (user_name(uid), 0)


@contextlib.asynccontextmanager
async def controlled(desk: Desk) -> AsyncIterator[None]:
    """Take commands for as long as the context is open. Raises CannotListen."""
    path = path_of(desk.settings)
    sock = open_unix_socket(path, setting="store.url")
    try:
        async with serving(application(desk), sock, _Named):
            yield
    finally:
        path.unlink(missing_ok=True)
