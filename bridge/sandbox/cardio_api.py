"""The Cardio API as documented, for demo, tests and sites: strict, with a journal of what it was given, and with
faults to play. It is the judge of what was created.
"""

import asyncio
import base64
import hashlib
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.sandbox.cardio_faults import Fault, Faults
from bridge.sandbox.cardio_records import NotARecord, Record, records
from bridge.sandbox.cardio_rules import UINT32, CreateTasks, OpenUpload, explicit_nulls, refusal

Body = TypeVar("Body", OpenUpload, CreateTasks)
Handler = Callable[[Request, dict[str, Any]], Awaitable[tuple[int, Any]]]


@dataclass(slots=True)
class Upload:
    """An upload session."""

    total_size: int
    hash_sum: str
    data: bytearray = field(default_factory=bytearray)
    last: tuple[int, int] = (-1, 0)  # offset and size of the newest chunk


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it was asked for."""

    id: int
    request: dict[str, Any]
    record: Record | None
    created: datetime


class Refusal(Exception):
    """An error status with its text, which the API gives as a bare JSON string."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Sandbox:
    """The API's whole state, in memory. Everything happens in one event loop."""

    def __init__(
        self,
        *,
        token: str = "sandbox-token",  # noqa: S107  invented, and public
        organization: str = "sandbox-hospital",
        first_task_id: int = 4711,
        journal_file: Path | None = None,
    ) -> None:
        self.token = token
        self.organization = organization
        self.faults = Faults()
        self.journal: list[dict[str, Any]] = []
        self.tasks: dict[int, Task] = {}
        self.uploads: dict[str, Upload] = {}
        self._ids = itertools.count(first_task_id)
        self._file = journal_file.open("a", encoding="utf-8") if journal_file else None

    def application(self) -> Callable[..., Awaitable[None]]:
        """The ASGI application."""
        routes = [
            Route("/v3/uploads", self._call("uploads", self._open_upload), methods=["POST"]),
            Route("/v3/uploads/{upload_id}/chunks", self._call("chunks", self._chunk), methods=["POST"]),
            Route("/v3/orgs/{organization}/tasks", self._call("tasks", self._create), methods=["POST"]),
            Route("/v3/orgs/{organization}/tasks/{task_id}/status", self._call("status", self._status)),
            Route("/_sandbox/requests", self._show_journal, methods=["GET", "DELETE"]),
            Route("/_sandbox/tasks", self._show_tasks),
            Route("/_sandbox/tasks/{task_id:int}/upload", self._show_upload),
            Route("/_sandbox/faults", self._switch_faults, methods=["GET", "PUT", "DELETE"]),
        ]
        inner = Starlette(routes=routes)

        async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
            # uvicorn's own send knows the connection: the one way to close it without an answer
            scope["sandbox.transport"] = getattr(getattr(send, "__self__", None), "transport", None)
            await inner(scope, receive, send)

        return application

    # --- every call -----------------------------------------------------------------------------------------

    def _call(self, name: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            entry: dict[str, Any] = {
                "number": len(self.journal) + 1,
                "time": datetime.now(UTC).isoformat(),
                "method": request.method,
                "call": name,
                "path": request.url.path,
                "query": request.url.query,
            }
            self.journal.append(entry)
            latency, fault = self.faults.take(name)
            if latency:
                await asyncio.sleep(latency)
            if fault is not None:
                entry["fault"] = fault.kind
            early = self._before(fault)
            if early is not None:
                return self._answered(entry, request, *early)
            status, body = await self._handled(request, entry, handler, fault)
            if fault is not None:
                status, body = await self._after(fault, status, body)
            return self._answered(entry, request, status, body)

        return endpoint

    async def _handled(
        self, request: Request, entry: dict[str, Any], handler: Handler, fault: Fault | None
    ) -> tuple[int, Any]:
        if fault is not None and fault.kind == "silent" and not fault.applied:
            return 0, None
        try:
            if request.headers.get("x-api-token") != self.token:
                raise Refusal(401, "token missing, expired or invalid")  # noqa: TRY301  the first rule of every call
            return await handler(request, entry)
        except Refusal as no:
            return no.status, str(no)

    @staticmethod
    def _before(fault: Fault | None) -> tuple[int, Any] | None:
        """The faults that keep a call from being looked at."""
        match fault:
            case Fault(kind="429" | "400" | "401" | "403" | "415" as status):
                return int(status), {"text": f"fault played: {status}", "retry_after": fault.retry_after}
            case Fault(kind="5xx_before", status=status):
                return status, "fault played: nothing was done"
            case Fault(kind="drop_before"):
                return -1, None
        return None

    @staticmethod
    async def _after(fault: Fault, status: int, body: Any) -> tuple[int, Any]:
        """The faults that come once the call was applied."""
        match fault:
            case Fault(kind="5xx_after", status=other):
                return other, "fault played: it was done"
            case Fault(kind="lost_answer"):
                return -1, None
            case Fault(kind="silent"):
                return -2, None
            case Fault(kind="broken_body"):
                return status, b'{"created_task'
            case Fault(kind="wrong_ids", ids=ids):
                return status, {"created_task_ids": ids or []}
        return status, body

    @staticmethod
    def _answered(entry: dict[str, Any], request: Request, status: int, body: Any) -> Response:
        entry["status"] = status if status > 0 else None
        if status == -2:
            return _Silent()
        if status <= 0:
            return _Dropped(request.scope["sandbox.transport"])
        if isinstance(body, bytes):
            return Response(body, status, media_type="application/json")
        if isinstance(body, dict) and "retry_after" in body:
            after = body["retry_after"]
            return JSONResponse(
                body["text"], status, headers={"Retry-After": str(after)} if after is not None else None
            )
        return JSONResponse(body, status)

    # --- the calls ------------------------------------------------------------------------------------------

    async def _open_upload(self, request: Request, entry: dict[str, Any]) -> tuple[int, Any]:
        """§1."""
        document = await _json_body(request, entry)
        asked = _validated(OpenUpload, document)
        upload_id = f"up-{len(self.uploads) + 1}"
        self.uploads[upload_id] = Upload(asked.total_size, asked.hash_sum)
        entry["upload_id"] = upload_id
        return 201, {"upload_id": upload_id}

    async def _chunk(self, request: Request, entry: dict[str, Any]) -> tuple[int, Any]:
        """§2. Contiguous; the newest chunk may come again as it was, since its answer may have been lost."""
        upload = self.uploads.get(request.path_params["upload_id"])
        if request.headers.get("content-type") != "application/octet-stream":
            raise Refusal(400, "a chunk is application/octet-stream")
        data = await request.body()
        entry |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if upload is None:
            raise Refusal(400, "no such upload")
        offset = request.query_params.get("offset", "")
        if not offset.isdigit() or int(offset) > UINT32:
            raise Refusal(400, "offset: an unsigned 32-bit integer is needed")
        start = int(offset)
        if (start, len(data)) == upload.last and bytes(upload.data[start:]) == data:
            return 200, {}
        if start != len(upload.data):
            raise Refusal(400, f"offset {start}: {len(upload.data)} bytes are here, so that is the next offset")
        if start + len(data) > upload.total_size:
            raise Refusal(400, "more bytes than total_size")
        upload.data += data
        upload.last = (start, len(data))
        return 200, {}

    async def _create(self, request: Request, entry: dict[str, Any]) -> tuple[int, Any]:
        """§3."""
        if request.path_params["organization"] != self.organization:
            raise Refusal(403, "token not allowed here")
        document = await _json_body(request, entry)
        asked = _validated(CreateTasks, document)
        found = self._records(asked.upload_id) if asked.upload_id else [None]
        now = datetime.now(UTC)
        made = [Task(next(self._ids), document, record, now) for record in found]
        for task in made:
            self.tasks[task.id] = task
            if self._file is not None:
                self._file.write(json.dumps({"id": task.id, "request": document}, ensure_ascii=False) + "\n")
                self._file.flush()
        entry["created_task_ids"] = [task.id for task in made]
        return 201, {"created_task_ids": entry["created_task_ids"]}

    def _records(self, upload_id: str) -> list[Record | None]:
        upload = self.uploads.get(upload_id)
        if upload is None:
            raise Refusal(400, "upload_id: no such upload")
        if len(upload.data) != upload.total_size:
            raise Refusal(400, f"upload_id: {len(upload.data)} of {upload.total_size} bytes are here")
        if base64.b64encode(hashlib.sha256(upload.data).digest()).decode() != upload.hash_sum:
            raise Refusal(400, "upload_id: the bytes do not have the declared hash_sum")
        try:
            return list(records(bytes(upload.data)))
        except NotARecord as why:
            raise Refusal(400, f"upload_id: {why}") from why

    async def _status(self, request: Request, _: dict[str, Any]) -> tuple[int, Any]:
        """§4. A task is processed a second after it was created; drafts never are."""
        if request.path_params["organization"] != self.organization:
            raise Refusal(403, "token not allowed here")
        task_id = request.path_params["task_id"]
        if not task_id.isdigit():
            raise Refusal(400, "task_id: an unsigned 64-bit integer is needed")
        task = self.tasks.get(int(task_id))
        if task is None:
            raise Refusal(404, "no such task")
        processed = task.record is not None and (datetime.now(UTC) - task.created).total_seconds() > 1
        return 200, {
            "creation_time": task.created.isoformat(),
            "processed": processed,
            "report_available": processed,
        }

    # --- for people and tests -------------------------------------------------------------------------------

    async def _show_journal(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.journal.clear()
            return Response(status_code=204)
        call = request.query_params.get("call")
        return JSONResponse([e for e in self.journal if call in {None, e["call"]}])

    async def _show_tasks(self, _: Request) -> Response:
        return JSONResponse(
            [
                {"id": str(t.id), "request": t.request, "record": asdict(t.record) if t.record else None}
                for t in self.tasks.values()
            ]
        )

    async def _show_upload(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["task_id"])
        upload = self.uploads.get(task.request.get("upload_id", "")) if task else None
        if upload is None:
            return JSONResponse("no such task, or a draft", 404)
        return Response(bytes(upload.data), media_type="application/octet-stream")

    async def _switch_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.faults.clear()
        elif request.method == "PUT":
            try:
                self.faults.replace(json.loads(await request.body()))
            except (ValueError, TypeError) as problem:
                return JSONResponse(str(problem), 400)
        return JSONResponse(self.faults.listed())


async def _json_body(request: Request, entry: dict[str, Any]) -> dict[str, Any]:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise Refusal(415, "the body must be application/json")
    content = await request.body()
    try:
        document = json.loads(content)
    except ValueError as cause:
        raise Refusal(400, "the body is not JSON") from cause
    entry["body"] = document
    if not isinstance(document, dict):
        raise Refusal(400, "the body is not a JSON object")
    if nulls := explicit_nulls(document):
        raise Refusal(400, f"{nulls[0]}: null; leave out what is not known")
    return document


def _validated(model: type[Body], document: dict[str, Any]) -> Body:
    try:
        return model.model_validate(document)
    except ValidationError as problem:
        raise Refusal(400, refusal(problem)) from problem


class _Dropped(Response):
    """The connection is closed without a byte."""

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self._transport = transport

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  ASGI's signature
        self._transport.abort()


class _Silent(Response):
    """Nothing is said until the client goes away."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  ASGI's signature
        while (await receive())["type"] != "http.disconnect":
            pass
