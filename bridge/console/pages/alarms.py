"""Alarms: what is wrong now and what to do, what was, and who was told."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from bridge.console.access.visitor import OPERATOR, VIEWER, OfVisitor
from bridge.console.desk import Desk, OfDesk
from bridge.console.rendering import OfPages
from bridge.dispatch.alarms.meanings import Meaning, meaning, place, said
from bridge.settings import Rule
from bridge.store import alarms, audit
from bridge.store.alarms import Alarm, Told
from bridge.store.port import Transaction

router = APIRouter(dependencies=[VIEWER], include_in_schema=False)

MOST_OF_A_RULE = 20
"""Alarms of one rule that are shown one by one; of the rest there is the number."""
MOST_BEFORE = 200


@dataclass(frozen=True, slots=True)
class Shown:
    """An alarm as a page has it."""

    alarm: Alarm
    title: str
    text: str
    where: str
    told: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """The alarms of one rule that are on, and what they mean."""

    rule: str
    meaning: Meaning
    alarms: Sequence[Shown]
    more: int


async def alarms_now(desk: Desk) -> list[Group]:
    """What is on, by rule, in the order of the rules; for `partials/alarms_now.html`."""
    on = await desk.store.read(alarms.on_now)
    ranks = [rule.value for rule in Rule]
    rules = sorted({one.rule for one in on}, key=lambda rule: ranks.index(rule) if rule in ranks else len(ranks))
    return [_group(desk, rule, [one for one in on if one.rule == rule]) for rule in rules]


def _group(desk: Desk, rule: str, on: Sequence[Alarm]) -> Group:
    shown = [_shown(desk, one) for one in on[:MOST_OF_A_RULE]]
    return Group(rule, meaning(rule), shown, len(on) - len(shown))


def _shown(desk: Desk, one: Alarm, told: Sequence[Told] = ()) -> Shown:
    zone = ZoneInfo(desk.settings.site.time_zone)
    text = said(one.rule, one.subject, one.detail, zone)
    return Shown(one, meaning(one.rule).title, text, place(one.rule, one.subject), told)


@router.get("/alarms", response_class=HTMLResponse)
async def page(request: Request, desk: OfDesk, pages: OfPages) -> HTMLResponse:
    """On now, and the last two hundred with their notices."""
    before = await desk.store.read(lambda conn: alarms.history(conn, MOST_BEFORE))
    told = await desk.store.read(lambda conn: alarms.told(conn, [one.id for one in before]))
    return pages.page(
        request,
        "alarms.html",
        alarms_now=await alarms_now(desk),
        history=[_shown(desk, one, told.get(one.id, ())) for one in before],
        channels=desk.settings.alarms.channels,
        muted=[rule.value for rule in desk.settings.alarms.mute],
        rules=[(rule.value, meaning(rule)) for rule in Rule],
    )


@router.get("/alarms/now", response_class=HTMLResponse)
async def now(request: Request, desk: OfDesk, pages: OfPages) -> HTMLResponse:
    """The part that the overview has, by itself."""
    return pages.page(request, "partials/alarms_now.html", alarms_now=await alarms_now(desk))


@router.post("/alarms/test", dependencies=[OPERATOR])
async def test(desk: OfDesk, visitor: OfVisitor) -> RedirectResponse:
    """An alarm that is over as it begins: every channel is told once, and nothing is wrong."""

    def work(tx: Transaction) -> None:
        at = desk.clock.now()
        channels = desk.settings.alarms.channels
        made = alarms.begin(tx, Rule.TEST.value, visitor.name, at=at, detail={}, channels=channels)
        if made is not None:
            alarms.end(tx, made, at=at, channels=())
        audit.note(tx, at=at, actor=visitor.name, action="test_alarm", detail={"channels": list(channels)})

    await desk.store.write(work)
    return RedirectResponse("/alarms", 303)
