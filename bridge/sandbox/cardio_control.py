"""`/_sandbox`: what people and tests see of the sandbox API, and the switches that they turn."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox.cardio_rules import Refusal, unsigned
from bridge.sandbox.cardio_uploads import Unknowns
from bridge.sandbox.cardio_wire import answer

if TYPE_CHECKING:
    from bridge.sandbox.cardio_api import Sandbox, Task


class _Settings(Unknowns):
    """What can be changed while it runs: the token too, so that one can expire and be renewed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    token: Annotated[str, Field(min_length=1)]


_CHANGE = TypeAdapter(dict[str, Any])


class Application(Starlette):
    """The API below `/v3` goes straight to the sandbox, which needs uvicorn's own `send`; the rest is Starlette."""

    def __init__(self, sandbox: "Sandbox") -> None:
        desk = _Desk(sandbox)
        super().__init__(
            routes=[
                Route("/_sandbox/requests", desk.requests, methods=["GET", "DELETE"]),
                Route("/_sandbox/tasks", desk.tasks),
                Route("/_sandbox/tasks/{task_id}/record.zip", desk.record),
                Route("/_sandbox/faults", desk.faults, methods=["GET", "PUT", "DELETE"]),
                Route("/_sandbox/settings", desk.settings, methods=["GET", "PATCH"]),
            ]
        )
        self._sandbox = sandbox

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"].startswith("/v3/"):
            await self._sandbox.serve(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _Desk:
    """The pages. JSON throughout; task ids are strings."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    async def requests(self, request: Request) -> Response:
        """GET with `?path=tasks` (a call, or the beginning of a path) and `?since=N`; DELETE forgets them."""
        if request.method == "DELETE":
            self._sandbox.journal.clear()
            return Response(status_code=204)
        try:
            since = unsigned(request.query_params.get("since", "0"), 2**63 - 1, "since")
        except Refusal as no:
            return _json(str(no), no.status)
        return _json(self._sandbox.journal.select(request.query_params.get("path", ""), since))

    async def tasks(self, _: Request) -> Response:
        """Every task with its request and record."""
        return _json([_shown(task) for task in self._sandbox.tasks.values()])

    async def record(self, request: Request) -> Response:
        """The bytes that a task was made of, as they were uploaded (whatever their format)."""
        number = request.path_params["task_id"]
        task = self._sandbox.tasks.get(int(number)) if number.isascii() and number.isdigit() else None
        upload = self._sandbox.uploads.get(str(task.request.get("upload_id"))) if task else None
        if upload is None:
            return _json("no such task, or a draft", 404)
        return Response(bytes(upload.data), media_type="application/octet-stream")

    async def faults(self, request: Request) -> Response:
        """GET those in force; PUT a JSON list of them, all or none; DELETE."""
        if request.method == "DELETE":
            self._sandbox.faults.clear()
        elif request.method == "PUT":
            try:
                self._sandbox.faults.replace(await request.body())
            except ValueError as problem:
                return _json(str(problem), 400)
        return _json(self._sandbox.faults.listed())

    async def settings(self, request: Request) -> Response:
        """GET the switches for what is not documented, and the token; PATCH some of them."""
        if request.method == "PATCH":
            try:
                change = _CHANGE.validate_json(await request.body())
                wanted = _Settings.model_validate({**self._settings(), **change})
            except ValueError as problem:
                return _json(str(problem), 400)
            self._sandbox.token = wanted.token
            self._sandbox.unknowns = Unknowns.model_validate(wanted.model_dump(exclude={"token"}))
        return _json(self._settings())

    def _settings(self) -> dict[str, Any]:
        return {"token": self._sandbox.token, **self._sandbox.unknowns.model_dump()}


def _json(body: Any, status: int = 200) -> Response:
    """Escaped to ASCII: a journal may hold text that no UTF-8 can."""
    return Response(answer(status, body).content, status, media_type="application/json")


def _shown(task: "Task") -> dict[str, Any]:
    return {
        "id": str(task.id),
        "created": task.created.isoformat(),
        "request": task.request,
        "record": asdict(task.record) if task.record else None,
    }
