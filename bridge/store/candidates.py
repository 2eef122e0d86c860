"""Orders that a held recording may belong to: those with one of its numbers, and those of its patient."""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from bridge.domain.order import Standing
from bridge.store import book
from bridge.store.schema import clinical_order, message

_STANDING = (Standing.ACTIVE, Standing.ON_HOLD)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An order that stands, when it came (stored milliseconds), and whether a recording has its task already."""

    order: book.BookedOrder
    received_at: int
    by_number: bool
    recorded: bool


def candidates(conn: sa.Connection, numbers: Iterable[str], patients: Iterable[str], most: int = 50) -> list[Candidate]:
    """Those with one of the numbers, then the newest of the patients' identifiers."""
    numbered = [o for o in book.orders_with(conn, numbers) if o.standing in _STANDING]
    known = {o.id for o in numbered}
    query = (
        sa.select(clinical_order)
        .where(clinical_order.c.patient_value.in_(sorted(set(patients))), clinical_order.c.standing.in_(_STANDING))
        .order_by(clinical_order.c.id.desc())
        .limit(most)
    )
    others = [o for o in map(book.booked, conn.execute(query).all()) if o.id not in known]
    return [_candidate(conn, o, by_number=o.id in known) for o in [*numbered, *others]]


def attached(conn: sa.Connection, order_id: int, numbers: Iterable[str]) -> Candidate | None:
    """The order that a recording has, wherever it stands by now."""
    order = book.order_by_id(conn, order_id)
    if order is None:
        return None
    by_number = not {n.value for n in order.mapped.numbers}.isdisjoint(numbers)
    return _candidate(conn, order, by_number=by_number)


def _candidate(conn: sa.Connection, order: book.BookedOrder, *, by_number: bool) -> Candidate:
    came = conn.execute(sa.select(message.c.received_at).where(message.c.id == order.message_id)).scalar_one()
    recorded = any(row.purpose == "recording" for row in book.under_way(conn, order.id))
    return Candidate(order, came, by_number, recorded)
