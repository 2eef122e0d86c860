"""A store on SQLite, moved to PostgreSQL: a copy of the one becomes the rows of the other.

Every row goes over as it is, its number too: what was received before is known when it is sent again, an order still
waits for its recording, and the audit trail's chain holds. The processes of the old store do not go along. It is one
transaction with the schema, and its end is the mark of a quarantine, as of any copy: the old store may have gone on.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from bridge.errors import StoreError
from bridge.store import backup, migrate, postgres_facts, sqlite
from bridge.store.durable import make_folder
from bridge.store.postgres_engine import writer_engine
from bridge.store.schema import duty, metadata, worker

_OF_PROCESSES = {worker.name, duty.name}
_AT_ONCE = 50
"""Rows that are read at once."""
_LINE = re.compile(r"COPY \w+, line (\d+)")
_COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN")
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
        with tempfile.TemporaryDirectory(prefix=".from-sqlite-", dir=folder) as place:
            prepared = Path(place) / source.name
            backup.put_back(source, prepared)  # sound, at this schema, and marked
            here, there = sqlite.reader_engine(prepared), writer_engine(address)
            try:
                with postgres_facts.told(), here.connect() as old, there.connect() as new:
                    _fill(old, new)
                    new.commit()
            finally:
                here.dispose()
                there.dispose()
    except OSError as cause:
        raise StoreError(f"store.folder: {folder} cannot be written: {cause.strerror}") from cause
    return migrate.newest()


def _fill(old: sa.Connection, new: sa.Connection) -> None:
    raw: Any = new.connection.driver_connection
    postgres_facts.require_usable(new)
    postgres_facts.require_empty(raw)
    migrate.walk(new)
    given = {str(name): int(number) for name, number in old.exec_driver_sql(_GIVEN)}
    for table in metadata.sorted_tables:
        if table.name in _OF_PROCESSES:
            continue
        _copy(old, raw, table)
        if table.autoincrement_column is not None:
            newest = old.execute(sa.select(sa.func.max(table.autoincrement_column))).scalar() or 0
            if number := max(newest, given.get(table.name, 0)):
                raw.execute(_NUMBERED, (table.name, number))
    raw.execute("ANALYZE")  # else its first queries go through whole tables


def _copy(old: sa.Connection, raw: "psycopg.Connection[Any]", table: sa.Table) -> None:
    command = _COPY.format(
        table=sql.Identifier(table.name), columns=sql.SQL(", ").join(sql.Identifier(c.name) for c in table.columns)
    )
    try:
        with raw.cursor().copy(command) as writing:
            for row in _rows(old, table):
                writing.write_row(row)
    except psycopg.Error as cause:  # its words may repeat the value that they are about
        at = _LINE.match(cause.diag.context or "")
        which = next(_rows(old, table, int(at[1]) - 1))[0] if at else "?"
        raise StoreError(f"row {which} of {table.name} does not fit into PostgreSQL: {type(cause).__name__}") from cause


def _rows(old: sa.Connection, table: sa.Table, behind: int = 0) -> Iterator[Any]:
    """In the order of their keys."""
    query = sa.select(table).order_by(*table.primary_key.columns).offset(behind)
    return iter(old.execute(query, execution_options={"yield_per": _AT_ONCE}))
