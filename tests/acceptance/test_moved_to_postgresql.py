"""A store on SQLite becomes one on PostgreSQL: what was known before is known after, and nothing becomes two tasks."""

import secrets
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.domain.states import State
from bridge.errors import StoreError, StoreRefused
from bridge.settings import load
from bridge.store import audit, backup, inbox, marks, quarantine
from bridge.store.engines import looking
from bridge.store.from_sqlite import put_over
from bridge.store.postgres_engine import writer_engine
from bridge.store.schema import metadata
from bridge.store.sqlite import SqliteStore, reader_engine
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f41_restored import api, bridge
from tests.contract.test_store_contract import arrival
from tests.postgres_server import Server

pytestmark = pytest.mark.peer


@pytest.fixture
def empty(postgres: Server) -> Iterator[sa.URL]:
    """A database with nothing in it."""
    url = postgres.database(f"moved_{secrets.token_hex(4)}", "template0")
    yield url
    postgres.drop(str(url.database))


def tables_in(url: sa.URL) -> list[str]:
    engine = writer_engine(url)
    found = sa.inspect(engine).get_table_names()
    engine.dispose()
    return found


def rows_of(conn: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table.name: [tuple(row) for row in conn.execute(sa.select(table).order_by(*table.primary_key.columns))]
        for table in metadata.sorted_tables
    }


MERGE = (
    "MSH|^~\\&|HIS|TEST|||20260301120000||ADT^A40|M1|P|2.3.1\rPID|1||4711^^^TEST^MR||Muster^Max||19700131|M\r"
    "MRG|815^^^TEST^MR\r"
)


@pytest.mark.timeout(240)
async def test_what_came_before_the_move_is_known_after_it(house: OpenHouse, tmp_path: Path, empty: sa.URL) -> None:
    """An order, and its recording on the other side; a merge; a recording that a cart sends again."""
    key = tmp_path / "site.key"
    key.write_text("ab" * 32)
    shared = {"BRIDGE_SITE__KEY_FILE": str(key), "BRIDGE_SITE__ASSIGNING_AUTHORITY": "TEST"}
    there = {
        **shared,
        "BRIDGE_STORE__URL": empty.render_as_string(hide_password=False),
        "BRIDGE_STORE__FOLDER": f"{tmp_path}/host",
    }
    sandbox, own = api(), recording(tmp_path, seed="own", accession="ACCPL-2")
    async with house(sandbox, **shared) as it:
        first = await it.hl7(order("C1", "PL-1", patient="815"))
        await it.hl7(order("C2", "PL-2"))
        assert "MSA|AA|" in await it.hl7(MERGE)
        assert await it.store(own) == 0
        await it.settled(4)
        status, said = await bridge(it, "db", "backup", f"{tmp_path}/copy.db")
        assert (status, "whole" in said) == (0, True), said
    it.environment.update(there)  # a person's words from here on: the old one is stopped
    status, said = await bridge(it, "db", "restore", f"{tmp_path}/copy.db")
    assert (status, "in quarantine" in said) == (0, True), said
    status, said = await bridge(it, "db", "release", "--waiting", "send", "--reason", "moved, the old one is off")
    assert (status, "released; 0 messages" in said) == (0, True), said
    made = len(sandbox.tasks)
    async with house(sandbox, **there) as it:
        assert not it.up.quarantine
        assert await it.hl7(order("C1", "PL-1", patient="815")) == first
        assert await it.store(own) == 0
        assert len(sandbox.tasks) == made
        assert await it.store(recording(tmp_path, seed="other", accession="ACCPL-1")) == 0
        (*_, row) = await it.settled(5)
        assert row.state == State.CREATED
        assert len(sandbox.tasks) == made + 1
        request = sandbox.tasks[int(row.task_ids[0])].request
        assert (request["patient_id"], request["investigation_id"]) == ("4711", "ACCPL-1")
    with looking(load(None, it.environment).store) as conn:
        assert audit.verify(conn) is None


