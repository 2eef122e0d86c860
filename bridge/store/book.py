"""The order book: orders by their numbers, where they stand, and the recordings that name them."""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.order import Standing
from bridge.domain.patient import Identifier
from bridge.domain.plan import Plan
from bridge.domain.task import FieldTrace, Mapped, NumberKind, OrderNumber
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import clinical_order, insert_new, millis, number, task

_ORDER = Prepared(
    sa.select(clinical_order).where(
        clinical_order.c.number == sa.bindparam("own_number"),
        clinical_order.c.authority == sa.bindparam("own_authority"),
    )
)
_DRAFT = Prepared(
    sa.select(task)
    .where(task.c.order_id == sa.bindparam("own_order"), task.c.purpose == "draft")
    .order_by(task.c.generation.desc(), task.c.id.desc())
    .limit(1)
)
_TASKS_OF = Prepared(sa.select(task).where(task.c.order_id == sa.bindparam("own_order")).order_by(task.c.id))
_OF_TASK = Prepared(
    sa.select(clinical_order)
    .join(task, task.c.order_id == clinical_order.c.id)
    .where(task.c.task_ids == sa.bindparam("own_ids"))
    .limit(1)
)
_SET = Prepared(clinical_order.update().where(clinical_order.c.id == sa.bindparam("own_id")))
_ADD_NUMBERS = Prepared(number.insert())
_MADE = frozenset({"CREATED", "IN_DOUBT", "INTENT"})


@functools.lru_cache(maxsize=64)
def _orders_with(count: int) -> Prepared:
    """Orders that have one of so many numbers."""
    own = sa.and_(
        number.c.role == "order",
        number.c.message_id == clinical_order.c.message_id,
        number.c.position == clinical_order.c.position,
    )
    wanted: list[sa.BindParameter[str]] = [sa.bindparam(f"wanted_{n}") for n in range(count)]
    query = sa.select(clinical_order).distinct().join(number, own).where(number.c.value.in_(wanted))
    return Prepared(query.order_by(clinical_order.c.id))


@functools.lru_cache(maxsize=64)
def _recordings_with(count: int) -> Prepared:
    """The messages of recordings that have one of so many numbers."""
    wanted: list[sa.BindParameter[str]] = [sa.bindparam(f"wanted_{n}") for n in range(count)]
    query = sa.select(number.c.message_id).distinct().where(number.c.role == "recording", number.c.value.in_(wanted))
    return Prepared(query.order_by(number.c.message_id))


def _numbered(values: Sequence[str]) -> dict[str, str]:
    return {f"wanted_{n}": value for n, value in enumerate(values)}


def mapped_to_json(mapped: Mapped) -> dict[str, Any]:
    """A `Mapped` as a JSON value."""
    return {
        "fields": mapped.fields,
        "traces": [t.as_json() for t in mapped.traces],
        "warnings": list(mapped.warnings),
        "patient_authority": mapped.patient_authority,
        "numbers": [{"value": n.value, "kind": n.kind.value, "authority": n.authority} for n in mapped.numbers],
        "destination": mapped.destination,
    }


def mapped_from_json(document: dict[str, Any]) -> Mapped:
    """The other way round."""
    return Mapped(
        fields=document["fields"],
        traces=tuple(FieldTrace(**t) for t in document["traces"]),
        warnings=tuple(document["warnings"]),
        patient_authority=document["patient_authority"],
        numbers=tuple(OrderNumber(n["value"], NumberKind(n["kind"]), n["authority"]) for n in document["numbers"]),
        destination=document.get("destination", ""),
    )


@dataclass(frozen=True, slots=True)
class BookedOrder:
    """An order of the book, with what was ordered and the draft's ids, where there are any."""

    id: int
    message_id: int
    position: int
    digest: str
    patient: Identifier
    mapped: Mapped
    number: OrderNumber
    standing: Standing
    changed_digest: str
    ordered: bool  # false until the order itself has come: a change or a cancel came first
    sent_at: int | None  # stored milliseconds


def add_numbers(tx: Transaction, role: str, message_id: int, position: int, numbers: Iterable[OrderNumber]) -> None:
    """Make an order or a recording findable by its numbers."""
    rows = [
        {
            "role": role,
            "message_id": message_id,
            "position": position,
            "value": n.value,
            "kind": n.kind,
            "authority": n.authority,
        }
        for n in numbers
    ]
    if rows:
        _ADD_NUMBERS.run_many(tx.conn, rows)


