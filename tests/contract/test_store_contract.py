"""What every engine of the store promises."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from bridge.domain.patient import Identifier, PatientUpdate
from bridge.domain.states import State
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.errors import StoreConflict, StoreError, StoreRefused
from bridge.store import book, inbox, line, listing, migrate, patients, sqlite, tasks
from bridge.store.port import Notice
from bridge.store.schema import event, mark, message, metadata
from bridge.store.sqlite import SqliteStore, reader_engine, writer_engine

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def arrival(identity: str | None, *, control_id: str = "C1", raw: bytes = b"MSH|x") -> inbox.Arrival:
    return inbox.Arrival(
        kind="hl7",
        type="ORM^O01",
        received_at=NOW,
        listener="hl7",
        peer="127.0.0.1",
        sender="HIS|TEST",
        identity=identity,
        digest="d",
        control_id=control_id,
        raw=raw,
    )


async def ready(store: SqliteStore, identity: str, patient: str | None, *, kind: str = "hl7") -> int:
    """A message that is understood and waits for its task."""

    def work(tx: Any) -> int:
        kept = inbox.keep(tx, replace(arrival(identity), kind=kind))
        inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW, order_key=patient)
        return kept.id

    return await store.write(work)


async def test_f30_the_same_arrival_is_one_row_with_its_answer(store: SqliteStore) -> None:
    first = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    await store.write(lambda tx: inbox.answer_once(tx, first.id, b"ANSWER", "AA"))
    again = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    assert (again.id, again.known, again.answer) == (first.id, True, b"ANSWER")
    assert not first.known


async def test_arrivals_without_identity_are_never_the_same(store: SqliteStore) -> None:
    first = await store.write(lambda tx: inbox.keep(tx, arrival(None)))
    second = await store.write(lambda tx: inbox.keep(tx, arrival(None)))
    assert first.id != second.id
    assert not second.known


async def test_f9_eight_threads_with_the_same_bytes_make_one_row(store: SqliteStore) -> None:
    def send() -> int:
        return store.write_from_thread(lambda tx: inbox.keep(tx, arrival("same"))).id

    with ThreadPoolExecutor(8) as pool:
        ids = await asyncio.gather(*(asyncio.get_running_loop().run_in_executor(pool, send) for _ in range(64)))
    assert len(set(ids)) == 1
    count = await store.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(message)).scalar())
    assert count == 1


async def test_an_answer_is_stored_once(store: SqliteStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    first = await store.write(lambda tx: inbox.answer_once(tx, kept.id, b"first", "AA"))
    second = await store.write(lambda tx: inbox.answer_once(tx, kept.id, b"second", "AE"))
    assert (first, second) == (b"first", b"first")


async def test_what_fails_leaves_its_neighbours_of_the_same_commit(store: SqliteStore) -> None:
    def broken(tx: Any) -> None:
        inbox.keep(tx, arrival("broken"))
        raise RuntimeError("on purpose")

    results = await asyncio.gather(
        *(
            store.write(broken if n == 5 else lambda tx, n=n: inbox.keep(tx, arrival(f"n{n}")))  # type: ignore[misc]
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert [isinstance(r, RuntimeError) for r in results] == [n == 5 for n in range(10)]
    rows = await store.read(lambda conn: conn.execute(sa.select(message.c.identity)).scalars().all())
    assert sorted(rows) == sorted(f"n{n}" for n in range(10) if n != 5)


async def test_notices_go_out_after_the_commit_and_not_for_what_failed(store: SqliteStore) -> None:
    heard: list[Notice] = []
    store.subscribe(heard.extend)

    def failing(tx: Any) -> None:
        inbox.keep(tx, arrival("x"))
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        await store.write(failing)
    assert heard == []
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("y")))
    assert [(n.topic, n.message_id) for n in heard] == [("received", kept.id)]


async def test_every_move_has_its_event_and_a_forbidden_one_is_refused(store: SqliteStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    assert await store.write(lambda tx: inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW))
    assert not await store.write(lambda tx: inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW))
    with pytest.raises(ValueError, match="no move"):
        await store.write(lambda tx: inbox.move(tx, kept.id, State.CREATED, State.READY, at=NOW))
    states = await store.read(
        lambda conn: conn.execute(sa.select(event.c.state).where(event.c.message_id == kept.id)).scalars().all()
    )
    assert states == ["RECEIVED", "READY"]


async def test_claims_are_in_order_within_a_patient_and_side_by_side_between_patients(store: SqliteStore) -> None:
    a1 = await ready(store, "a1", "A")
    a2 = await ready(store, "a2", "A")
    b1 = await ready(store, "b1", "B")
    free = await ready(store, "free", None)
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    assert [c.id for c in claimed] == [a1, b1, free]
    assert await store.write(lambda tx: line.claim(tx, "other", 10, at=NOW)) == []
    await store.write(lambda tx: inbox.move(tx, a1, State.READY, State.HELD, at=NOW, reason="no_order"))
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    assert [c.id for c in claimed] == [a2]


async def test_a_message_that_waits_its_time_is_not_claimed_and_holds_its_patient_up(store: SqliteStore) -> None:
    first = await ready(store, "a1", "A")
    second = await ready(store, "a2", "A")
    await store.write(lambda tx: line.claim(tx, "me", 1, at=NOW))
    later = round((NOW + timedelta(seconds=60)).timestamp() * 1000)
    await store.write(
        lambda tx: inbox.move(
            tx, first, State.READY, State.RETRY, at=NOW, reason="rate_limited", next_at=later, owner=None
        )
    )
    assert await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW)) == []
    due = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW + timedelta(seconds=61)))
    assert [c.id for c in due] == [first]
    assert second not in {c.id for c in due}


async def test_a_recording_that_waits_for_its_order_holds_nobody_up(store: SqliteStore) -> None:
    first = await ready(store, "a1", "A")
    second = await ready(store, "a2", "A")
    later = round((NOW + timedelta(seconds=60)).timestamp() * 1000)
    await store.write(
        lambda tx: inbox.move(
            tx, first, State.READY, State.RETRY, at=NOW, reason=line.AWAITING_ORDER, next_at=later, owner=None
        )
    )
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    assert [c.id for c in claimed] == [second]
    await store.write(lambda tx: line.wake_waiting(tx, [first], at=NOW))
    await store.write(lambda tx: inbox.move(tx, second, State.READY, State.HELD, at=NOW))
    assert [c.id for c in await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))] == [first]


async def test_f28_the_attempt_is_counted_before_the_message_is_read(store: SqliteStore) -> None:
    await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    first = await store.write(lambda tx: line.next_received(tx, 10))
    second = await store.write(lambda tx: line.next_received(tx, 10))
    assert [first[0].attempts, second[0].attempts] == [1, 2]


async def _intend(store: SqliteStore, message_id: int, key: str, generation: int = 1) -> int:
    return await store.write(
        lambda tx: tasks.intend(
            tx,
            message_id=message_id,
            position=1,
            order_id=None,
            purpose="draft",
            key=key,
            generation=generation,
            body=b"{}",
            traces=(),
            at=NOW,
        )
    )


async def test_at_most_one_task_a_key_and_generation(store: SqliteStore) -> None:
    first = await ready(store, "a", "A")
    second = await ready(store, "b", "A")
    await _intend(store, first, "br1-k")
    with pytest.raises(StoreConflict):
        await _intend(store, second, "br1-k")
    assert await _intend(store, second, "br1-k", generation=2)


async def test_f11_an_intent_without_outcome_is_in_doubt_after_a_start(store: SqliteStore) -> None:
    posted = await ready(store, "a", "A")
    uploading = await ready(store, "b", "B")
    untouched = await ready(store, "c", "C")
    await store.write(lambda tx: line.claim(tx, "dead", 10, at=NOW))
    await _intend(store, posted, "br1-k")
    await store.write(lambda tx: inbox.move(tx, posted, State.READY, State.INTENT, at=NOW))
    await store.write(lambda tx: inbox.move(tx, uploading, State.READY, State.UPLOADING, at=NOW))
    found = await store.write(lambda tx: line.recover(tx, at=NOW))
    assert found == {"in_doubt": 1, "resumed": 1}
    claimed = await store.write(lambda tx: line.claim(tx, "new", 10, at=NOW))
    # A message of orders goes on: its order in doubt is never sent again, those behind it are.
    assert [c.id for c in claimed] == [posted, uploading, untouched]
    shown = await store.read(lambda conn: listing.whole(conn, posted))
    assert shown is not None
    assert (shown["reason"], shown["tasks"][0]["state"]) == ("interrupted", "IN_DOUBT")


async def test_f11_a_recording_whose_post_was_interrupted_is_in_doubt_itself(store: SqliteStore) -> None:
    posted = await ready(store, "a", "A", kind="dicom")
    await _intend(store, posted, "br1-k")
    await store.write(lambda tx: inbox.move(tx, posted, State.READY, State.INTENT, at=NOW))
    await store.write(lambda tx: line.recover(tx, at=NOW))
    assert await store.write(lambda tx: line.claim(tx, "new", 10, at=NOW)) == []
    shown = await store.read(lambda conn: listing.whole(conn, posted))
    assert shown is not None
    assert (shown["state"], shown["tasks"][0]["state"]) == ("IN_DOUBT", "IN_DOUBT")


async def test_hl7_v2_2_5_3_null_clears_and_silence_keeps(store: SqliteStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    who = Identifier("4711", "TEST")
    first = PatientUpdate(who, {"last_name": "Muster", "first_name": "Erika", "birth_date": "1970-01-31"})
    await store.write(lambda tx: patients.update_patient(tx, first, kept.id, site_authority=""))
    await store.write(
        lambda tx: patients.update_patient(tx, PatientUpdate(who, {"first_name": None}), kept.id, site_authority="")
    )
    found = await store.read(lambda conn: patients.find_patient(conn, who, site_authority=""))
    assert found is not None
    assert (found.last_name, found.first_name, found.birth_date) == ("Muster", "", "1970-01-31")


async def test_a_patient_that_two_authorities_know_is_not_guessed(store: SqliteStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    for authority in ("NORTH", "SOUTH"):
        update = PatientUpdate(Identifier("1", authority), {"last_name": authority})
        await store.write(lambda tx, u=update: patients.update_patient(tx, u, kept.id, site_authority=""))  # type: ignore[misc]
    find = patients.find_patient
    assert await store.read(lambda conn: find(conn, Identifier("1"), site_authority="")) is None
    south = await store.read(lambda conn: find(conn, Identifier("1"), site_authority="SOUTH"))
    assert south is not None
    assert south.last_name == "SOUTH"


async def test_f32_the_first_entry_of_an_order_number_stands(store: SqliteStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    own = OrderNumber("PL-1", NumberKind.PLACER, "HIS")
    mapped = Mapped({"patient_id": "1"}, numbers=(own, OrderNumber("ACC-1", NumberKind.ACCESSION)))
    for digest in ("first", "second"):
        await store.write(
            lambda tx, d=digest: book.book_order(  # type: ignore[misc]
                tx,
                message_id=kept.id,
                position=1,
                own_number=own,
                patient_id=Identifier("1"),
                mapped=mapped,
                digest=d,
            )
        )
    found = await store.read(lambda conn: book.orders_with(conn, ["ACC-1"]))
    assert [(o.digest, o.mapped) for o in found] == [("first", mapped)]


async def test_f40_a_second_service_on_one_store_is_refused(store: SqliteStore) -> None:
    with pytest.raises(StoreRefused, match="held by another running bridge"):
        SqliteStore(store.path).open(asyncio.get_running_loop())


async def test_f27_a_newer_schema_is_refused(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "bridge.db")
    first.open(asyncio.get_running_loop())
    first.close()
    engine = writer_engine(tmp_path / "bridge.db")
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreRefused, match="newer than this bridge"):
        SqliteStore(tmp_path / "bridge.db").open(asyncio.get_running_loop())


async def test_f27_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bridge.db").write_bytes(b"not a database, on purpose" * 100)
    with pytest.raises(StoreRefused, match="cannot be used as a store"):
        SqliteStore(tmp_path / "bridge.db").open(asyncio.get_running_loop())


@pytest.fixture
async def migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    """A new store that has walked the migrations itself, as a service's does."""
    monkeypatch.setattr(sqlite, "upgrade", migrate.upgrade)
    opened = SqliteStore(tmp_path / "migrated.db")
    opened.open(asyncio.get_running_loop())
    yield opened
    opened.close()


