"""What is asked all the time is found by an index on every engine, however much is kept."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa

from bridge.store import alarm_facts, book, gauges, line, listing, recent, search, worklist
from bridge.store.postgres_engine import writer_engine
from bridge.store.prepared import Prepared
from bridge.store.search import Filters, find
from bridge.store.sqlite import reader_engine as sqlite_reader
from tests.postgres_server import Server

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_EVERY_ROW = re.compile(
    r"SCAN (message|term|task|number|event|clinical_order)\b(?! USING (COVERING )?INDEX ix_task_in_doubt)"
    r"|Seq Scan on (message|term|task|number|event|clinical_order)\b"
)


MANY = 20_000


@pytest.fixture(scope="module")
def large(postgres: Server) -> Iterator[sa.Engine]:
    """PostgreSQL picks its way by what the tables hold: here what a hospital leaves, and a little that is open."""
    engine = writer_engine(postgres.database("plans"))
    with engine.begin() as conn:
        for statement in _ROWS.strip().split(";\n"):
            conn.exec_driver_sql(statement.replace("MANY", str(MANY)).replace("%", "%%"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("VACUUM ANALYZE")
    yield engine
    engine.dispose()
    postgres.drop("plans")


_ROWS = """
INSERT INTO message (id, kind, type, state, reason, received_at, listener, peer, sender, control_id, sop_instance_uid,
    identity, digest, size, order_key, order_number, answer_code, attempts, destination)
SELECT n, CASE WHEN n % 3 = 0 THEN 'dicom' ELSE 'hl7' END, 'ORM^O01',
    CASE WHEN n % 1000 = 0 THEN 'READY' WHEN n % 999 = 0 THEN 'HELD' WHEN n % 998 = 0 THEN 'RECEIVED'
        WHEN n % 3 = 0 THEN 'CREATED' ELSE 'DONE' END,
    '', n * 1000, 'hl7', '10.0.0.1', 'HIS|' || n % 9, 'C' || n, CASE WHEN n % 3 = 0 THEN '2.25.' || n ELSE '' END,
    'id' || n, 'd' || n, 600, 'P' || n % 5000, '', 'AA', 1, 'cardio' FROM generate_series(1, MANY) n;
INSERT INTO event (message_id, at, actor, state, reason, detail)
SELECT n, n * 1000, 'bridge', 'DONE', '', '' FROM generate_series(1, MANY) n;
INSERT INTO term (message_id, value, kind)
SELECT n, w, k FROM generate_series(1, MANY) n, LATERAL (VALUES ('p' || n % 5000, 'p'), ('c' || n, 'c'),
    ('his|' || n % 9, 's'), ('name' || n % 700, 'n')) AS words (w, k);
INSERT INTO clinical_order (id, number, authority, message_id, position, patient_value, patient_authority, mapped,
    digest, changed_digest, standing, ordered, visit, plan, due_at)
SELECT n, 'PL-' || n, 'HIS', n, 1, 'P' || n % 5000, '', '{}', 'd', '', 'active', true, '', '', n * 1000
FROM generate_series(1, MANY) n;
INSERT INTO number (role, message_id, position, value, kind, authority)
SELECT 'order', n, 1, 'PL-' || n, 'placer', 'HIS' FROM generate_series(1, MANY) n;
INSERT INTO task (message_id, order_id, position, purpose, key, generation, state, reason, body, sent, traces,
    intent_at, settled_at, task_ids, api_text, watched)
SELECT n, n, 1, 'recording', 'br1-' || n, 1, CASE WHEN n % 2000 = 0 THEN 'IN_DOUBT' ELSE 'CREATED' END, '', '{}', true,
    '[]', n * 1000, n * 1000, n::text, '', '' FROM generate_series(1, MANY) n
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def conn(request: pytest.FixtureRequest) -> Iterator[sa.Connection]:
    """A connection to a store of each engine in turn."""
    if request.param == "sqlite":
        engine = sqlite_reader(request.getfixturevalue("sqlite_store").path)
    else:
        engine = request.getfixturevalue("large")
    with engine.connect() as made:
        yield made
    if request.param == "sqlite":
        engine.dispose()


def _explain(cursor: Any, dialect: str, statement: str, values: Any) -> str:
    """How the engine would go about it."""
    if dialect == "sqlite":
        return "\n".join(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall())
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
def test_nothing_is_found_by_looking_at_every_message(
    conn: sa.Connection, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    for name, value in (("FEW", few), ("FAR", 10), ("STEP", 1), ("MOST", 4), ("WORDS", few)):
        monkeypatch.setattr(search, name, value)
    for number, work in enumerate(_READ):
        plan = plan_of(conn, work)
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
def test_what_alarms_ask_costs_what_is_open_and_not_what_was_received(
    conn: sa.Connection, asked: Callable[[sa.Connection], Any], by: str
) -> None:
    plan = plan_of(conn, asked)
    assert _EVERY_ROW.search(plan) is None, plan
    assert by in plan, plan


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
def test_the_line_of_work_and_the_order_book_are_found_by_index(
    conn: sa.Connection, asked: Prepared, indexes: set[str]
) -> None:
    plan = _planned(conn, asked, None)
    assert _EVERY_ROW.search(plan) is None, plan
    if conn.dialect.name == "sqlite":  # PostgreSQL has several good ways
        assert {index for index in indexes if index in plan} == indexes, plan
