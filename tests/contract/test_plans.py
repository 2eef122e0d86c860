"""What is asked all the time is found by an index on every engine, however much is kept."""

import re
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa

from bridge.store import alarm_facts, book, gauges, line, listing, recent, search, worklist
from bridge.store.grouped import GroupedStore
from bridge.store.prepared import Prepared
from bridge.store.search import Filters, find

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_EVERY_ROW = re.compile(
    r"SCAN (message|term|task|number|event|clinical_order)\b(?! USING (COVERING )?INDEX ix_task_in_doubt)"
    r"|Seq Scan on (message|term|task|number|event|clinical_order)\b"
)


def _explain(cursor: Any, dialect: str, statement: str, values: Any) -> str:
    """How the engine would go about it. On PostgreSQL with another way than to read every row, where there is one."""
    if dialect == "sqlite":
        return "\n".join(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall())
    cursor.execute("SET LOCAL enable_seqscan = off")
    return "\n".join(row[0] for row in cursor.execute(f"EXPLAIN {statement}", values).fetchall())


def _planned(conn: sa.Connection, asked: Prepared, given: Mapping[str, Any] | None) -> str:
    """The plan of a statement that goes to the driver by itself, its values made up where none are given."""
    compiled = asked.statement.compile(dialect=conn.dialect, compile_kwargs={"render_postcompile": True})
    values = {
        name: compiled.params[name] if compiled.params[name] is not None else 1 if _is_number(bind) else "x"
        for name, bind in compiled.binds.items()
        if name in compiled.params
    }
    values |= {name: value for name, value in compiled.params.items() if name not in values}  # out of a list
    values |= {name: value for name, value in (given or {}).items() if name in values}
    ordered = values if compiled.positiontup is None else tuple(values[name] for name in compiled.positiontup)
    return _explain(conn.connection.cursor(), conn.dialect.name, str(compiled), ordered)


_NUMBERS = {"most", "now", "far", "far_order", "upto", "before_due", "before_id"}


def _is_number(bind: sa.BindParameter[Any]) -> bool:
    return isinstance(bind.type, (sa.Integer, sa.BigInteger)) or bind.key in _NUMBERS


def plan_of(conn: sa.Connection, work: Callable[[sa.Connection], Any]) -> str:
    """The plans of whatever a reading function asks."""
    told: list[str] = []

    def explained(_: Any, cursor: Any, statement: str, values: Any, *__: Any) -> None:
        if statement.startswith("SELECT"):
            told.append(_explain(cursor, conn.dialect.name, statement, values))

    def running(asked: Prepared, conn: sa.Connection, given: Mapping[str, Any] | None = None) -> Any:
        told.append(_planned(conn, asked, given))
        return run(asked, conn, given)

    run = Prepared.run
    sa.event.listen(conn, "before_cursor_execute", explained)
    with mock.patch.object(Prepared, "run", running):
        work(conn)
    sa.event.remove(conn, "before_cursor_execute", explained)
    assert told
    return "\n".join(told)


@pytest.mark.parametrize("few", [0, 1000])
async def test_nothing_is_found_by_looking_at_every_message(
    store: GroupedStore, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    for name, value in (("FEW", few), ("FAR", 10), ("STEP", 1), ("MOST", 4), ("WORDS", few)):
        monkeypatch.setattr(search, name, value)
    for number, work in enumerate(_READ):
        plan = await store.read(lambda conn, w=work: plan_of(conn, w))  # type: ignore[misc]
        assert _EVERY_ROW.search(plan) is None, (number, plan)


_READ: list[Callable[[sa.Connection], Any]] = [
    lambda conn: find(conn, ""),
    lambda conn: find(conn, "a b"),
    lambda conn: find(conn, "é 1", Filters(states=["HELD"], kinds=["hl7"])),
    lambda conn: find(conn, "", Filters(states=["HELD", "READY"])),
    lambda conn: find(conn, "", Filters(sender="a", since=NOW, until=NOW)),
    lambda conn: listing.rows(conn, task_id="1"),
    lambda conn: listing.rows(conn, order="1"),
    lambda conn: listing.rows(conn, control_id="1"),
    lambda conn: listing.rows(conn, states=["HELD"]),
    listing.counts,
    lambda conn: search.named(conn, "1"),
    lambda conn: search.may_name_a_patient(conn, "a"),
    lambda conn: recent.recent(conn, NOW),
    alarm_facts.queued,
]


@pytest.mark.parametrize(
    ("asked", "by"),
    [
        (gauges.queue, "ix_message_"),
        (gauges.oldest_ready, "ix_message_"),
        (gauges.doubts, "ix_task_in_doubt"),
        (lambda conn: alarm_facts.waiting(conn, since=NOW), "ix_message_"),
        (alarm_facts.held, "ix_message_settled"),
    ],
    ids=["queue", "oldest ready", "doubts", "waiting", "held"],
)
async def test_what_alarms_ask_costs_what_is_open_and_not_what_was_received(
    store: GroupedStore, asked: Callable[[sa.Connection], Any], by: str
) -> None:
    plan = await store.read(lambda conn: plan_of(conn, asked))
    assert _EVERY_ROW.search(plan) is None, plan
    assert by in plan


@pytest.mark.parametrize(
    ("asked", "indexes"),
    [
        (line._NEXT_RECEIVED, {"ix_message_open"}),
        (line._LEFT_OVER, {"ix_message_open"}),
        (line._UNREAD, {"ix_message_open"}),
        (line._CLAIM, {"ix_message_open", "ix_message_line", "ix_barrier_order_key"}),
        (line._CLAIM_OF, {"ix_message_destination", "ix_message_line"}),
        (line._NEXT_DUE, {"ix_message_destination"}),
        (line._WAITS, {"ix_message_destination"}),
        (worklist.NEWEST, {"ix_clinical_order_due", "ix_task_order_id"}),
        (worklist.NUMBERED, {"ix_number_value", "ix_clinical_order_message_id", "ix_task_order_id"}),
        (worklist.of_patients(2), {"ix_clinical_order_patient_value", "ix_task_order_id"}),
        (book._orders_with(2), {"ix_number_value", "ix_clinical_order_message_id"}),
    ],
    ids=[
        "next received", "left over", "unread", "claim", "claim of", "next due", "waits", "worklist", "numbered",
        "of patients", "of a recording",
    ],
)  # fmt: skip
async def test_the_line_of_work_and_the_order_book_are_found_by_index(
    store: GroupedStore, asked: Prepared, indexes: set[str]
) -> None:
    plan = await store.write(lambda tx: _planned(tx.conn, asked, None))
    assert _EVERY_ROW.search(plan) is None, plan
    if store.driver_error is sqlite3.Error:  # PostgreSQL picks by what the tables hold, and they hold nothing here
        assert {index for index in indexes if index in plan} == indexes, plan