async def test_the_migrations_make_exactly_the_schema(migrated: SqliteStore) -> None:
    def differences(conn: sa.Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(conn), metadata))

    assert await migrated.read(differences) == []


async def test_the_copy_that_tests_start_from_is_what_the_migrations_make(
    store: SqliteStore, migrated: SqliteStore
) -> None:
    def made(conn: sa.Connection) -> list[tuple[str, str, str]]:
        found = conn.exec_driver_sql("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").all()
        settings = [
            conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "page_size", "auto_vacuum", "encoding", "user_version")
        ]
        return [tuple(row) for row in (*found, settings, *conn.exec_driver_sql("SELECT * FROM alembic_version").all())]

    assert await store.read(made) == await migrated.read(made)


async def test_a_reader_works_beside_the_service_and_after_it(store: SqliteStore) -> None:
    await store.write(lambda tx: inbox.keep(tx, arrival("a")))

    def count() -> int:
        engine = reader_engine(store.path)
        with engine.connect() as conn:
            rows = listing.rows(conn)
        engine.dispose()
        return len(rows)

    assert await asyncio.to_thread(count) == 1
    store.close()
    assert await asyncio.to_thread(count) == 1


async def test_readers_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="OperationalError"):
        await store.read(lambda conn: conn.execute(message.delete()))


