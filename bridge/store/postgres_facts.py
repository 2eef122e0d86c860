"""What a PostgreSQL server is, and what is asked of it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import sqlalchemy as sa

from bridge.errors import StoreRefused

OLDEST = 130_000
"""PostgreSQL 13, the oldest that this is made for (tested: 15)."""
_WEAK = frozenset({"off"})
"""`fsync`, `full_page_writes`: a crash may lose or tear what was committed."""

_THERE = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY c.relname LIMIT 1
"""


def require_usable(conn: sa.Connection) -> None:
    """Raises StoreRefused that names what to change."""
    version = int(_shown(conn, "server_version_num"))
    if version < OLDEST:
        raise StoreRefused(f"store.url: PostgreSQL {_shown(conn, 'server_version')} is too old; 13 is the oldest")
    if (found := _shown(conn, "server_encoding")) != "UTF8":
        raise StoreRefused(
            f"store.url: the database is encoded in {found}, and a patient's name needs UTF8; make one as "
            "postgresql/database.sql does, by ENCODING 'UTF8' TEMPLATE template0"
        )
    if _shown(conn, "fsync") in _WEAK or _shown(conn, "full_page_writes") in _WEAK:
        raise StoreRefused("store.url: the server runs with fsync or full_page_writes off, and a power cut loses rows")
    if conn.exec_driver_sql("SELECT pg_is_in_recovery()").scalar():
        raise StoreRefused(
            "store.url: the server is a standby and takes no writes; name the primary, or several hosts with "
            "target_session_attrs=read-write"
        )


def warnings(conn: sa.Connection) -> list[str]:
    """What a site should know of its server, each with the way out; none: as it should be."""
    found = []
    standbys = conn.exec_driver_sql(
        "SELECT count(*) AS there, count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS synchronous, "
        "count(*) FILTER (WHERE state IS NULL) AS unseen FROM pg_stat_replication"
    ).one()
    if standbys.unseen:
        found.append("whether its standby is synchronous cannot be seen: GRANT pg_read_all_stats to the bridge's role")
    elif standbys.there and not standbys.synchronous:
        found.append(
            "its standby is asynchronous: a failover loses what was acknowledged last, and may send a task twice. Set "
            "synchronous_standby_names"
        )
    elif not standbys.there:
        found.append("it has no standby: when its disk is gone, what came in since the last backup is gone")
    if _shown(conn, "data_checksums") == "off":
        found.append("its data has no checksums: a damaged page goes unnoticed (pg_checksums --enable)")
    return found


def home(conn: sa.Connection) -> str:
    """Which database of which cluster this is: a restored copy is another one, a promoted standby the same."""
    return str(
        conn.exec_driver_sql(
            "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid FROM pg_database "
            "WHERE datname = current_database()"
        ).scalar()
    )


def require_empty(raw: psycopg.Connection[Any]) -> None:
    """Raises StoreRefused where anything of anybody's is in the database."""
    there = raw.execute(_THERE).fetchone()
    if there is not None:
        raise StoreRefused(
            f"store.url: the database {raw.info.dbname} is not empty, {there[0]} is in it. Make a new one by "
            "postgresql/database.sql, with the rights that it gives, and name that"
        )


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What the server or the driver says, as a StoreRefused."""
    try:
        yield
    except (sa.exc.DBAPIError, psycopg.Error) as cause:
        what = cause.orig if isinstance(cause, sa.exc.DBAPIError) else cause
        raise StoreRefused(f"store.url: PostgreSQL cannot be used: {said(what)}") from cause


def said(problem: Any) -> str:
    """The server's or the client's own words, on one line. They name hosts and tables, and no patient."""
    return " ".join(str(problem).split())


def _shown(conn: sa.Connection, name: str) -> str:
    return str(conn.exec_driver_sql(f"SHOW {name}").scalar())
