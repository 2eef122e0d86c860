"""The patient record, and which identifiers became which (hl7.md §4.2).

A merge is a row of `alias` that is followed when something is looked up; nothing is rewritten, so it can be undone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bridge.domain.patient import Demographics, Identifier, PatientUpdate
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import alias, millis, patient

LONGEST_CHAIN = 32

_RECORDS = Prepared(sa.select(patient).where(patient.c.value == sa.bindparam("own_value")))
_SET = Prepared(patient.update().where(patient.c.id == sa.bindparam("own_id")))
_ADD = Prepared(patient.insert())
_RETIRED = Prepared(
    sa.select(alias).where(alias.c.retired_value == sa.bindparam("own_value"), alias.c.undone_at.is_(None))
)
_ADD_ALIAS = Prepared(alias.insert())
_UNKNOWN = {f.name: "" for f in fields(Demographics)}


@dataclass(frozen=True, slots=True)
class Alias:
    """A retired identifier and what it became."""

    id: int
    retired: Identifier
    survivor: Identifier


def aliases_of(conn: sa.Connection, identifier: Identifier, *, site_authority: str) -> list[Alias]:
    """The merges in force by which this identifier is retired."""
    rows = _RETIRED.run(conn, {"own_value": identifier.value}).all()
    found = [
        Alias(
            r.id,
            Identifier(r.retired_value, r.retired_authority),
            Identifier(r.survivor_value, r.survivor_authority),
        )
        for r in rows
    ]
    return [a for a in found if a.retired.agrees(identifier, site_authority=site_authority)]


def canonical(conn: sa.Connection, identifier: Identifier, *, site_authority: str) -> Identifier:
    """The identifier that counts now: merges followed, a cycle never, and nothing where two could be meant (F34)."""
    seen = [identifier]
    for _ in range(LONGEST_CHAIN):
        onward = {a.survivor for a in aliases_of(conn, seen[-1], site_authority=site_authority)}
        if len(onward) != 1:
            break
        (after,) = onward
        if any(after.agrees(earlier, site_authority=site_authority) for earlier in seen):
            break
        seen.append(after)
    return seen[-1]


def _record(conn: sa.Connection, identifier: Identifier, *, site_authority: str) -> tuple[Any | None, bool]:
    """The row of this identifier, and whether more than one could be meant. The exact authority goes before an
    absent one.
    """
    rows = _RECORDS.run(conn, {"own_value": identifier.value}).all()
    exact = [r for r in rows if r.authority == identifier.authority]
    own = [r for r in rows if Identifier(r.value, r.authority).agrees(identifier, site_authority=site_authority)]
    if exact and identifier.authority:
        return exact[0], False
    return (own[0] if len(own) == 1 else None), len(own) > 1


def find_patient(conn: sa.Connection, identifier: Identifier, *, site_authority: str) -> Demographics | None:
    """The record of this very identifier; None where there is none, or where more than one could be meant."""
    row, _ = _record(conn, identifier, site_authority=site_authority)
    return Demographics(**{name: getattr(row, name) for name in _UNKNOWN}) if row is not None else None


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a patient, the visit, and the message that said it last."""

    known: Demographics
    visit: dict[str, str]
    message_id: int


def record_of(conn: sa.Connection, identifier: Identifier, *, site_authority: str) -> Record | None:
    """As `find_patient`, with what else the record holds."""
    row, _ = _record(conn, identifier, site_authority=site_authority)
    if row is None:
        return None
    known = Demographics(**{name: getattr(row, name) for name in _UNKNOWN})
    return Record(known, json.loads(row.visit) if row.visit else {}, row.message_id)


def is_known(conn: sa.Connection, identifier: Identifier, *, site_authority: str) -> bool:
    """Whether any record has this identifier."""
    row, several = _record(conn, identifier, site_authority=site_authority)
    return row is not None or several


