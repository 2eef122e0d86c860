"""Health for machines, and a first page for people: how many messages stand where. No patient value is shown."""

import html

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from bridge.console.metrics import CONTENT_TYPE, Metrics
from bridge.domain.states import State
from bridge.errors import BridgeError, StoreError
from bridge.store import listing, quarantine
from bridge.store.payloads import Payloads
from bridge.store.port import Store

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Cardio bridge</title>
<meta name="viewport" content="width=device-width"><style>
body{{font:16px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}}
table{{border-collapse:collapse}}td,th{{padding:.2rem 1rem .2rem 0;text-align:left}}</style></head><body>
<h1>Cardio bridge</h1>{notice}<table><tr><th>State</th><th>Messages</th></tr>{rows}</table>
<p>A message and its history: <code>bridge messages list</code>, <code>bridge messages show ID</code>.</p>
</body></html>"""


def application(store: Store, payloads: Payloads, metrics: Metrics) -> Starlette:
    """The console's pages; it listens on loopback only."""

    async def overview(_: Request) -> Response:
        counts = await store.read(listing.counts)
        why = await store.read(quarantine.reason)
        notice = (
            f"<p><strong>In quarantine: nothing is sent.</strong> The database: {html.escape(why)}.</p>" if why else ""
        )
        rows = "".join(
            f"<tr><td>{html.escape(s)}</td><td>{counts.get(s, 0)}</td></tr>" for s in State if counts.get(s, 0)
        )
        return HTMLResponse(
            _PAGE.format(notice=notice, rows=rows or "<tr><td colspan=2>Nothing has come in yet.</td></tr>"),
            headers={
                "Cache-Control": "no-store",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            },
        )

    async def alive(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def ready(_: Request) -> Response:
        """Whether custody can be taken now."""
        try:
            await store.write(lambda _: None)
        except BridgeError as problem:
            return PlainTextResponse(f"the store cannot be written: {type(problem).__name__}\n", status_code=503)
        if payloads.free() < 0:
            return PlainTextResponse("less disk free than store.min_free\n", status_code=503)
        return PlainTextResponse("ready\n")

    async def measured(_: Request) -> Response:
        try:
            return Response(await metrics.text(), media_type=CONTENT_TYPE)
        except StoreError as problem:
            return PlainTextResponse(f"the store cannot be read: {type(problem).__name__}\n", status_code=503)

    pages = {"/": overview, "/healthz": alive, "/readyz": ready, "/metrics": measured}
    return Starlette(routes=[Route(path, page) for path, page in pages.items()])
