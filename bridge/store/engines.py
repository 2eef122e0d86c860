"""Which engine the settings name, opened to work on or to look at."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import psycopg
import sqlalchemy as sa

from bridge.clock import Clock
from bridge.errors import StoreRefused
from bridge.store import migrate, postgres_engine, sqlite
from bridge.store.durable import make_folder
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_facts import said
from bridge.store.sqlite import SqliteStore
from bridge.store_settings import StoreSettings

AnyStore = SqliteStore | PostgresStore


def store_for(
    settings: StoreSettings,
    clock: Clock,
    *,
    roles: Collection[str] = (),
    keep_waiting: Collection[str] = (),
    folder: Path | None = None,
) -> AnyStore:
    """The store, not yet open. `folder` in place of the settings' own on PostgreSQL: of a command beside a service.

    `keep_waiting` as for `line.recover`. Raises SettingsError.
    """
    if settings.is_sqlite:
        return SqliteStore(settings.sqlite_path, settings.epoch_file, keep_waiting)
    return PostgresStore(
        postgres_engine.url(settings.url, settings.password_file),
        folder or settings.own_folder,
        clock,
        roles=roles,
        prepare=settings.prepare,
        lease=settings.lease,
        poll=settings.poll,
        epoch_file=None if folder else settings.epoch_file,
        keep_waiting=keep_waiting,
    )


@contextlib.contextmanager
def looking(settings: StoreSettings) -> Iterator[sa.Connection]:
    """A connection that can only read, beside running services. Raises StoreRefused where there is no store."""
    if settings.is_sqlite:
        sqlite.require_there(settings.sqlite_path)
        engine = sqlite.reader_engine(settings.sqlite_path)
    else:
        address = postgres_engine.url(settings.url, settings.password_file)
        engine = postgres_engine.reader_engine(address, prepare=settings.prepare)
    try:
        with _told(), engine.connect() as conn:
            yield conn
    finally:
        engine.dispose()


def upgrade(settings: StoreSettings) -> str:
    """Bring the store to this version's schema, beside running services on PostgreSQL. Returns what was brought there.

    Raises StoreRefused where its schema is not known here.
    """
    if settings.is_sqlite:
        make_folder(settings.sqlite_path.parent)
        engine = sqlite.writer_engine(settings.sqlite_path)
        what = str(settings.sqlite_path)
    else:
        address = postgres_engine.url(settings.url, settings.password_file)
        engine = postgres_engine.writer_engine(address)
        what = address.render_as_string(hide_password=True)
    try:
        with _told():
            migrate.upgrade(engine)
    finally:
        engine.dispose()
    return what


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """A server that cannot be reached, or gives us no rights, in our words."""
    try:
        yield
    except sa.exc.OperationalError as cause:
        raise StoreRefused(f"store.url: the store cannot be used: {said(cause.orig)}") from cause
    except sa.exc.ProgrammingError as cause:
        if not isinstance(cause.orig, psycopg.errors.InsufficientPrivilege):
            raise
        way_out = "its rights are those that postgresql/database.sql gives"
        raise StoreRefused(f"store.url: the store cannot be used: {said(cause.orig)}; {way_out}") from cause
