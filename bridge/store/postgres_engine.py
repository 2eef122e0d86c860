"""Connections to PostgreSQL: one that writes, and some that read, each with what a commit of ours is to mean."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.types.string import StrDumper

from bridge.errors import SettingsError

SCHEME = "postgresql+psycopg"
_REACH = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "cardio-bridge",
}
"""So that a host that is gone without a word is noticed within half a minute. A commit that waits for its standby is
no silence: the kernel of the other host answers."""
_NO_NUL = "�"
READERS = 4


class _Text(StrDumper):
    """Text as PostgreSQL can keep it: it knows no NUL, and a message may have one anywhere."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", _NO_NUL) if "\0" in obj else obj)


class _Cursor(psycopg.Cursor[Any]):
    """The driver sends many rows through a pipeline, behind which PostgreSQL 15 does not count how long a session is
    idle inside its transaction (measured): a process that is frozen there would keep the lock.
    """

    def executemany(self, query: Any, params_seq: Iterable[Any], *, returning: bool = False) -> None:  # noqa: ARG002
        for values in params_seq:
            self.execute(query, values)


def url(address: str, password_file: Path | None = None) -> sa.URL:
    """The address with its password. Raises SettingsError."""
    try:
        made = sa.make_url(address)
    except (sa.exc.ArgumentError, ValueError) as cause:
        raise SettingsError(f"store.url: not an address such as {SCHEME}://user@host:5432/database") from cause
    if made.drivername != SCHEME or not made.database:
        raise SettingsError(f"store.url: not an address such as {SCHEME}://user@host:5432/database")
    if password_file is None:
        return made
    try:
        word = password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise SettingsError(f"store.password_file: {password_file} cannot be read: {type(cause).__name__}") from cause
    return made.set(password=word)


def _equipped(engine: sa.Engine, *, prepare: bool) -> sa.Engine:
    @sa.event.listens_for(engine, "connect")
    def _connect(raw: psycopg.Connection[Any], _: Any) -> None:
        raw.adapters.register_dumper(str, _Text)
        raw.cursor_factory = _Cursor
        if not prepare:
            raw.prepare_threshold = None

    return engine


def writer_engine(address: sa.URL, *, prepare: bool = True) -> sa.Engine:
    """A connection of whoever changes the schema, or puts a copy back. READ COMMITTED: each statement sees what was
    committed before it.
    """
    return _equipped(
        sa.create_engine(
            address,
            poolclass=sa.pool.NullPool,
            isolation_level="READ COMMITTED",
            connect_args=_REACH,
            use_native_hstore=False,
        ),
        prepare=prepare,
    )


def turns_engine(address: sa.URL, *, prepare: bool = True) -> sa.Engine:
    """The one connection of a service that writes: neither the library nor the driver begins or ends a transaction on
    it, but `postgres_turn`.
    """
    engine = _equipped(
        sa.create_engine(address, poolclass=sa.pool.NullPool, connect_args=_REACH, use_native_hstore=False),
        prepare=prepare,
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(raw: psycopg.Connection[Any], _: Any) -> None:
        raw.autocommit = True

    return engine


def reader_engine(address: sa.URL, *, prepare: bool = True) -> sa.Engine:
    """Connections that can only read. A transaction sees one moment."""
    return _equipped(
        sa.create_engine(
            address,
            pool_size=READERS,
            max_overflow=READERS,
            pool_timeout=30,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
            connect_args=_REACH,
            use_native_hstore=False,
        ),
        prepare=prepare,
    )


def listening(address: sa.URL) -> psycopg.Connection[Any]:
    """A connection of the driver's own, for words of other processes. Raises psycopg.Error.

    It prepares nothing at the server, since a pooler may hand it another one at each statement.
    """
    _, words = address.get_dialect()().create_connect_args(address)
    return psycopg.connect(**{**_REACH, **words}, autocommit=True, prepare_threshold=None)