def book_order(
    tx: Transaction,
    *,
    message_id: int,
    position: int,
    own_number: OrderNumber,
    patient_id: Identifier,
    mapped: Mapped,
    digest: str,
    standing: Standing = Standing.ACTIVE,
    ordered: bool = True,
    sent_at: datetime | None = None,
    visit: str = "",
    plan: Plan | None = None,
    due_at: datetime | None = None,
) -> BookedOrder | None:
    """Enter an order, unless its number is in the book already: the first entry stands (F32), and None comes back."""
    row = (
        insert_new(tx.conn.dialect.name, clinical_order, "id")
        .run(
            tx.conn,
            {
                "number": own_number.value,
                "authority": own_number.authority,
                "message_id": message_id,
                "position": position,
                "patient_value": patient_id.value,
                "patient_authority": patient_id.authority,
                "mapped": json.dumps(mapped_to_json(mapped), ensure_ascii=False),
                "digest": digest,
                "changed_digest": "",
                "standing": standing,
                "ordered": ordered,
                "sent_at": millis(sent_at) if sent_at else None,
                "visit": visit,
                "plan": _plan_text(plan),
                "due_at": millis(due_at) if due_at else 0,
            },
        )
        .first()
    )
    if row is None:
        return None
    add_numbers(tx, "order", message_id, position, mapped.numbers)
    return BookedOrder(
        id=row.id,
        message_id=message_id,
        position=position,
        digest=digest,
        patient=patient_id,
        mapped=mapped,
        number=OrderNumber(own_number.value, NumberKind.PLACER, own_number.authority),
        standing=standing,
        changed_digest="",
        ordered=ordered,
        sent_at=millis(sent_at) if sent_at else None,
    )


def booked(row: Any) -> BookedOrder:
    """An order as its row says it."""
    return BookedOrder(
        id=row.id,
        message_id=row.message_id,
        position=row.position,
        digest=row.digest,
        patient=Identifier(row.patient_value, row.patient_authority),
        mapped=mapped_from_json(json.loads(row.mapped)),
        number=OrderNumber(row.number, NumberKind.PLACER, row.authority),
        standing=Standing(row.standing),
        changed_digest=row.changed_digest,
        ordered=bool(row.ordered),
        sent_at=row.sent_at,
    )


def order_by_number(conn: sa.Connection, own_number: OrderNumber) -> BookedOrder | None:
    """The order that has exactly this number and authority."""
    row = _ORDER.run(conn, {"own_number": own_number.value, "own_authority": own_number.authority}).first()
    return booked(row) if row else None


def order_by_id(conn: sa.Connection, order_id: int) -> BookedOrder | None:
    """The order of a row."""
    row = conn.execute(sa.select(clinical_order).where(clinical_order.c.id == order_id)).first()
    return booked(row) if row else None


def understood_anew(tx: Transaction, order: BookedOrder, mapped: Mapped, digest: str, patient_id: Identifier) -> None:
    """The message of an order was understood again, by the rules in force now: where it stands stays as it is."""
    _SET.run(
        tx.conn,
        {
            "own_id": order.id,
            "mapped": json.dumps(mapped_to_json(mapped), ensure_ascii=False),
            "digest": digest,
            "patient_value": patient_id.value,
            "patient_authority": patient_id.authority,
        },
    )
    forget_numbers(tx, "order", order.message_id, order.position)
    add_numbers(tx, "order", order.message_id, order.position, mapped.numbers)


def forget_numbers(tx: Transaction, role: str, message_id: int, position: int) -> None:
    """What an order or a recording was findable by."""
    tx.conn.execute(
        number.delete().where(number.c.role == role, number.c.message_id == message_id, number.c.position == position)
    )


def order_by_task(conn: sa.Connection, task_id: str) -> BookedOrder | None:
    """The order whose draft or recording has this task id: our own filler number."""
    row = _OF_TASK.run(conn, {"own_ids": task_id}).first()
    return booked(row) if row else None


def order_of_task(conn: sa.Connection, task_row: int) -> BookedOrder | None:
    """The order that a task row belongs to."""
    query = sa.select(clinical_order).join(task, task.c.order_id == clinical_order.c.id).where(task.c.id == task_row)
    row = conn.execute(query).first()
    return booked(row) if row else None


def replace_order(
    tx: Transaction,
    order_id: int,
    message_id: int,
    position: int,
    mapped: Mapped,
    digest: str,
    *,
    patient_id: Identifier,
    sent_at: datetime | None = None,
    plan: Plan | None = None,
) -> None:
    """An order that never came to a task is ordered anew: what counts is the new message."""
    _SET.run(
        tx.conn,
        {
            "own_id": order_id,
            "message_id": message_id,
            "position": position,
            "mapped": json.dumps(mapped_to_json(mapped), ensure_ascii=False),
            "digest": digest,
            "changed_digest": "",
            "standing": Standing.ACTIVE,
            "ordered": True,
            "sent_at": millis(sent_at) if sent_at else None,
            "patient_value": patient_id.value,
            "patient_authority": patient_id.authority,
            "plan": _plan_text(plan),
        },
    )
    add_numbers(tx, "order", message_id, position, mapped.numbers)


