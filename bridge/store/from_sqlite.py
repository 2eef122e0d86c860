"""A store on SQLite, moved to PostgreSQL: a copy of the one becomes the rows of the other.

Every row goes over as it is, its number too: what was received before is known when it is sent again, an order still
waits for its recording, and the audit trail's chain holds. The processes of the old store do not go along. It is one
transaction with the schema, and its end is the mark of a quarantine, as of any copy: the old store may have gone on.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import errors, sql

from bridge.errors import StoreError, StoreFull
from bridge.store import backup, migrate, postgres_facts, sqlite
from bridge.store.durable import make_folder
from bridge.store.postgres_engine import writer_engine
from bridge.store.schema import duty, metadata, worker

_TABLES = [table for table in metadata.sorted_tables if table not in (worker, duty)]
"""The processes of the old store do not go along."""
_AT_ONCE = 50
"""Rows that are read at once."""
_BESIDE = ".from-sqlite-"
_PATIENT = (
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0"
)
"""It is over when it is over: there is nobody else in this database, whatever the server or the role has set."""
_UNFIT = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded)
_COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN")
_ANALYZE = sql.SQL("ANALYZE {table}")
_NUMBERED = "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)"
_GIVEN = "SELECT name, seq FROM sqlite_sequence"
"""The newest numbers of tables that give none twice, also where its row was pruned."""


def put_over(address: sa.URL, source: Path, folder: Path) -> str:
    """A copy by `backup.copy` in an empty database on PostgreSQL, in quarantine. Returns its schema, this version's.

    `folder` has room for the copy once more, while it lasts. Raises StoreRefused where the database is not empty, or
    the copy is damaged or of a newer version, StoreFull and StoreError; then the database is as empty as it was.
    """
    try:
        make_folder(folder)
        for left in folder.glob(f"{_BESIDE}*"):  # by one that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=_BESIDE, dir=folder) as place:
            prepared = Path(place) / "bridge.db"
            backup.put_back(source, prepared)  # sound, at this schema, and marked
            _taken_over(prepared, address)
    except OSError as cause:
        raise StoreError(f"store.folder: {folder} cannot be written: {cause.strerror}") from cause
    return migrate.newest()


def _taken_over(prepared: Path, address: sa.URL) -> None:
    here, there = sqlite.reader_engine(prepared), writer_engine(address)
    try:
        with postgres_facts.told(), there.connect() as new, here.connect() as old:
            _fill(old, new)
            new.commit()
    finally:
        here.dispose()
        there.dispose()


def _fill(old: sa.Connection, new: sa.Connection) -> None:
    raw: Any = new.connection.driver_connection
    postgres_facts.require_usable(new)
    raw.execute(_PATIENT)
    migrate.lock(new)
    postgres_facts.require_empty(raw)
    migrate.walk(new)
    given = {str(name): int(number) for name, number in old.exec_driver_sql(_GIVEN)}
    for table in _TABLES:
        _copy(old, raw, table)
        if table.autoincrement_column is not None:
            newest = old.execute(sa.select(sa.func.max(table.autoincrement_column))).scalar() or 0
            if number := max(newest, given.get(table.name, 0)):
                raw.execute(_NUMBERED, (table.name, number))
    for table in _TABLES:  # else its first queries go through whole tables
        raw.execute(_ANALYZE.format(table=sql.Identifier(table.name)))


def _copy(old: sa.Connection, raw: "psycopg.Connection[Any]", table: sa.Table) -> None:
    """Errors are told without their words and causes: those may repeat the row that they are about."""
    command = _COPY.format(
        table=sql.Identifier(table.name), columns=sql.SQL(", ").join(sql.Identifier(c.name) for c in table.columns)
    )
    problem: StoreError
    try:
        with raw.cursor().copy(command) as writing:
            for row in _rows(old, table):
                writing.write_row(row)
    except _UNFIT as cause:
        problem = StoreError(f"{_which(old, table, cause)} does not fit into PostgreSQL: {type(cause).__name__}")
    except errors.DiskFull:
        problem = StoreFull("store.url: the disk of the server is full")
    except psycopg.Error as cause:
        problem = StoreError(f"store.url: the copy of {table.name} was interrupted: {type(cause).__name__}")
    else:
        return
    raise problem


def _rows(old: sa.Connection, table: sa.Table) -> Iterator[Any]:
    """In the order of their keys."""
    query = sa.select(table).order_by(*table.primary_key.columns)
    found = iter(old.execute(query, execution_options={"yield_per": _AT_ONCE}))
    behind: Any = None
    while True:
        try:
            row = next(found, None)
        except (sa.exc.DBAPIError, UnicodeDecodeError) as cause:
            where = "the first rows" if behind is None else f"a row behind {behind}"
            problem = f"{where} of {table.name} cannot be read from the copy: {type(cause).__name__}"
            raise StoreError(problem) from None
        if row is None:
            return
        yield row
        behind = row[0]


def _which(old: sa.Connection, table: sa.Table, cause: psycopg.Error) -> str:
    """The row that an error is about: PostgreSQL counts them, whatever its language."""
    _, _, behind = (cause.diag.context or "").partition(f"COPY {table.name}, ")
    number = next((int(word.strip(",:")) for word in behind.split() if word.strip(",:").isdigit()), 0)
    key = sa.select(table.primary_key.columns[0]).order_by(*table.primary_key.columns)
    found = old.execute(key.offset(number - 1).limit(1)).scalar() if number else None
    return f"a row of {table.name}" if found is None else f"row {found} of {table.name}"