async def test_synchronous_is_full_and_the_journal_is_wal(store: SqliteStore) -> None:
    def pragmas(tx: Any) -> tuple[Any, Any]:
        conn = tx.conn
        return conn.exec_driver_sql("PRAGMA synchronous").scalar(), conn.exec_driver_sql("PRAGMA journal_mode").scalar()

    assert await store.write(pragmas) == (2, "wal")


@pytest.mark.parametrize(
    ("statement", "by"),
    [
        *((one.statement, "ix_message_open") for one in (line._NEXT_RECEIVED, line._CLAIM)),
        *((one.statement, "ix_message_destination") for one in (line._CLAIM_OF, line._NEXT_DUE, line._WAITS)),
    ],
)
async def test_the_line_of_work_is_found_by_index_however_much_is_kept(
    store: SqliteStore, statement: Any, by: str
) -> None:
    def plan(conn: sa.Connection) -> list[str]:
        text = str(statement.compile(conn.engine, compile_kwargs={"render_postcompile": True}))
        values = {"most": 1, "now": 0, "new_owner": "me", "attempts_1": 1}
        names = {n: values.get(n, "x") for n in statement.compile(conn.engine).params}
        rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", tuple(names.values())).all()
        return [row[3] for row in rows]

    steps = await store.read(plan)
    assert not [s for s in steps if s.startswith("SCAN") and "INDEX" not in s], steps
    assert any(by in s for s in steps), steps


async def test_f24_work_that_was_interrupted_is_given_back(store: SqliteStore) -> None:
    waiting = await ready(store, "a", "A")
    uploading = await ready(store, "b", "B")
    await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    await store.write(lambda tx: inbox.move(tx, uploading, State.READY, State.UPLOADING, at=NOW))
    for message_id in (waiting, uploading):
        await store.write(lambda tx, i=message_id: line.release(tx, i, at=NOW))  # type: ignore[misc]
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    assert [c.id for c in claimed] == [waiting, uploading]


async def test_a_read_sees_one_moment_however_many_statements_it_has(store: SqliteStore) -> None:
    """A page that asks twice of a message must not have its tasks of before and its body of after."""

    def work(conn: sa.Connection) -> tuple[int, int]:
        before = conn.execute(sa.select(sa.func.count()).select_from(mark)).scalar_one()
        store.write_from_thread(lambda tx: tx.conn.execute(mark.insert(), {"name": "meanwhile", "value": ""}))
        return before, conn.execute(sa.select(sa.func.count()).select_from(mark)).scalar_one()

    before, after = await store.read(work)
    assert after == before
    assert await store.read(lambda conn: conn.execute(sa.select(mark.c.name)).scalars().all().count("meanwhile")) == 1