def plan_anew(tx: Transaction, order_id: int, plan: Plan, *, due_at: datetime | None) -> None:
    """What is planned for an order from now on; silence keeps what was said before. None: it is due no more."""
    row = tx.conn.execute(sa.select(clinical_order.c.plan).where(clinical_order.c.id == order_id)).one()
    earlier = plan_from_text(row.plan)
    due = max(due_at, plan.over(earlier).scheduled_at or due_at) if due_at else None
    _SET.run(tx.conn, {"own_id": order_id, "plan": _plan_text(plan.over(earlier)), "due_at": millis(due) if due else 0})


def plan_from_text(text: str) -> Plan:
    """A stored plan."""
    return Plan.from_json(json.loads(text)) if text else Plan()


def _plan_text(plan: Plan | None) -> str:
    said = plan.as_json() if plan is not None else {}
    return json.dumps(said, ensure_ascii=False) if said else ""


def take_over(tx: Transaction, order: BookedOrder, message_id: int, position: int) -> None:
    """Another message of the same order stands for it from now on; what is ordered stays."""
    _SET.run(tx.conn, {"own_id": order.id, "message_id": message_id, "position": position})
    add_numbers(tx, "order", message_id, position, order.mapped.numbers)


def change_order(tx: Transaction, order: BookedOrder, mapped: Mapped, digest: str, *, sent_at: datetime | None) -> None:
    """What was ordered has changed: everything that is not sent yet goes out as it stands now."""
    _SET.run(
        tx.conn,
        {
            "own_id": order.id,
            "mapped": json.dumps(mapped_to_json(mapped), ensure_ascii=False),
            "changed_digest": digest,
            "sent_at": millis(sent_at) if sent_at else order.sent_at,
        },
    )
    known = {(n.value, n.kind, n.authority) for n in order.mapped.numbers}
    more = [n for n in mapped.numbers if (n.value, n.kind, n.authority) not in known]
    add_numbers(tx, "order", order.message_id, order.position, more)


def stand(tx: Transaction, order_id: int, standing: Standing, **columns: Any) -> None:
    """The order stands otherwise from now on."""
    _SET.run(tx.conn, {"own_id": order_id, "standing": standing, **columns})


def link_replaced(tx: Transaction, message_id: int, order_id: int) -> None:
    """The orders that this message replaced name the one that came in their place."""
    tx.conn.execute(
        clinical_order.update()
        .where(
            clinical_order.c.withdrawn_by == message_id,
            clinical_order.c.standing == Standing.REPLACED,
            clinical_order.c.replaced_by.is_(None),
        )
        .values(replaced_by=order_id)
    )


def orders_of_visit(conn: sa.Connection, patient_value: str, visit: str) -> list[BookedOrder]:
    """The orders of a patient's visit that stand."""
    query = sa.select(clinical_order).where(
        clinical_order.c.patient_value == patient_value,
        clinical_order.c.visit == visit,
        clinical_order.c.standing.in_([Standing.ACTIVE, Standing.ON_HOLD]),
    )
    return [booked(row) for row in conn.execute(query.order_by(clinical_order.c.id)).all()]


def rename_visit(tx: Transaction, patient_value: str, old: str, new: str) -> None:
    """Orders of a visit whose number changed."""
    tx.conn.execute(
        clinical_order.update()
        .where(clinical_order.c.patient_value == patient_value, clinical_order.c.visit == old)
        .values(visit=new)
    )


def under_way(conn: sa.Connection, order_id: int) -> list[Any]:
    """The task rows of an order that may have been sent: what a change cannot reach any more."""
    rows = _TASKS_OF.run(conn, {"own_order": order_id}).all()
    return [r for r in rows if r.state in _MADE or (r.state == "RETRY" and r.sent)]


def orders_with(conn: sa.Connection, values: Iterable[str]) -> list[BookedOrder]:
    """Every order that has one of these numbers, of any kind."""
    wanted = sorted(set(values))
    if not wanted:
        return []
    rows = _orders_with(len(wanted)).run(conn, _numbered(wanted)).all()
    return [booked(row) for row in rows]


def recordings_with(conn: sa.Connection, values: Iterable[str]) -> list[int]:
    """The messages of every recording that has one of these numbers, oldest first."""
    wanted = sorted(set(values))
    if not wanted:
        return []
    return list(_recordings_with(len(wanted)).run(conn, _numbered(wanted)).scalars())


def draft_of(conn: sa.Connection, order_id: int) -> Any | None:
    """The newest draft task row of an order."""
    return _DRAFT.run(conn, {"own_order": order_id}).first()
