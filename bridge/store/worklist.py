"""The orders that wait for their ECG: those that stand, are due, and have no recording's task yet."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bridge.domain.patient import Identifier
from bridge.domain.plan import Plan
from bridge.store import book, patients
from bridge.store.prepared import Prepared
from bridge.store.schema import clinical_order, number, task

PAGE = 200
"""Orders read at once: a cart that asks for one patient does not make us read the week's."""

_RECORDED = (
    sa.select(sa.literal(1))
    .where(task.c.order_id == clinical_order.c.id, task.c.purpose == "recording", task.c.state != "REJECTED")
    .exists()
)
_WAITING = (
    sa.select(clinical_order)
    .where(
        # Written out: a partial index is used only where the statement says its condition in so many words.
        clinical_order.c.standing == sa.literal_column("'active'"),
        clinical_order.c.due_at >= sa.bindparam("since"),
        clinical_order.c.due_at <= sa.bindparam("until"),
        ~_RECORDED,
    )
    .order_by(clinical_order.c.due_at.desc(), clinical_order.c.id.desc())
)
NEWEST = Prepared(
    _WAITING.where(
        sa.tuple_(clinical_order.c.due_at, clinical_order.c.id)
        < sa.tuple_(sa.bindparam("before_due"), sa.bindparam("before_id"))
    ).limit(PAGE)
)
NUMBERED = Prepared(
    _WAITING.where(
        clinical_order.c.id.in_(
            sa.select(clinical_order.c.id)
            .join(
                number,
                sa.and_(
                    number.c.message_id == clinical_order.c.message_id, number.c.position == clinical_order.c.position
                ),
            )
            .where(number.c.value == sa.bindparam("wanted"), number.c.role == "order")
        )
    )
)


@functools.lru_cache(maxsize=64)
def of_patients(count: int) -> Prepared:
    """The orders of so many identifiers."""
    wanted: list[sa.BindParameter[str]] = [sa.bindparam(f"wanted_{n}") for n in range(count)]
    return Prepared(_WAITING.where(clinical_order.c.patient_value.in_(wanted)))


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order that waits for its ECG. `patient` counts since every merge, `record` is that patient's."""

    order: book.BookedOrder
    plan: Plan
    came_at: int  # stored milliseconds: due by then, where no time was planned
    visit: str
    patient: Identifier
    record: patients.Record | None


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when an order is due, in stored milliseconds."""

    since: int
    until: int


def newest(conn: sa.Connection, window: Window, *, site_authority: str) -> Iterator[Waiting]:
    """Every order that waits, the newest first."""
    before = {"before_due": window.until + 1, "before_id": 0}
    while True:
        rows = NEWEST.run(conn, {**_bounds(window), **before}).all()
        yield from (_waiting(conn, row, site_authority) for row in rows)
        if len(rows) < PAGE:
            return
        before = {"before_due": rows[-1].due_at, "before_id": rows[-1].id}


def with_number(conn: sa.Connection, window: Window, wanted: str, *, site_authority: str) -> Iterator[Waiting]:
    """Those that have this number, of any kind."""
    rows = NUMBERED.run(conn, {**_bounds(window), "wanted": wanted}).all()
    return (_waiting(conn, row, site_authority) for row in rows)


def of_patient(conn: sa.Connection, window: Window, value: str, *, site_authority: str) -> Iterator[Waiting]:
    """Those of the patient who has this identifier now, also where they were ordered under one that it replaced."""
    known = patients.retired_into(conn, Identifier(value), site_authority=site_authority)
    values = list(dict.fromkeys(one.value for one in known))
    given: dict[str, Any] = {f"wanted_{n}": one for n, one in enumerate(values)}
    rows: Sequence[Any] = of_patients(len(values)).run(conn, {**_bounds(window), **given}).all()
    return (_waiting(conn, row, site_authority) for row in rows)


def _bounds(window: Window) -> dict[str, int]:
    return {"since": window.since, "until": window.until}


def _waiting(conn: sa.Connection, row: Any, site_authority: str) -> Waiting:
    order = book.booked(row)
    identifier = patients.canonical(conn, order.patient, site_authority=site_authority)
    record = patients.record_of(conn, identifier, site_authority=site_authority)
    return Waiting(order, book.plan_from_text(row.plan), row.due_at, row.visit, identifier, record)
