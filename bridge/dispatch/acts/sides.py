"""Both sides of held work, for a person: what the recording says, what each order says, where they differ.

Candidates are ranked by how much agrees; the time between them is shown, and never counts. Reads only.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from bridge.domain.patient import Demographics, Identifier, folded
from bridge.domain.task import Mapped
from bridge.mapping.matching import compare
from bridge.mapping.patients import demographics
from bridge.store import book, patients
from bridge.store.candidates import Candidate, candidates
from bridge.store.candidates import attached as attached_order
from bridge.store.port import Connection
from bridge.store.schema import moment


@dataclass(frozen=True, slots=True)
class Side:
    """What one side says of whose it is. `identifier` is the one that counts now, `said` the one that was sent."""

    numbers: tuple[str, ...]
    identifier: str
    authority: str
    said: str
    last_name: str
    first_name: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A candidate beside the recording."""

    order_id: int
    message_id: int
    standing: str
    by_number: bool
    recorded: bool
    side: Side
    agree: tuple[str, ...]
    contradict: tuple[str, ...]
    likeness: float  # of the names, 0 to 1; ranks among what agrees equally
    hours_apart: float | None  # from the order's arrival to the recording's start; negative: it came after it


@dataclass(frozen=True, slots=True)
class Sides:
    """A recording, its candidates with the likeliest first, and what the patient record says."""

    recording: Side
    candidates: tuple[Compared, ...]
    record: Side | None
    record_agrees: tuple[str, ...] = ()
    record_contradicts: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON values; ids are strings."""
        document = asdict(self)
        for one in document["candidates"]:
            one["order_id"], one["message_id"] = str(one["order_id"]), str(one["message_id"])
        return document


def sides(
    conn: Connection, understood: str | None, *, site_authority: str, attached: Iterable[int] = ()
) -> Sides | None:
    """Both sides of a recording, by what was understood of it; None where that is no recording.

    `attached` are orders that it has already: shown beside it wherever they stand, though none could be chosen now.
    """
    document = (json.loads(understood) if understood else {}).get("recording")
    if not document:
        return None
    recording = book.mapped_from_json(document)
    said = _identifier(recording)
    now = patients.canonical(conn, said, site_authority=site_authority)
    known = demographics(recording)
    same = patients.retired_into(conn, now, site_authority=site_authority) if now.value else []
    numbers = [n.value for n in recording.numbers]
    found = candidates(conn, numbers, (i.value for i in same))
    theirs = set(attached) - {one.order.id for one in found}
    found += [one for order_id in sorted(theirs) if (one := attached_order(conn, order_id, numbers)) is not None]
    compared = [_compared(conn, one, recording, now, site_authority) for one in found]
    mine = [c for c in compared if c.by_number or "patient_id" in c.agree or c.order_id in theirs]
    record = patients.find_patient(conn, now, site_authority=site_authority) if now.value else None
    told = compare(known, record) if record is not None else None
    return Sides(
        recording=_side(recording, now, said, known),
        candidates=tuple(sorted(mine, key=_rank)),
        record=_side(Mapped({}), now, now, record) if record is not None else None,
        record_agrees=told.agree if told is not None else (),
        record_contradicts=told.contradict if told is not None else (),
    )


def _identifier(mapped: Mapped) -> Identifier:
    return Identifier(str(mapped.fields.get("patient_id", "")), mapped.patient_authority)


def _side(mapped: Mapped, now: Identifier, said: Identifier, known: Demographics) -> Side:
    numbers = tuple(dict.fromkeys(n.value for n in mapped.numbers))
    return Side(
        numbers,
        now.value,
        now.authority,
        said.value,
        known.last_name,
        known.first_name,
        known.birth_date,
        known.gender,
    )


def _compared(conn: Connection, one: Candidate, recording: Mapped, now: Identifier, site_authority: str) -> Compared:
    order = one.order
    theirs = patients.canonical(conn, order.patient, site_authority=site_authority)
    mine, known = demographics(recording), demographics(order.mapped)
    told = compare(mine, known)
    same = now.agrees(theirs, site_authority=site_authority)
    start = recording.fields.get("recording_start_time")
    apart = (datetime.fromisoformat(start) - moment(one.received_at)).total_seconds() / 3600 if start else None
    return Compared(
        order_id=order.id,
        message_id=order.message_id,
        standing=order.standing.value,
        by_number=one.by_number,
        recorded=one.recorded,
        side=_side(order.mapped, theirs, order.patient, known),
        agree=(*(("order_number",) if one.by_number else ()), *(("patient_id",) if same else ()), *told.agree),
        contradict=(*(() if same else ("patient_id",)), *told.contradict),
        likeness=round(_likeness(mine, known), 2),
        hours_apart=round(apart, 1) if apart is not None else None,
    )


def _likeness(a: Demographics, b: Demographics) -> float:
    """How alike two names are written, in whatever order their parts stand."""
    mine, theirs = (" ".join(sorted(folded(f"{d.last_name} {d.first_name}").split())) for d in (a, b))
    return difflib.SequenceMatcher(None, mine, theirs).ratio() if mine and theirs else 0.0


def _rank(one: Compared) -> tuple[int, int, float, int]:
    return (len(one.contradict) - len(one.agree), len(one.contradict), -one.likeness, one.order_id)
