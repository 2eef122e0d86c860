"""A look at a database beside a running service, or where none runs: what a start would say of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import sqlalchemy as sa

from bridge.errors import StoreRefused
from bridge.store import engines, marks, migrate, postgres_facts, quarantine, soundness, workers
from bridge.store.sqlite import reader_engine
from bridge.store_settings import StoreSettings


@dataclass(frozen=True, slots=True)
class Inspected:
    """`quarantine` says why it is, or will be, in quarantine; `checked` what was looked at; `warnings` what a site
    should know.
    """

    schema: str
    quarantine: str
    checked: str
    warnings: tuple[str, ...] = ()


def inspect(settings: StoreSettings) -> Inspected:
    """Raises StoreRefused that names the store and the way out, as a start does."""
    if settings.is_sqlite:
        return _file(settings.sqlite_path, settings.epoch_file)
    return _server(settings)


def _server(settings: StoreSettings) -> Inspected:
    outside = marks.EpochFile(settings.epoch_file or settings.beside("bridge.epoch")).read()
    with engines.looking(settings) as conn:
        postgres_facts.require_usable(conn)
        migrate.require_newest(conn)
        why = quarantine.reason(conn) or marks.why_not_shared(conn, outside, postgres_facts.home(conn))
        there = ", ".join(f"{one.name} ({'+'.join(one.roles) or 'a command'})" for one in workers.there(conn))
        return Inspected(migrate.newest(), why, f"at work: {there or 'nobody'}", tuple(postgres_facts.warnings(conn)))


def _file(path: Path, epoch_file: Path | None) -> Inspected:
    outside = marks.EpochFile(epoch_file or path.with_suffix(".epoch")).read()  # first: the database only goes on
    engine = reader_engine(path)
    try:
        with engine.connect() as conn:
            raw = cast("soundness.Raw", conn.connection.driver_connection)
            whole = soundness.require_sound(raw, path, soundness.AFTER_A_BAD_END)
            soundness.require_ours(conn, path)
            found = migrate.current(conn)
            migrate.require_known(found)
            why = ""
            if found == migrate.newest():
                soundness.require_schema(conn, path)
                why = quarantine.reason(conn) or marks.why_not_trusted(conn, outside, marks.this_machine())
        return Inspected(found or "none yet", why, "every page is sound" if whole else "sound as far as it was read")
    except sa.exc.DBAPIError as cause:
        raise StoreRefused(
            f"store.url: {path} cannot be used as a store: {cause.orig}. {soundness.way_out(path)}"
        ) from cause
    finally:
        engine.dispose()