def update_patient(tx: Transaction, update: PatientUpdate, message_id: int, *, site_authority: str) -> list[str]:
    """Bring the record to what an ADT says: a value is set, null clears it, silence keeps it.

    Returns the names of the fields that had another value before.
    """
    said = {key: value or "" for key, value in update.said.items()}
    identifier = update.identifier
    row = _exact(tx.conn, identifier) or _record(tx.conn, identifier, site_authority=site_authority)[0]
    if row is None:
        own = {"value": identifier.value, "authority": identifier.authority, "message_id": message_id}
        _ADD.run(tx.conn, {**_UNKNOWN, **own, **said, "inactive": False, "visit": _visit_text({}, update.visit)})
        return []
    visit = _visit_text(json.loads(row.visit) if row.visit else {}, update.visit)
    values = {**said, "message_id": message_id, "inactive": False, "visit": visit}
    _SET.run(tx.conn, {"own_id": row.id, **values})
    return [key for key, value in said.items() if getattr(row, key) and getattr(row, key) != value]


def _exact(conn: sa.Connection, identifier: Identifier) -> Any | None:
    rows = _RECORDS.run(conn, {"own_value": identifier.value}).all()
    return next((r for r in rows if r.authority == identifier.authority), None)


def _visit_text(before: Mapping[str, str], said: Mapping[str, str | None]) -> str:
    after = {k: v for k, v in {**before, **said}.items() if v}
    return json.dumps(after, ensure_ascii=False) if after else ""


def fill_patient(
    tx: Transaction, identifier: Identifier, known: Demographics, message_id: int, *, site_authority: str
) -> None:
    """Open a record from an order where there is none, or fill its gaps: ADT is the authority, an order is not."""
    row, several = _record(tx.conn, identifier, site_authority=site_authority)
    if several:
        return
    if row is None:
        own = {"value": identifier.value, "authority": identifier.authority, "message_id": message_id}
        _ADD.run(tx.conn, {**own, **known.as_json(), "inactive": False, "visit": ""})
        return
    gaps = {key: value for key, value in known.as_json().items() if value and not getattr(row, key)}
    if gaps:
        _SET.run(tx.conn, {"own_id": row.id, **gaps})


def mark_inactive(tx: Transaction, identifier: Identifier, message_id: int, *, site_authority: str) -> bool:
    """A person or visit that its sender deleted: kept, and marked. False where it is not known."""
    row, _ = _record(tx.conn, identifier, site_authority=site_authority)
    if row is None:
        return False
    _SET.run(tx.conn, {"own_id": row.id, "inactive": True, "message_id": message_id})
    return True


def retire(tx: Transaction, retired: Identifier, survivor: Identifier, message_id: int, *, at: datetime) -> None:
    """From now on the one identifier stands for the other."""
    _ADD_ALIAS.run(
        tx.conn,
        {
            "retired_value": retired.value,
            "retired_authority": retired.authority,
            "survivor_value": survivor.value,
            "survivor_authority": survivor.authority,
            "message_id": message_id,
            "at": millis(at),
        },
    )


def undo(tx: Transaction, alias_id: int, *, at: datetime) -> None:
    """A merge counts no longer; its row stays, with the time."""
    tx.conn.execute(
        alias.update().where(alias.c.id == alias_id, alias.c.undone_at.is_(None)).values(undone_at=millis(at))
    )


def retired_into(conn: sa.Connection, survivor: Identifier, *, site_authority: str) -> list[Identifier]:
    """Every identifier that became this one, through chains, with the identifier itself first."""
    found = [survivor]
    for one in found:
        rows = conn.execute(
            sa.select(alias).where(alias.c.survivor_value == one.value, alias.c.undone_at.is_(None))
        ).all()
        for r in rows:
            retired = Identifier(r.retired_value, r.retired_authority)
            into = Identifier(r.survivor_value, r.survivor_authority)
            if into.agrees(one, site_authority=site_authority) and retired not in found:
                found.append(retired)
    return found


def move_record(tx: Transaction, old: Identifier, new: Identifier, *, site_authority: str) -> None:
    """The record goes over to a new identifier that nobody has yet (A46, A47)."""
    row, _ = _record(tx.conn, old, site_authority=site_authority)
    if row is not None:
        _SET.run(tx.conn, {"own_id": row.id, "value": new.value, "authority": new.authority})


def rename_visit(tx: Transaction, identifier: Identifier, old: str, new: str, *, site_authority: str) -> None:
    """The visit has another number from now on (A42, A50, A51)."""
    row, _ = _record(tx.conn, identifier, site_authority=site_authority)
    visit = json.loads(row.visit) if row is not None and row.visit else {}
    if row is not None and visit.get("number") == old:
        _SET.run(tx.conn, {"own_id": row.id, "visit": _visit_text(visit, {"number": new})})
