"""What is SQLite's own: one file, one process, and what stands in front of a file that is not ours."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.errors import StoreRefused
from bridge.store import inbox, listing, migrate, sqlite
from bridge.store.sqlite import SqliteStore, reader_engine, writer_engine
from tests.contract.test_store_contract import arrival


async def test_f40_a_second_service_on_one_store_is_refused(sqlite_store: SqliteStore) -> None:
    with pytest.raises(StoreRefused, match="held by another running bridge"):
        SqliteStore(sqlite_store.path).open(asyncio.get_running_loop())


async def test_root_takes_no_store_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch file that it wrote anew was root's alone, and the service did not start any more."""
    path = tmp_path / "bridge.db"
    first = SqliteStore(path)
    first.open(asyncio.get_running_loop())
    first.close()
    before = {one.name: one.stat().st_mtime_ns for one in os.scandir(tmp_path)}
    if os.geteuid() == 0:
        os.chown(path, 10_001, 10_001)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(StoreRefused, match=r"belongs to .* runuser -u \w+ -- bridge"):
        SqliteStore(path).open(asyncio.get_running_loop())
    assert {one.name: one.stat().st_mtime_ns for one in os.scandir(tmp_path)} == before


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


async def test_the_copy_that_tests_start_from_is_what_the_migrations_make(
    sqlite_store: SqliteStore, migrated: SqliteStore
) -> None:
    def made(conn: sa.Connection) -> list[tuple[str, str, str]]:
        found = conn.exec_driver_sql("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").all()
        settings = [
            conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "page_size", "auto_vacuum", "encoding", "user_version")
        ]
        return [tuple(row) for row in (*found, settings, *conn.exec_driver_sql("SELECT * FROM alembic_version").all())]

    assert await sqlite_store.read(made) == await migrated.read(made)


async def test_a_reader_works_beside_the_service_and_after_it(sqlite_store: SqliteStore) -> None:
    await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("a")))

    def count() -> int:
        engine = reader_engine(sqlite_store.path)
        with engine.connect() as conn:
            rows = listing.rows(conn)
        engine.dispose()
        return len(rows)

    assert await asyncio.to_thread(count) == 1
    sqlite_store.close()
    assert await asyncio.to_thread(count) == 1


async def test_synchronous_is_full_and_the_journal_is_wal(sqlite_store: SqliteStore) -> None:
    def pragmas(tx: Any) -> tuple[Any, Any]:
        conn = tx.conn
        return conn.exec_driver_sql("PRAGMA synchronous").scalar(), conn.exec_driver_sql("PRAGMA journal_mode").scalar()

    assert await sqlite_store.write(pragmas) == (2, "wal")