async def test_every_row_goes_over_with_its_number(sqlite_store: SqliteStore, tmp_path: Path, empty: sa.URL) -> None:
    """Also what is no text to PostgreSQL; and the number of a message that was pruned is given to nobody."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for number in range(3):
        one = replace(arrival(f"i{number}", raw=b"\x00\x80\\\n\t"), peer='a\\N\t"')
        await sqlite_store.write(lambda tx, one=one: inbox.keep(tx, one))  # type: ignore[misc]
    await sqlite_store.write(lambda tx: inbox.keep(tx, replace(arrival("nul"), sender="HIS\0|T\\.")))
    await sqlite_store.write(lambda tx: audit.note(tx, at=now, actor="anna", action="release", detail={"a": "ä"}))
    last = await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("last")))
    for table in ("term", "event", "message"):
        column = "id" if table == "message" else "message_id"
        statement = f"DELETE FROM {table} WHERE {column} = {last.id}"
        await sqlite_store.write(lambda tx, s=statement: tx.conn.exec_driver_sql(s) and None)  # type: ignore[misc]
    backup.copy(sqlite_store.path, tmp_path / "copy.db")
    put_over(empty, tmp_path / "copy.db", tmp_path / "host")
    engine, here = writer_engine(empty), reader_engine(sqlite_store.path)
    with engine.connect() as conn, here.connect() as old:
        new, before = rows_of(conn), rows_of(old)
        assert quarantine.reason(conn) == backup.RESTORED
        assert audit.verify(conn) is None
        assert conn.exec_driver_sql("SELECT reltuples FROM pg_class WHERE relname = 'message'").scalar() == 4
        number = conn.exec_driver_sql("SELECT nextval(pg_get_serial_sequence('message', 'id'))").scalar()
    engine.dispose()
    here.dispose()
    assert number == last.id + 1
    assert new.pop("worker") == []
    assert [row for row in new.pop("mark") if row[0] != marks.QUARANTINE] == before.pop("mark")
    before.pop("worker")
    nul = [tuple(v.replace("\0", "�") if isinstance(v, str) else v for v in row) for row in before["message"]]
    assert new == {**before, "message": nul}
    assert len(new["message"]) == 4
    assert list((tmp_path / "host").iterdir()) == []


async def test_a_database_in_which_something_is_is_left_as_it_is(
    sqlite_store: SqliteStore, tmp_path: Path, database: sa.URL
) -> None:
    before = tables_in(database)
    backup.copy(sqlite_store.path, tmp_path / "copy.db")
    with pytest.raises(StoreRefused, match=r"is not empty, .* is in it\. Make a new one by postgresql/database"):
        put_over(database, tmp_path / "copy.db", tmp_path / "host")
    assert tables_in(database) == before


async def test_a_row_that_does_not_fit_is_named_and_nothing_is_there(
    sqlite_store: SqliteStore, tmp_path: Path, empty: sa.URL
) -> None:
    """An entry of an index holds about 2,700 bytes on PostgreSQL, and whatever there is on SQLite."""
    await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("a")))
    long = secrets.token_urlsafe(6000)
    kept = await sqlite_store.write(lambda tx: inbox.keep(tx, replace(arrival("b"), control_id=long)))
    backup.copy(sqlite_store.path, tmp_path / "copy.db")
    with pytest.raises(StoreError) as found:
        put_over(empty, tmp_path / "copy.db", tmp_path / "host")
    assert str(found.value) == f"row {kept.id} of message does not fit into PostgreSQL: ProgramLimitExceeded"
    assert tables_in(empty) == []


async def test_what_cannot_be_read_from_the_copy_is_told_without_it(
    sqlite_store: SqliteStore, tmp_path: Path, empty: sa.URL, postgres: Server
) -> None:
    """Neither SQLite's words nor those that go to the server, and into its log, repeat the value."""
    kept = await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("a")))
    await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("b")))
    statement = f"UPDATE message SET sender = CAST(x'4d75737465726d616e6efffe' AS TEXT) WHERE id = {kept.id + 1}"
    await sqlite_store.write(lambda tx: tx.conn.exec_driver_sql(statement) and None)
    backup.copy(sqlite_store.path, tmp_path / "copy.db")
    with pytest.raises(StoreError) as found:
        put_over(empty, tmp_path / "copy.db", tmp_path / "host")
    told = "".join(traceback.format_exception(found.value))
    assert "of message cannot be read from the copy: OperationalError" in told
    assert "Mustermann" not in told
    assert "Mustermann" not in (postgres.folder / "server.log").read_text()
    assert tables_in(empty) == []


async def test_a_database_as_it_was_in_use_is_no_copy(sqlite_store: SqliteStore, tmp_path: Path, empty: sa.URL) -> None:
    """Its newest rows may be in the log beside it: a move, or a restore, would be without them and not know it."""
    await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("a")))
    for name in ("bridge.db", "bridge.db-wal"):
        shutil.copy(sqlite_store.path.with_name(name), tmp_path / f"taken-{name}")
    elsewhere = tmp_path / "elsewhere" / "bridge.db"
    for take in (
        lambda: put_over(empty, tmp_path / "taken-bridge.db", tmp_path / "host"),
        lambda: backup.put_back(tmp_path / "taken-bridge.db", elsewhere),
    ):
        with pytest.raises(StoreRefused, match=r"as it was in use, .* Make a copy by bridge db backup"):
            take()
    assert tables_in(empty) == []
    assert not elsewhere.exists()


async def test_the_server_at_work_and_a_killed_one_before_do_not_keep_it(
    sqlite_store: SqliteStore, tmp_path: Path, empty: sa.URL
) -> None:
    """A vacuum of its catalog, time-outs of the role, what a killed one left behind, and a file of any name."""
    await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("a")))
    copy = tmp_path / "copy#1%41?.lock"
    backup.copy(sqlite_store.path, copy)
    left = tmp_path / "host" / ".from-sqlite-abc"
    left.mkdir(parents=True)
    (left / "bridge.db").write_bytes(b"patients")
    limited = empty.update_query_dict({"options": "-c idle_in_transaction_session_timeout=1s -c lock_timeout=1s"})
    with writer_engine(empty).connect() as other:
        other.exec_driver_sql("LOCK TABLE pg_class IN SHARE UPDATE EXCLUSIVE MODE")
        put_over(limited, copy, tmp_path / "host")
    assert list((tmp_path / "host").iterdir()) == []
    assert len(tables_in(empty)) > 20


def test_a_file_that_is_no_copy_leaves_the_database_empty(tmp_path: Path, empty: sa.URL) -> None:
    (tmp_path / "copy.db").write_bytes(b"SQLite format 3\0 and no more")
    with pytest.raises(StoreRefused, match="is not whole"):
        put_over(empty, tmp_path / "copy.db", tmp_path / "host")
    assert tables_in(empty) == []
    assert list((tmp_path / "host").iterdir()) == []
