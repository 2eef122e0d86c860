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

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.acts.audited import Acted
from bridge.errors import ActionRefused, BridgeError
from bridge.serving import open_unix_socket, serving
from bridge.settings import Settings
from bridge.store.untold import Queue

MOST = 64 * 1024
"""Bytes of a request: a choice and a reason."""


class Wanted(BaseModel):
    """What is asked for besides the verb; what a verb does not know is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: str = ""
    order: str | None = None
    without_order: bool = False
    task: str | None = None
    resend: bool = False
    give_up: bool = False
    anomaly: int | None = None
    tag: str = ""
    confirm: str = ""


_OF_VERB: dict[str, set[str]] = {
    "release": {"reason", "order", "without_order"},
    "replay": {"reason"},
    "show": set(),
    "discard": {"reason"},
    "resolve": {"reason", "task", "resend", "give_up", "anomaly", "tag", "confirm"},
}


async def perform(acting: Acting, by: str, target: str, verb: str, wanted: Wanted) -> Acted:
    """Do what is asked of a message, by its id, or of what could not be told (`outbound:ID`, `commitment:ID`).

    Raises ActionRefused, also where it makes no sense.
    """
    strange = wanted.model_fields_set - _OF_VERB.get(verb, set())
    if verb not in _OF_VERB or strange:
        raise ActionRefused(f"{verb} {target}: {', '.join(sorted(strange)) or verb} is not known here")
    queue, _, number = target.rpartition(":")
    if not number.isascii() or not number.isdigit() or len(number) > 18 or queue not in {"", *Queue}:
        raise ActionRefused(f"{verb}: no message id, outbound:ID or commitment:ID")
    if queue:
        return await _untold(acting, by, Queue(queue), int(number), verb, wanted)
    return await _of_message(acting, by, int(number), verb, wanted)


async def _untold(acting: Acting, by: str, queue: Queue, number: int, verb: str, wanted: Wanted) -> Acted:
    if verb == "release" and wanted.model_fields_set <= {"reason"}:
        return await acting.release_untold(queue, number, by=by, reason=wanted.reason)
    if verb == "discard":
        return await acting.discard_untold(queue, number, by=by, reason=wanted.reason)
    raise ActionRefused(f"{queue}:{number} can be released or discarded")


async def _of_message(acting: Acting, by: str, number: int, verb: str, wanted: Wanted) -> Acted:
    reason = wanted.reason
    match verb:
        case "release":
            return await acting.release(
                number, by=by, reason=reason, order=wanted.order, without_order=wanted.without_order
            )
        case "replay":
            return await acting.replay(number, by=by, reason=reason)
        case "discard":
            return await acting.discard(number, by=by, reason=reason)
        case "show":
            return await acting.shown(number, by=by)
    ways = [wanted.task is not None, wanted.resend, wanted.give_up, wanted.anomaly is not None]
    if sum(ways) != 1:
        raise ActionRefused(f"message {number}: resolve by one of --task ID, --resend, --give-up or --anomaly ID")
    if wanted.task is not None:
        return await acting.resolve_found(number, wanted.task, by=by, reason=reason, tag=wanted.tag)
    if wanted.anomaly is not None:
        return await acting.settle_anomaly(number, wanted.anomaly, by=by, reason=reason)
    resolve = acting.resolve_resend if wanted.resend else acting.resolve_give_up
    return await resolve(number, by=by, reason=reason, confirm=wanted.confirm)


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
