"""What the first page says: is it connected, does anything wait and for how long, what must a person see."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.console.desk import Desk
from bridge.dispatch.alarms.looking import certificates_of, expiry
from bridge.domain.states import State
from bridge.settings import Settings
from bridge.store import quarantine
from bridge.store.destinations import standing
from bridge.store.recent import Flow, Queue, Recent

_NEVER = (0,) * 60
_PERSONS = (State.HELD, State.IN_DOUBT, State.REJECTED)


@dataclass(frozen=True, slots=True)
class Way:
    """One way in or out: its address, what came by it, and until when its certificate is good (none: no TLS)."""

    name: str
    address: str
    flow: Flow
    tls: bool
    days_left: int | None


@dataclass(frozen=True, slots=True)
class Goal:
    """A destination: where it stands, since when and why, and what waits for it."""

    name: str
    address: str
    down: bool
    reason: str
    since: datetime | None
    flow: Flow
    depth: int
    waits: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures of the page, and of `GET /api/overview`."""

    recent: Recent
    listeners: Sequence[Way]
    goals: Sequence[Goal]
    before: Sequence[Queue]  # open work that has no destination yet
    for_persons: Mapping[State, int]
    quarantine: str


async def overview(desk: Desk) -> Overview:
    """As things are now, or were a moment ago. Raises StoreError."""
    recent = await desk.lately.figures()
    why = await desk.store.read(quarantine.reason)
    known = await desk.store.read(standing)
    ends = await asyncio.to_thread(_good_until, desk.settings)
    return Overview(
        recent=recent,
        listeners=[_way(desk, name, recent, ends) for name in desk.addresses if name != "console"],
        goals=[_goal(desk, name, recent, known) for name in desk.settings.cardio.all()],
        before=[q for q in recent.queues if not q.destination],
        for_persons={state: recent.states.get(state, 0) for state in _PERSONS},
        quarantine=why or "",
    )


def _way(desk: Desk, name: str, recent: Recent, good_until: Mapping[str, datetime | None]) -> Way:
    flow = next((f for f in recent.listeners if f.name == name), Flow(name, None, 0, _NEVER))
    tls = f"{name}.tls"
    end = good_until.get(tls)
    days = (end - desk.clock.now()).days if end is not None else None
    return Way(name, desk.addresses[name], flow, tls in good_until, days)


def _good_until(settings: Settings) -> dict[str, datetime | None]:
    """Until when each certificate that we show is good, by its setting; None where it cannot be read."""
    return {setting: expiry(file) for setting, file in certificates_of(settings).items()}


def _goal(desk: Desk, name: str, recent: Recent, known: Mapping[str, tuple[bool, str, datetime]]) -> Goal:
    down, reason, since = known.get(name, (False, "", None))
    mine = [q for q in recent.queues if q.destination == name]
    return Goal(
        name=name,
        address=desk.settings.cardio.all()[name].base_url,
        down=down,
        reason=reason,
        since=since,
        flow=next((f for f in recent.destinations if f.name == name), Flow(name, None, 0, _NEVER)),
        depth=sum(q.depth for q in mine),
        waits=sum(q.waits for q in mine),
        oldest_at=min((q.oldest_at for q in mine if q.oldest_at is not None), default=None),
    )
