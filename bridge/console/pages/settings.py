"""Settings as in force, and the check of them."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from bridge.console.access.visitor import ADMIN, OfVisitor
from bridge.console.desk import OfDesk
from bridge.console.rendering import OfPages
from bridge.console.settings_shown import groups, without_defaults, without_secrets

router = APIRouter(dependencies=[ADMIN], include_in_schema=False)


@router.get("/settings", response_class=HTMLResponse)
async def settings(request: Request, desk: OfDesk, pages: OfPages, given: bool = False) -> HTMLResponse:
    """Every key with its value and who said it, secrets masked; what the last check said. `given`: no defaults."""
    tables = groups(desk.settings)
    if given:
        tables = [said for said in map(without_defaults, tables) if said.rows]
    last = desk.checks.last
    lines = [(line.level, line.what, without_secrets(line.text)) for line in last.lines] if last else []
    return pages.page(
        request,
        "settings.html",
        groups=tables,
        given=given,
        addresses=dict(desk.addresses),
        checked=last,
        lines=lines,
    )


@router.post("/settings/check")
async def check(desk: OfDesk, who: OfVisitor) -> RedirectResponse:
    """What `bridge check` says, of the settings in force; ports that this service holds are its own."""
    await desk.checks.run(desk.settings, desk.addresses, desk.clock, who.name)
    return RedirectResponse("/settings#check", 303)
