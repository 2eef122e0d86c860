"""The patient record and the order book."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa

from bridge.domain.patient import Demographics, Identifier, PatientUpdate
from bridge.domain.task import FieldTrace, Mapped, NumberKind, OrderNumber
from bridge.store.port import Transaction
from bridge.store.schema import clinical_order, insert_new, number, patient, task

_PATIENT_UPDATE = patient.update().where(
    patient.c.value == sa.bindparam("own_value"), patient.c.authority == sa.bindparam("own_authority")
)
_PATIENTS = sa.select(patient).where(patient.c.value == sa.bindparam("own_value"))
_PATIENT = _PATIENTS.where(patient.c.authority == sa.bindparam("own_authority"))
_ORDER = sa.select(clinical_order).where(
    clinical_order.c.number == sa.bindparam("own_number"), clinical_order.c.authority == sa.bindparam("own_authority")
)
_ORDERS_WITH = (
    sa.select(clinical_order)
    .distinct()
    .join(
        number,
        sa.and_(
            number.c.role == "order",
            number.c.message_id == clinical_order.c.message_id,
            number.c.position == clinical_order.c.position,
        ),
    )
    .where(number.c.value.in_(sa.bindparam("wanted", expanding=True)))
    .order_by(clinical_order.c.id)
)
_RECORDINGS_WITH = (
    sa.select(number.c.message_id)
    .distinct()
    .where(number.c.role == "recording", number.c.value.in_(sa.bindparam("wanted", expanding=True)))
    .order_by(number.c.message_id)
)
_DRAFT = (
    sa.select(task)
    .where(task.c.order_id == sa.bindparam("own_order"), task.c.purpose == "draft")
    .order_by(task.c.generation.desc(), task.c.id.desc())
    .limit(1)
)
_ADD_NUMBERS = number.insert()


def mapped_to_json(mapped: Mapped) -> dict[str, Any]:
    """A `Mapped` as a JSON value."""
    return asdict(mapped)


def mapped_from_json(document: dict[str, Any]) -> Mapped:
    """The other way round."""
    return Mapped(
        fields=document["fields"],
        traces=tuple(FieldTrace(**t) for t in document["traces"]),
        warnings=tuple(document["warnings"]),
        patient_authority=document["patient_authority"],
        numbers=tuple(OrderNumber(n["value"], NumberKind(n["kind"]), n["authority"]) for n in document["numbers"]),
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


def update_patient(tx: Transaction, update: PatientUpdate, message_id: int) -> None:
    """Bring the record to what an ADT says: a value is set, null clears it, silence keeps it."""
    said = {key: value or "" for key, value in update.said.items()}
    row = {
        "value": update.identifier.value,
        "authority": update.identifier.authority,
        "message_id": message_id,
    }
    changed = tx.conn.execute(
        _PATIENT_UPDATE,
        {
            "own_value": update.identifier.value,
            "own_authority": update.identifier.authority,
            "message_id": message_id,
            **said,
        },
    )
    if changed.rowcount == 0:
        tx.conn.execute(patient.insert(), {**{f.name: "" for f in fields(Demographics)}, **row, **said})


def fill_patient(tx: Transaction, identifier: Identifier, known: Demographics, message_id: int) -> None:
    """Open a record from an order where there is none, or fill its gaps: ADT is the authority, an order is not."""
    asked = {"own_value": identifier.value, "own_authority": identifier.authority}
    found = tx.conn.execute(_PATIENT, asked).first()
    if found is None:
        tx.conn.execute(
            patient.insert(),
            {
                "value": identifier.value,
                "authority": identifier.authority,
                "message_id": message_id,
                **asdict(known),
            },
        )
        return
    gaps = {key: value for key, value in asdict(known).items() if value and not getattr(found, key)}
    if gaps:
        tx.conn.execute(patient.update().where(patient.c.id == found.id), gaps)


def find_patient(conn: sa.Connection, identifier: Identifier, *, site_authority: str) -> Demographics | None:
    """The record of this patient; None where there is none, or where more than one could be meant."""
    rows = conn.execute(_PATIENTS, {"own_value": identifier.value}).all()
    own = [r for r in rows if Identifier(r.value, r.authority).agrees(identifier, site_authority=site_authority)]
    if len(own) != 1:
        return None
    return Demographics(**{f.name: getattr(own[0], f.name) for f in fields(Demographics)})


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
        tx.conn.execute(_ADD_NUMBERS, rows)


def book_order(
    tx: Transaction,
    *,
    message_id: int,
    position: int,
    own_number: OrderNumber,
    patient_id: Identifier,
    mapped: Mapped,
    digest: str,
) -> None:
    """Enter an order, unless its number is in the book already: the first entry stands (F32)."""
    row = tx.conn.execute(
        insert_new(tx.conn.dialect.name, clinical_order, "id"),
        {
            "number": own_number.value,
            "authority": own_number.authority,
            "message_id": message_id,
            "position": position,
            "patient_value": patient_id.value,
            "patient_authority": patient_id.authority,
            "mapped": json.dumps(mapped_to_json(mapped), ensure_ascii=False),
            "digest": digest,
        },
    ).first()
    if row is not None:
        add_numbers(tx, "order", message_id, position, mapped.numbers)


def _booked(row: Any) -> BookedOrder:
    return BookedOrder(
        id=row.id,
        message_id=row.message_id,
        position=row.position,
        digest=row.digest,
        patient=Identifier(row.patient_value, row.patient_authority),
        mapped=mapped_from_json(json.loads(row.mapped)),
    )


def order_by_number(conn: sa.Connection, own_number: OrderNumber) -> BookedOrder | None:
    """The order that has exactly this number and authority."""
    row = conn.execute(_ORDER, {"own_number": own_number.value, "own_authority": own_number.authority}).first()
    return _booked(row) if row else None


def replace_order(tx: Transaction, order_id: int, message_id: int, position: int, mapped: Mapped, digest: str) -> None:
    """An order whose first sending was refused is ordered anew: what counts is the new message."""
    tx.conn.execute(
        clinical_order.update().where(clinical_order.c.id == order_id),
        {
            "message_id": message_id,
            "position": position,
            "mapped": json.dumps(mapped_to_json(mapped), ensure_ascii=False),
            "digest": digest,
        },
    )


def orders_with(conn: sa.Connection, values: Iterable[str]) -> list[BookedOrder]:
    """Every order that has one of these numbers, of any kind."""
    wanted = sorted(set(values))
    if not wanted:
        return []
    rows = conn.execute(_ORDERS_WITH, {"wanted": wanted}).all()
    return [_booked(row) for row in rows]


def recordings_with(conn: sa.Connection, values: Iterable[str]) -> list[int]:
    """The messages of every recording that has one of these numbers, oldest first."""
    wanted = sorted(set(values))
    if not wanted:
        return []
    return list(conn.execute(_RECORDINGS_WITH, {"wanted": wanted}).scalars())


def draft_of(conn: sa.Connection, order_id: int) -> Any | None:
    """The newest draft task row of an order."""
    return conn.execute(_DRAFT, {"own_order": order_id}).first()
