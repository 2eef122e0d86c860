"""The Cardio API as documented, for demo, tests and sites: strict, with a journal of what it was given, and with
faults to play. It is the judge of what was created.

A call goes: noted in the journal → latency → the faults that come before → token → rules → the faults that come
after. A client that leaves does not stop its call: what was asked for is done, as a real server would.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from starlette.applications import Starlette

from bridge.sandbox import cardio_play
from bridge.sandbox.cardio_control import Application
from bridge.sandbox.cardio_faults import Fault, Faults
from bridge.sandbox.cardio_journal import Entry, Journal, TaskFile
from bridge.sandbox.cardio_records import records
from bridge.sandbox.cardio_rules import (
    UINT32,
    UINT64,
    CreateTasks,
    OpenUpload,
    Refusal,
    document,
    unsigned,
    validated,
)
from bridge.sandbox.cardio_uploads import Unknowns, Upload, Uploads
from bridge.sandbox.cardio_wfdb import NotARecord, Record
from bridge.sandbox.cardio_wire import Answer, Receive, Send, Wire, answer

_LARGE = 4 << 20  # bytes; from here on an upload is decoded beside the loop


@dataclass(slots=True)
class Task:
    """A task as it was asked for; `record` is None for a draft."""

    id: int
    request: dict[str, Any]
    record: Record | None
    created: datetime


class _Route(NamedTuple):
    """A documented call; `method` is "" where the path is not documented."""

    name: str
    template: str
    method: str
    handler: "_Handler"
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Call:
    """A request with what its rules need."""

    route: _Route
    token: str
    content_type: str
    query: str
    body: bytes
    entry: Entry


_Handler = Callable[[_Call], Awaitable[Answer]]


class Sandbox:
    """The API's whole state, in memory. Everything happens in one event loop; `hang_up`, then `close`, end it."""

    def __init__(
        self,
        *,
        token: str = "sandbox-token",  # noqa: S107  invented, and public
        organization: str = "sandbox-hospital",
        first_task_id: int = 4711,
        journal_file: Path | None = None,
        journal_entries: int = 1_000_000,
        unknowns: Unknowns | None = None,
    ) -> None:
        self.token = token
        self.organization = organization
        self.unknowns = unknowns or Unknowns()
        self.faults = Faults()
        self.journal = Journal(journal_entries)
        self.tasks: dict[int, Task] = {}
        self.uploads = Uploads()
        self._ids = itertools.count(first_task_id)
        self._file = TaskFile(journal_file) if journal_file else None
        self._silent: set[Wire] = set()

    def application(self) -> Starlette:
        """The ASGI application: the API below `/v3`, and for people and tests `/_sandbox`."""
        return Application(self)

    def hang_up(self) -> None:
        """End the calls that a fault keeps silent; a server that stops need not wait for their clients."""
        for wire in self._silent:
            wire.hang_up()

    def close(self) -> None:
        """Close the journal's file."""
        if self._file is not None:
            self._file.close()

    # --- every call -----------------------------------------------------------------------------------------

    async def serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One call of the API."""
        wire = Wire(receive, send)
        path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        route = self._route(path)
        entry = self.journal.add(scope["method"], route.name, route.template, path, query)
        latency, fault = self.faults.take(route.name)
        entry.fault = " ".join([*(["latency"] if latency else []), *([fault.kind] if fault else [])])
        if fault and fault.kind == "drop_at_once":
            await wire.drop(reset=fault.reset)
            return
        body = await wire.body()
        if body is None:
            return
        entry.size = len(body)
        if latency:
            await asyncio.sleep(latency)
        headers = dict(scope["headers"])
        token, kind = (headers.get(name, b"").decode("latin-1") for name in (b"x-api-token", b"content-type"))
        call = _Call(route, token, kind, query, body, entry)
        if fault:
            await self._play(wire, fault, call)
            return
        given = await self._answer(call)
        entry.status = given.status
        await wire.give(given)

    async def _answer(self, call: _Call) -> Answer:
        """What the documentation has the API answer."""
        method = call.route.method
        try:
            if call.token != self.token:
                raise Refusal(401, "token missing, expired or invalid")  # noqa: TRY301  the first rule of every call
            if method and call.entry.method != method:
                return answer(405, f"this path takes {method}", allow=method)
            return await call.route.handler(call)
        except Refusal as no:
            call.entry.text = str(no)
            return answer(no.status, str(no))

    async def _play(self, wire: Wire, fault: Fault, call: _Call) -> None:
        """The call with its fault."""
        given = cardio_play.refused(fault)
        if given is None and not cardio_play.does_nothing(fault):
            if fault.kind == "forget_upload":
                self._forget(call)
            given = await self._answer(call)
        if fault.kind in {"lost_answer", "drop_before"}:
            await wire.drop(reset=fault.reset)
        elif fault.kind == "silent" or given is None:
            self._silent.add(wire)
            try:
                await wire.silence()
            finally:
                self._silent.discard(wire)
        else:
            given = cardio_play.altered(fault, given)
            call.entry.status = given.status
            await cardio_play.deliver(wire, fault, given)

    def _route(self, path: str) -> _Route:
        """The call of a path. Escaped characters, a slash too, belong to a parameter."""
        match [unquote(part) for part in path.split("/")[2:]]:
            case ["uploads"]:
                return _Route("uploads", "/v3/uploads", "POST", self._open_upload, ())
            case ["uploads", upload_id, "chunks"]:
                template = "/v3/uploads/{upload_id}/chunks"
                return _Route("chunks", template, "POST", self._take_chunk, (upload_id,))
            case ["orgs", organization, "tasks"]:
                template = "/v3/orgs/{organization_path}/tasks"
                return _Route("tasks", template, "POST", self._create, (organization,))
            case ["orgs", organization, "tasks", task_id, "status"]:
                template = "/v3/orgs/{organization_path}/tasks/{task_id}/status"
                return _Route("status", template, "GET", self._status, (organization, task_id))
            case ["downloads", download_id, "chunks", index]:
                template = "/v3/downloads/{download_id}/chunks/{chunk_index}"
                return _Route("downloads", template, "GET", self._download, (download_id, index))
        return _Route("", "", "", self._unknown, ())

    def _forget(self, call: _Call) -> None:
        """The session that the call names is gone, with the risky answer: as if it had never been."""
        if call.entry.call == "chunks":
            self.uploads.pop(call.route.parameters[0], None)
        elif call.entry.call == "tasks":
            try:
                named = document(call.content_type, call.body).get("upload_id")
            except Refusal:
                return
            self.uploads.pop(str(named), None)

    # --- the calls ------------------------------------------------------------------------------------------

    async def _open_upload(self, call: _Call) -> Answer:
        """§1."""
        call.entry.body = found = document(call.content_type, call.body)
        call.entry.upload_id = self.uploads.open(validated(OpenUpload, found))
        return answer(201, {"upload_id": call.entry.upload_id})

    async def _take_chunk(self, call: _Call) -> Answer:
        """§2. Contiguous; the hash of the whole file is checked with its last chunk."""
        call.entry.sha256 = sha256(call.body).hexdigest()
        if call.content_type.partition(";")[0].strip().lower() != "application/octet-stream":
            raise Refusal(400, "a chunk is application/octet-stream")
        match parse_qsl(call.query, keep_blank_values=True):
            case [("offset", text)]:
                offset = unsigned(text, UINT32, "offset")
            case _:
                raise Refusal(400, "one query parameter is needed: offset")
        self.uploads.take(call.route.parameters[0], offset, call.body, self.unknowns)
        call.entry.upload_id = call.route.parameters[0]
        return answer(200, {})

    async def _create(self, call: _Call) -> Answer:
        """§3."""
        self._check_organization(call.route.parameters[0])
        call.entry.body = found = document(call.content_type, call.body)
        asked = validated(CreateTasks, found)
        made: list[Record | None] = [None]
        if asked.upload_id is not None:
            upload = self.uploads.finished(asked.upload_id, self.unknowns)
            made = [*await _decoded(upload)]
            if upload.used and self.unknowns.used_upload == "refuse":  # by a twin, while it was being decoded
                raise Refusal(400, "upload_id: the upload session was used before")
            upload.used = True
        now = datetime.now(UTC)
        ids = tuple(next(self._ids) for _ in made)
        for task_id, record in zip(ids, made, strict=True):
            self.tasks[task_id] = Task(task_id, found, record, now)
        call.entry.task_ids = ids
        if self._file is not None:
            self._file.write(call.entry.number, now, found, ids)
        return answer(201, {"created_task_ids": ids})

    async def _status(self, call: _Call) -> Answer:
        """§4. A draft is never processed: there is nothing to look at."""
        organization, number = call.route.parameters
        self._check_organization(organization)
        task = self.tasks.get(unsigned(number, UINT64, "task_id"))
        if task is None:
            raise Refusal(404, "no such task")
        after = self.unknowns.processed_after
        age = (datetime.now(UTC) - task.created).total_seconds()
        processed = task.record is not None and after is not None and age >= after
        created = task.created.isoformat().replace("+00:00", "Z")
        body: dict[str, Any] = {"creation_time": created, "processed": processed, "report_available": processed}
        if processed and self.unknowns.severity is not None:
            body["severity"] = self.unknowns.severity
        return answer(200, body)

    async def _download(self, call: _Call) -> Answer:
        """§5. How a download_id is come by is not documented, so none is known here."""
        unsigned(call.route.parameters[1], UINT32, "chunk_index")
        raise Refusal(400, "download_id: no such download")

    async def _unknown(self, call: _Call) -> Answer:
        raise Refusal(404, f"not documented: {call.entry.method} on this path")

    def _check_organization(self, organization: str) -> None:
        if organization != self.organization:
            raise Refusal(403, "token not allowed here: another organization")


async def _decoded(upload: Upload) -> list[Record]:
    """The upload's records, decoded once. Raises Refusal."""
    if upload.records is None:
        data = upload.data = bytes(upload.data)
        try:
            upload.records = records(data) if len(data) < _LARGE else await asyncio.to_thread(records, data)
        except NotARecord as why:
            raise Refusal(400, f"upload_id: {why}") from why
    return upload.records
