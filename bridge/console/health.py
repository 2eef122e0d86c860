"""Health for machines: alive, ready, and measured. No sign-in, and no patient's value."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from bridge.console.desk import OfDesk
from bridge.console.metrics import CONTENT_TYPE
from bridge.errors import BridgeError

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Alive: the process answers."""
    return "alive\n"


@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Why not, in a line."}})
async def readyz(desk: OfDesk) -> Response:
    """Whether custody can be taken now."""
    try:
        await desk.store.write(lambda _: None)
    except BridgeError as problem:
        return PlainTextResponse(f"the store cannot be written: {type(problem).__name__}\n", status_code=503)
    if desk.payloads.free() < 0:
        return PlainTextResponse("less disk free than store.min_free\n", status_code=503)
    return PlainTextResponse("ready\n")


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(desk: OfDesk) -> Response:
    """Prometheus' text format; every name is documented in deploy/metrics.md."""
    return Response(await desk.metrics.text(), media_type=CONTENT_TYPE)
