"""The socket by which commands act on messages while the service runs: HTTP with JSON, for the store's owner alone.

Who asks is told by the kernel (SO_PEERCRED, unix(7)), so that nobody can say that he is another. A command that finds
no service does the same with the store in its own hands, by `perform`.
"""

import asyncio
import contextlib
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge.console.asking import Wanted, perform
from bridge.dispatch.acts.acting import Acting
from bridge.errors import ActionRefused, BridgeError
from bridge.serving import open_unix_socket, serving
from bridge.settings import Settings

MOST = 64 * 1024
"""Bytes of a request: a choice and a reason."""


def application(acting: Acting) -> Starlette:
    """POST /messages/{target}/{verb}: 200 with what came of it, 409 where it is refused, 503 where the store fails."""

    async def act(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST:
                return JSONResponse({"refused": f"more than {MOST} bytes"}, 413)
        try:
            wanted = Wanted.model_validate_json(bytes(body) or b"{}")
        except ValidationError as problem:
            wrong = sorted(".".join(map(str, e["loc"])) or "JSON" for e in problem.errors(include_input=False))
            return JSONResponse({"refused": f"not understood: {', '.join(wrong)}"}, 400)
        by = request.client.host if request.client is not None else "unknown"
        target, verb = request.path_params["target"], request.path_params["verb"]
        try:
            # A caller that goes away does not take the act with it: what is done is noted.
            acted = await asyncio.shield(perform(acting, by, target, verb, wanted))
        except ActionRefused as refused:
            return JSONResponse({"refused": str(refused)}, 409)
        except BridgeError as problem:
            return JSONResponse({"failed": f"{type(problem).__name__}: {problem}"}, 503)
        return JSONResponse(acted.as_json())

    return Starlette(routes=[Route("/messages/{target}/{verb}", act, methods=["POST"])])


class _Named(H11Protocol):
    """A connection whose client is the user at its other end, as the kernel names him."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as mine:
            _, uid, _ = struct.unpack("3i", mine.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.client = (user_name(uid), 0)


def user_name(uid: int) -> str:
    """The operating system's name of a user; his number where it knows none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"


def path_of(settings: Settings) -> Path:
    """Where the socket is: beside the store."""
    return settings.store.sqlite_path.with_name("control.sock")


@contextlib.asynccontextmanager
async def controlled(acting: Acting, settings: Settings) -> AsyncIterator[None]:
    """Take commands for as long as the context is open. Raises CannotListen."""
    path = path_of(settings)
    sock = open_unix_socket(path, setting="store.url")
    try:
        async with serving(application(acting), sock, _Named):
            yield
    finally:
        path.unlink(missing_ok=True)
